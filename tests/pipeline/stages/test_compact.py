"""Compaction: fewer and larger files, the same rows, beside whoever reads and writes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.config import CompactConfig, IngestConfig
from pipeline.graph.execute import execute
from pipeline.lake.intents import commit
from pipeline.lake.ledger import Done, ledger_rows
from pipeline.lake.locate import locate, rows_of
from pipeline.lake.runs import find_run
from pipeline.lake.tables import COMPACTED, Lake
from pipeline.lake.vacuum import vacuum
from pipeline.lake.verify import verify
from pipeline.queries.catalog import query
from pipeline.stages import compact
from pipeline.stages.compact import plan_compact
from pipeline.stages.ingest import plan_ingest
from schemas.ids import digest
from schemas.tables import TABLES
from tests.pipeline.lake.rows import annotation_rows, run_row
from tests.pipeline.stages.conftest import Small

KEEP = CompactConfig()


def compacted(url: str) -> list[str]:
    """Compacts a lake; returns the tables of the tasks."""
    lake = Lake.open(url)
    work = plan_compact(lake, KEEP)
    execute(lake, "compact", KEEP.model_dump(mode="json"), work)
    return [task.table for task in work.tasks]  # type: ignore[attr-defined]


def grown(url: str, first: int, runs: int) -> list[str]:
    """Adds a log of three annotations a run; returns the ids of all logs so far."""
    lake = Lake.create(url)
    for number in range(first, first + runs):
        log_id, stem = digest("log", number), digest("task", number)
        ledger = ledger_rows("ingest", f"run{number}", stem, [Done(log_id, "d", "kept")])
        adds = lake.write("annotations", annotation_rows(log_id, 3), stem)
        commit(lake, run_row(f"run{number}"), adds + lake.write("ledger", ledger, stem))
    return [digest("log", number) for number in range(first + runs)]


def rows_but_runs(lake: Lake) -> dict[str, object]:
    """The rows of every table that compaction itself adds no row to."""
    return {table: lake.read(table).to_pylist() for table in TABLES if table != "runs"}


def test_small_files_become_one_and_no_row_changes(labelled: Small) -> None:
    for number in range(3):
        config = IngestConfig(input=(str(labelled.fleet),), channels=bool(number))
        labelled.run(plan_ingest, config)
    grown(labelled.url, 0, 3)
    before, files = rows_but_runs(labelled.lake()), labelled.lake().files("ledger")
    ledger = "SELECT stage, count(*) AS n FROM ledger GROUP BY 1 ORDER BY 1"
    answer = query(labelled.lake(), ledger)
    assert "ledger" in compacted(labelled.url)
    lake = labelled.lake()
    assert rows_but_runs(lake) == before
    assert query(lake, ledger).equals(answer)
    assert len(files) > 3
    assert len(lake.files("ledger")) == 1
    assert compacted(labelled.url) == [], "there is nothing left to merge"
    assert vacuum(lake, hours=0)
    assert rows_but_runs(labelled.lake()) == before


def test_runs_are_merged_and_found(tmp_path: Path) -> None:
    grown(str(tmp_path), 0, 20)
    before = Lake.open(str(tmp_path))
    rows = before.read("runs").to_pylist()
    assert "runs" in compacted(before.url)
    lake = Lake.open(before.url)
    assert len(lake.files("runs")) == 2, "those before, and the compaction's own"
    assert [row for row in lake.read("runs").to_pylist() if row["job"] != "compact"] == rows
    for number in range(20):
        row = find_run(lake, f"run{number}")
        assert row is not None
        assert row["number"] == number + 1
    assert lake.number == 21
    grown(before.url, 20, 1)
    assert Lake.open(before.url).number == 22


def test_large_files_are_split_by_the_digits_of_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files of a few rows for large ones: a log stays in a few files of many."""
    monkeypatch.setattr(compact, "TARGET_BYTES", 2500)
    monkeypatch.setattr(compact, "FANOUT", 4)
    url = str(tmp_path)
    for first in range(0, 160, 16):
        log_ids = grown(url, first, 16)
        before = Lake.open(url).read("annotations")
        compacted(url)
        assert Lake.open(url).read("annotations").equals(before)
    lake = Lake.open(url)
    names = [file.rpartition("/")[2] for file in lake.files("annotations")]
    ranges = {name.split("-")[1] for name in names if name.startswith(COMPACTED)}
    assert any(len(digits) == 1 for digits in ranges), ranges
    places = locate(lake, ["annotations"], log_ids)["annotations"]
    for log_id in random.Random(1).sample(log_ids, 20):  # noqa: S311 - a test's choice
        assert rows_of("annotations", places[log_id], [log_id]).num_rows == 3
    mean = sum(map(len, places.values())) / len(places)
    assert mean < len(names) / 2


def test_a_file_that_another_compaction_took_is_left_to_it(tmp_path: Path) -> None:
    log_ids = grown(str(tmp_path), 0, 3)
    lake = Lake.open(str(tmp_path))
    late = plan_compact(lake, KEEP)
    grown(lake.url, 3, 1)
    before = Lake.open(lake.url).read("annotations")
    compacted(lake.url)
    report = execute(lake, "compact", KEEP.model_dump(mode="json"), late)
    assert report.dropped == len(late.tasks)
    after = Lake.open(lake.url)
    assert after.read("annotations").equals(before)
    assert len(log_ids) + 1 == len(set(before["log_id"].to_pylist()))


def test_what_is_ingested_meanwhile_stays(mined: Small) -> None:
    """Both orders: a job that commits while compaction works, and the other way round."""
    grown(mined.url, 0, 2)
    lake = mined.lake()
    work = plan_compact(lake, KEEP)
    log_ids = grown(mined.url, 2, 1)
    before = rows_but_runs(mined.lake())
    assert execute(lake, "compact", KEEP.model_dump(mode="json"), work).dropped == 0
    assert rows_but_runs(mined.lake()) == before
    late = Lake.open(mined.url)
    grown(mined.url, 3, 1)
    compacted(mined.url)
    commit(late, run_row("late"), late.write("annotations", annotation_rows("late", 1), "late"))
    found = set(mined.lake().read("annotations")["log_id"].to_pylist())
    assert {*log_ids, "late"} <= found


def test_a_reader_that_opened_before_reads_on(tmp_path: Path) -> None:
    grown(str(tmp_path), 0, 3)
    reader = Lake.open(str(tmp_path))
    before = reader.read("annotations")
    compacted(reader.url)
    assert vacuum(Lake.open(reader.url), hours=1) == []
    assert Lake(reader.url, reader.versions).read("annotations").equals(before)
    assert Lake.open(reader.url).read("annotations").equals(before)


def test_an_old_lake_is_compacted(old_lake: str) -> None:
    before = rows_but_runs(Lake.open(old_lake))
    runs = Lake.open(old_lake).read("runs").num_rows
    grown(old_lake, 0, 12)
    compacted(old_lake)
    lake = Lake.open(old_lake)
    after = rows_but_runs(lake)
    assert all(after[table] == before[table] for table in TABLES if table not in _GROWN)
    numbers = [row["number"] for row in lake.read("runs").to_pylist()]
    assert sorted(numbers) == list(range(1, runs + 12 + 2))
    vacuum(lake, hours=0)
    problems = [line for line in verify(old_lake).problems if "not in logs" not in line]
    assert problems == []


_GROWN = {"runs", "annotations", "ledger"}
