"""Finding runs: each in the one file that may hold it."""

from __future__ import annotations

from pathlib import Path

from pipeline.lake.intents import commit
from pipeline.lake.runs import find_run
from pipeline.lake.tables import Lake
from tests.pipeline.lake.rows import run_row


def test_a_run_is_found_by_its_id(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    assert find_run(lake, "r1") is None
    for run_id in ("r1", "r3"):
        commit(lake, run_row(run_id))
    row = find_run(lake, "r3")
    assert row is not None
    assert (row["run_id"], row["number"], row["counts"][0]["kept"]) == ("r3", 2, 1)
    assert find_run(lake, "r2") is None


def test_no_other_file_is_read(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    for run_id in ("r1", "r2", "r3"):
        commit(lake, run_row(run_id))
    first, _, last = lake.files("runs")
    Path(first).unlink()
    Path(last).unlink()
    row = find_run(lake, "r2")
    assert row is not None
    assert row["number"] == 2


def test_a_run_committed_after_the_lake_was_opened_is_not_there(tmp_path: Path) -> None:
    early = Lake.create(str(tmp_path))
    commit(Lake.open(early.url), run_row("late"))
    assert find_run(early, "late") is None
    assert find_run(Lake.open(early.url), "late") is not None
