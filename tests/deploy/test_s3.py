"""The main job on an S3 server: the bytes of a local lake, whatever happens on the way."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Finished, Fleetmill, Tell
from tests.deploy.s3.store import Store

pytestmark = pytest.mark.s3

CORPUS = ("--corpus", "c", "--topology", "dojo-tray", "--label-fps", 1)
NAMES = "SELECT name FROM logs ORDER BY name"
KINDS = ("GET", "LIST", "HEAD", "PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class Calm:
    """A fleet of three logs on the local disk and on the store, and a local lake of it."""

    fleet: Path
    remote_fleet: str
    lake: Path
    root: str


@pytest.fixture(scope="module")
def calm(store: Store, fleetmill: Fleetmill, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("calm")
    fleet, lake = folder / "fleet", folder / "lake"
    size = ("--size", "64x48", "--cameras", "front", "--minutes", 0.2)
    assert fleetmill("synth", fleet, "--drives", 3, *size).code == 0
    shutil.copytree(fleet, store.folder / "fleet")
    done = fleetmill("run", "--input", fleet, "--lake", lake, *CORPUS, "--json")
    assert done.code == 0, done.err
    return Calm(fleet, store.url("fleet"), lake, done.document["snapshot"]["root"])


@dataclass(frozen=True, slots=True)
class Remote:
    """Runs commands on the store."""

    store: Store
    fleetmill: Fleetmill

    def __call__(self, *arguments: object, **extra: str) -> Finished:
        """Runs a command with the variables of the store."""
        return self.fleetmill(*arguments, **{**self.store.environment, **extra})


@pytest.fixture
def remote(store: Store, fleetmill: Fleetmill) -> Iterator[Remote]:
    yield Remote(store, fleetmill)
    store.proxy.fails = 0.0


def test_every_stage_on_the_store_ends_in_the_bytes_of_the_local_disk(
    calm: Calm, remote: Remote, store: Store, tell: Tell
) -> None:
    """Stage by stage, with the number of requests of each."""
    lake = store.url("stages")
    whole = ("run", "--input", calm.remote_fleet, "--lake", lake, *CORPUS)
    stages: dict[str, tuple[object, ...]] = {
        "ingest": ("ingest", "--input", calm.remote_fleet, "--lake", lake),
        "mine": ("mine", "--lake", lake),
        "label": ("label", "--lake", lake, "--label-fps", 1),
        "corpus": ("corpus", "c", "--lake", lake, "--topology", "dojo-tray"),
        "nothing new": whole,
    }
    counts: dict[str, Counter[str]] = {}
    for stage, arguments in stages.items():
        store.proxy.counts.clear()
        done = remote(*arguments, "--json")
        assert done.code == 0, done.err
        counts[stage] = store.proxy.kinds()
    tell(table(counts))
    assert done.document["snapshot"]["root"] == calm.root
    assert all(job["tasks"] == 0 for job in done.document["jobs"])

    verified = remote("verify", lake)
    assert "all promises hold" in verified.out, verified.out
    asked = remote("query", "--lake", lake, NAMES, "--json")
    assert asked.document == remote("query", "--lake", calm.lake, NAMES, "--json").document
    assert len(asked.document) == 3
    snapshot = remote("query", "--lake", lake, "SELECT count(*) AS n FROM c_samples", "--json")
    assert snapshot.document[0]["n"] > 0, snapshot.err


def table(counts: dict[str, Counter[str]]) -> str:
    """Words the number of requests by stage and kind."""
    lines = [f"{'requests':14}" + "".join(f"{kind:>8}" for kind in (*KINDS, "all"))]
    for stage, kinds in counts.items():
        numbers = [*(kinds[kind] for kind in KINDS), kinds.total()]
        lines.append(f"{stage:14}" + "".join(f"{number:8}" for number in numbers))
    return "\n".join(lines)
