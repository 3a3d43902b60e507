"""Links that leave an input or a lake: not followed, counted and said, by every command."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.lake.tables import Lake
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


@pytest.fixture
def linked(chain: Chain, tmp_path: Path) -> Path:
    """A folder with a link to one of two drives, and a file of notes."""
    root = tmp_path / "input"
    root.mkdir()
    (root / "drive").symlink_to(chain.fleet / "vehicle-0000")
    (root / "notes.txt").write_text("notes")
    return root


def test_a_linked_drive_is_read_with_the_flag_alone(linked: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    words = ("ingest", "--input", linked, "--lake", lake)
    done = call(*words)
    assert done.code == 3, "half of the files were rejected"
    assert "1 links lead out of the inputs and were not followed" in done.err
    assert "--follow-links" in done.err
    opened = Lake.open(str(lake))
    assert opened.read("logs").num_rows == 0
    (reject,) = opened.read("rejects").to_pylist()
    assert (reject["reason"], reject["uri"]) == ("outside", str(linked / "drive"))
    done = call(*words, "--follow-links")
    assert done.code == 0, done.err
    assert Lake.open(str(lake)).read("logs").num_rows > 0


def test_the_key_of_a_file_and_of_a_run_follow_links_too(linked: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[ingest]\nfollow_links = true\n")
    for name, extra in (("a", ("--config", tmp_path / "c.toml")), ("b", ("--follow-links",))):
        lake = tmp_path / name
        done = call("run", "--input", linked, "--lake", lake, "--label-fps", 1, *extra)
        assert done.code == 0, done.err
        assert Lake.open(str(lake)).read("logs").num_rows > 0


def _link(path: Path, target: Path) -> None:
    """Moves a file or folder elsewhere, and leaves a link to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
    path.symlink_to(target)


PLACES: dict[str, Callable[[Path], Path]] = {
    "the tables": lambda lake: lake / "tables",
    "a table": lambda lake: lake / "tables" / "events",
    "a Delta log": lambda lake: lake / "tables" / "logs" / "_delta_log",
    "a commit of Delta": lambda lake: sorted((lake / "tables/runs/_delta_log").glob("0*.json"))[-1],
    "a file of rows": lambda lake: sorted((lake / "tables/events").glob("*.parquet"))[0],
    "the row of the last run": lambda lake: sorted((lake / "tables/runs").glob("*.parquet"))[-1],
    "an intent": lambda lake: sorted((lake / "commits").glob("*.json"))[-1],
    "the intents": lambda lake: lake / "commits",
    "the packs": lambda lake: lake / "packs",
    "a pack": lambda lake: sorted((lake / "packs").glob("*.tar"))[0],
    "the corpora": lambda lake: lake / "corpora",
    "a corpus": lambda lake: lake / "corpora" / "first",
    "the latest": lambda lake: lake / "corpora" / "first" / "latest.json",
    "a snapshot": lambda lake: next(p for p in (lake / "corpora/first").iterdir() if p.is_dir()),
    "a manifest": lambda lake: next((lake / "corpora/first").glob("*/manifest.json")),
    "the samples": lambda lake: next((lake / "corpora/first").glob("*/samples.parquet")),
    "the shards": lambda lake: next((lake / "corpora/first").glob("*/train")),
    "a shard": lambda lake: next((lake / "corpora/first").glob("*/*/*.tar")),
}


@pytest.mark.parametrize("place", PLACES)
def test_verify_names_a_link_that_leaves_the_lake(chain: Chain, tmp_path: Path, place: str) -> None:
    """What it leads to is the very file, so nothing but the link tells."""
    lake = tmp_path / "lake"
    shutil.copytree(chain.lake, lake)
    path = PLACES[place](lake)
    _link(path, tmp_path / "elsewhere" / path.name)
    done = call("verify", lake)
    assert done.code == 1
    assert "link" in done.out + done.err
    assert path.name in done.out + done.err


SQL = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM first_samples)"
UNSEEN = {"an intent", "the packs", "a pack", "the shards", "a shard", "a manifest"}
"""What a query does not read."""

READS: dict[str, Sequence[str]] = {
    "query": [name for name in PLACES if name not in UNSEEN],
    "plan": ("the latest", "a snapshot", "the samples"),
    "corpus": ("a table", "a file of rows", "the row of the last run", "a pack", "the packs"),
}


@pytest.mark.parametrize(
    ("command", "place"), [(name, place) for name, places in READS.items() for place in places]
)
def test_a_reader_does_not_follow_it(
    chain: Chain, tmp_path: Path, command: str, place: str
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(chain.lake, lake)
    path = PLACES[place](lake)
    _link(path, tmp_path / "elsewhere" / path.name)
    words: dict[str, tuple[object, ...]] = {
        "query": ("query", "--lake", lake, SQL),
        "plan": ("plan", lake / "corpora/first", "--topology", "gpu-8", "--out", tmp_path / "p"),
        "corpus": ("corpus", "second", "--lake", lake, "--topology", "dojo-tray"),
    }
    done = call(*words[command])
    assert done.code == 1, done.out
    (line,) = [line for line in done.err.splitlines() if line.startswith("fleetmill: ")]
    assert "link" in line


def test_a_corpus_cannot_point_out_of_itself(chain: Chain, tmp_path: Path) -> None:
    corpus = tmp_path / "first"
    shutil.copytree(chain.lake / "corpora" / "first", corpus)
    (corpus / "latest.json").write_text('{"snapshot": "../../etc"}')
    done = call("plan", corpus, "--topology", "gpu-8", "--out", tmp_path / "p.json")
    assert done.code == 1
    assert "names no snapshot" in done.err


def test_a_link_inside_the_lake_is_no_fault_of_a_folder(chain: Chain, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(chain.lake, lake)
    named = tmp_path / "named"
    named.symlink_to(lake)
    assert call("verify", named).code == 0, "the lake itself may be reached by a link"
