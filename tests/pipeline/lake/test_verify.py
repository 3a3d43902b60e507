"""Verifying a lake: an untouched one passes with its corpora, and contradictions are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.lake.intents import commit
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from schemas.errors import LakeError
from schemas.records import Count
from schemas.tables import TABLES
from tests.pipeline.lake.rows import one_row
from tests.pipeline.lake.whole import run


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="neither a snapshot nor a corpus nor a lake"):
        verify(str(tmp_path))


def test_a_lake_is_checked_with_its_packs_and_corpora(whole_once: Lake) -> None:
    report = verify(whole_once.url)
    assert report.problems == ()
    assert report.checked["tables"] == len(TABLES)
    assert report.checked["files"] >= sum(len(whole_once.files(table)) for table in TABLES)
    parts = whole_once.read("parts", ["part"])["part"].to_pylist()
    assert report.checked["parts"] == len(parts)
    # One whole sample, and a corpus of all events but the robot's, which came later.
    assert report.checked["samples"] == 1 + parts.count("labels") - 1
    assert verify(f"{whole_once.url}/corpora/first").ok


def test_a_lake_whose_samples_lost_their_events_is_found(whole: Lake) -> None:
    removes = [("events", uri) for uri in whole.files("events")]
    commit(whole, run("erase", "erase"), [], removes)
    problems = verify(whole.url).problems
    assert any(line.startswith("parts: 4 event_ids are not in events; ") for line in problems)


@pytest.mark.parametrize(
    "table", sorted(TABLES.keys() - {"runs", "channels", "annotations", "rejects"})
)
def test_rows_that_are_there_twice_are_found(whole: Lake, table: str) -> None:
    adds = whole.write(table, whole.read(table), "again")
    commit(whole, run("ingest", "again", Count("notes", "notes", 1)), adds)
    assert [
        p for p in verify(whole.url).problems if p.startswith(f"{table}: ") and "more than" in p
    ]


def test_rows_of_a_log_that_is_not_there_are_found(whole: Lake) -> None:
    adds = whole.write("annotations", one_row("annotations"), "u")
    commit(whole, run("notes", "notes", Count("notes", "notes", 1)), adds)
    (problem,) = verify(whole.url).problems
    assert problem.startswith("annotations: 1 log_ids are not in logs; the first is ")


def test_what_a_killed_writer_left_is_no_fault(whole: Lake) -> None:
    """A temporary file of a shard, and a snapshot whose manifest was never written."""
    corpus = Path(whole.url, "corpora", "first")
    (snapshot,) = (path for path in corpus.iterdir() if path.is_dir())
    next(snapshot.glob("*/*.tar")).with_name(".tmp-0123").write_bytes(b"half a shard")
    unpublished = snapshot.with_name("0123456789abcdef0123")
    (unpublished / "train").mkdir(parents=True)
    (unpublished / "train" / "000000.tar").write_bytes(b"a shard")
    Path(whole.url, "commits", ".tmp-0123").write_bytes(b"half an intent")
    assert verify(whole.url).problems == ()
    assert verify(str(corpus)).problems == ()


def test_a_negative_balance_is_found(whole: Lake) -> None:
    commit(whole, run("mine", "negative", Count("mine", "logs", -1)), [])
    (problem,) = verify(whole.url).problems
    assert "balance of mine is negative" in problem
