"""The main job on an S3 server: the bytes of a local lake, whatever happens on the way."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, Finished, Fleetmill, Tell, environment
from tests.deploy.s3.store import BUCKET, KEY, SECRET, Store
from tests.label_studio import LEGACY_TOKEN, running
from tests.servers import wait_for
from tests.weights import needed

pytestmark = pytest.mark.s3

CORPUS = ("--corpus", "c", "--topology", "dojo-tray", "--label-fps", 1)
NAMES = "SELECT name FROM logs ORDER BY name"
KILLS = int(os.environ.get("FLEETMILL_S3_KILLS", "3"))
REQUESTS_OF_A_RUN = 250
MOST_FOR_NOTHING, MOST_FOR_THREE_LOGS = 60, 300
"""Budgets of requests: `run` with nothing new, and over three logs, takes fewer."""
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

    @contextlib.contextmanager
    def started(self, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
        """Starts a command in a session of its own, and waits for its end."""
        offline = {"FLEETMILL_MODELS": str(needed()), "HTTPS_PROXY": "http://127.0.0.1:9"}
        with subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
            cwd=ROOT,
            env=environment(**{**offline, **self.store.environment}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            yield process


@pytest.fixture
def remote(store: Store, fleetmill: Fleetmill) -> Iterator[Remote]:
    yield Remote(store, fleetmill)
    store.proxy.fails = 0.0


def test_every_stage_on_the_store_ends_in_the_bytes_of_the_local_disk(
    calm: Calm, remote: Remote, store: Store, tell: Tell
) -> None:
    """Stage by stage, with the number of requests of each and of all of them as one command."""
    lake = store.url("stages")
    stages: dict[str, tuple[object, ...]] = {
        "ingest": ("ingest", "--input", calm.remote_fleet, "--lake", lake),
        "mine": ("mine", "--lake", lake),
        "label": ("label", "--lake", lake, "--label-fps", 1),
        "corpus": ("corpus", "c", "--lake", lake, "--topology", "dojo-tray"),
        "run": whole_run(calm, store.url("at-once"))[:-1],
        "nothing new": whole_run(calm, lake)[:-1],
    }
    counts: dict[str, Counter[str]] = {}
    for stage, arguments in stages.items():
        store.proxy.counts.clear()
        done = remote(*arguments, "--json")
        assert done.code == 0, done.err
        counts[stage] = store.proxy.kinds()
    tell(table(counts))
    assert counts["nothing new"].total() < MOST_FOR_NOTHING
    assert counts["run"].total() < MOST_FOR_THREE_LOGS
    assert done.document["snapshot"]["root"] == calm.root
    assert all(job["tasks"] == 0 for job in done.document["jobs"])

    verified = remote("verify", lake)
    assert "all promises hold" in verified.out, verified.out
    asked = remote("query", "--lake", lake, NAMES, "--json")
    assert asked.document == remote("query", "--lake", calm.lake, NAMES, "--json").document
    assert len(asked.document) == 3
    snapshot = remote("query", "--lake", lake, "SELECT count(*) AS n FROM c_samples", "--json")
    assert snapshot.document[0]["n"] > 0, snapshot.err

    compacted = remote("compact", "--lake", lake, "--keep", 0, "--json")
    assert compacted.code == 0, compacted.err
    assert compacted.document["jobs"][0]["tasks"] > 0
    assert compacted.document["deleted"]
    assert "all promises hold" in remote("verify", lake).out
    assert remote("query", "--lake", lake, NAMES, "--json").document == asked.document


def test_killed_by_requests_and_run_again_it_ends_in_the_same_bytes(
    calm: Calm, remote: Remote, store: Store, tell: Tell
) -> None:
    """SIGKILL after numbers of requests that fall into every stage, all on one lake."""
    whole = whole_run(calm, store.url("killed"))
    moments = random.Random(20261125)  # noqa: S311 - when to kill, and the same every time
    numbers = []
    for _ in range(KILLS):
        store.proxy.counts.clear()
        numbers.append(moments.randrange(20, REQUESTS_OF_A_RUN))
        with remote.started(*whole) as process:
            wait_for(
                lambda: process.poll() is not None or store.proxy.kinds().total() >= numbers[-1],
                "the moment to kill",
            )
            with contextlib.suppress(ProcessLookupError):  # it may have ended just before
                os.killpg(process.pid, signal.SIGKILL)
    done = remote(*whole)
    assert done.code == 0, done.err
    assert done.document["snapshot"]["root"] == calm.root
    verified = remote("verify", store.url("killed"))
    assert "all promises hold" in verified.out, verified.out
    tell(f"killed after {numbers} requests")


def test_two_commands_at_once_end_in_the_bytes_of_one(
    calm: Calm, remote: Remote, store: Store
) -> None:
    """The same run twice, and an ingest beside them."""
    lake = store.url("raced")
    ingest = ("ingest", "--input", calm.remote_fleet, "--lake", lake, "--json")
    commands = [whole_run(calm, lake), whole_run(calm, lake), ingest]
    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(lambda command: remote(*command), commands))
    for done in ended:
        assert done.code == 0, done.err
        assert "Traceback" not in done.err
    done = remote(*whole_run(calm, lake))
    assert done.document["snapshot"]["root"] == calm.root
    verified = remote("verify", lake)
    assert "all promises hold" in verified.out, verified.out


def test_one_request_in_twenty_may_fail(
    calm: Calm, remote: Remote, store: Store, tell: Tell
) -> None:
    store.proxy.counts.clear()
    store.proxy.failed.clear()
    store.proxy.fails = 0.05
    lake = store.url("failing")
    done = remote(*whole_run(calm, lake))
    assert done.code == 0, done.err
    assert done.document["snapshot"]["root"] == calm.root
    assert all(job["counts"] for job in done.document["jobs"])
    verified = remote("verify", lake)
    assert "all promises hold" in verified.out, verified.out
    failed = ", ".join(f"{number} {way}" for way, number in sorted(store.proxy.failed.items()))
    tell(f"of {store.proxy.kinds().total()} requests these failed: {failed}")
    assert store.proxy.failed.total() > 10


NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("bucket", "extra", "words"),
    [
        ("fleet", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials"),
        ("fleet", {"AWS_ACCESS_KEY_ID": "someone"}, "check AWS_ACCESS_KEY_ID"),
        ("fleet", {"AWS_SECRET_ACCESS_KEY": "a-wrong-one"}, "check AWS_SECRET_ACCESS_KEY"),
        ("no-such-bucket", {}, "no such bucket"),
        ("fleet", {"AWS_ENDPOINT_URL": NOWHERE}, "check AWS_ENDPOINT_URL"),
        ("fleet", {"AWS_ENDPOINT_URL": "nonsense"}, "check AWS_ENDPOINT_URL"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(
    calm: Calm, remote: Remote, bucket: str, extra: dict[str, str], words: str
) -> None:
    lake = f"s3://{bucket}/refused"
    for command in (
        ("ingest", "--input", calm.fleet, "--lake", lake),
        ("query", "--lake", lake, NAMES),
        ("verify", lake),
    ):
        done = remote(*command, **{"AWS_EC2_METADATA_DISABLED": "true", **extra})
        assert done.code == 1, done.err
        (line,) = done.err.splitlines()
        assert words in line
        assert not any(secret in line for secret in (KEY, SECRET, "someone", "a-wrong-one"))


def whole_run(calm: Calm, lake: str) -> tuple[object, ...]:
    """The arguments of the main job on a lake."""
    return ("run", "--input", calm.remote_fleet, "--lake", lake, *CORPUS, "--json")


def table(counts: dict[str, Counter[str]]) -> str:
    """Words the number of requests by stage and kind."""
    lines = [f"{'requests':14}" + "".join(f"{kind:>8}" for kind in (*KINDS, "all"))]
    for stage, kinds in counts.items():
        numbers = [*(kinds[kind] for kind in KINDS), kinds.total()]
        lines.append(f"{stage:14}" + "".join(f"{number:8}" for number in numbers))
    return "\n".join(lines)


def test_label_studio_shows_proxies_of_the_store(
    calm: Calm, remote: Remote, store: Store, tmp_path: Path
) -> None:
    """With credentials of its own, by an address that needs none; ours never reach it."""
    keys = {name: value for name, value in store.environment.items() if "ENDPOINT" not in name}
    with running(
        tmp_path, None, S3_ENDPOINT=store.endpoint, NO_PROXY="127.0.0.1", **keys
    ) as server:
        to = ("--lake", calm.lake, "--label-studio", server.url, "--project", "of the store")
        push = ("review", "push", "--out", store.url("review"), *to, "--json")
        for added in (True, False):
            done = remote(*push, LABEL_STUDIO_API_KEY=server.token)
            assert done.code == 0, done.err
            assert bool(done.document["added"]) == added
        (project,) = done.document["projects"]
        (storage,) = server.ask("GET", f"/api/storages/s3?project={project}")
        assert (storage["bucket"], storage["prefix"]) == (BUCKET, "review")
        for task in server.ask("GET", f"/api/tasks?project={project}")["tasks"]:
            shown = server.ask("GET", f"/api/tasks/{task['id']}/")["data"]
            headers = {"Authorization": f"Token {LEGACY_TOKEN}"}
            redirect = httpx.get(f"{server.url}{shown['video']}", headers=headers)
            assert redirect.is_redirect
            signed = redirect.headers["Location"]
            assert "X-Amz-Signature" in signed
            video = httpx.get(signed)
            assert (
                video.content
                == (store.folder / "review" / f"{shown['fleetmill']}.mp4").read_bytes()
            )
