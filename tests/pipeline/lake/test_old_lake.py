"""A lake of an older version opens, answers, grows and verifies."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import MineConfig
from pipeline.lake.locate import rows_of
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from pipeline.queries.catalog import query
from pipeline.stages.mine import MineTask, plan_mine
from schemas.tables import TABLES
from tests.conftest import Fleetmill

ROWS = {"logs": 2, "videos": 2, "frames": 432, "scene": 6, "samples": 1, "runs": 6}
"""What the old version wrote: some tables by their number of rows."""


def test_it_opens_and_answers(old_lake: str) -> None:
    lake = Lake.open(old_lake)
    assert {table: lake.read(table).num_rows for table in ROWS} == ROWS
    for table in TABLES:
        count = query(lake, f"SELECT count(*) AS n FROM {table}")["n"].to_pylist()  # noqa: S608
        assert count == [lake.read(table).num_rows]


def test_a_new_column_is_null(old_lake: str) -> None:
    lake = Lake.open(old_lake)
    for table, column in (("ledger", "task"), ("runs", "number")):
        sql = f"SELECT count(*) AS rows, count({column}) AS known FROM {table}"  # noqa: S608
        (row,) = query(lake, sql).to_pylist()
        assert (row["rows"] > 0, row["known"]) == (True, 0)


def test_what_it_has_done_is_not_done_again(old_lake: str) -> None:
    """Its ledger has a row for each trigger, and does not know the task of a log."""
    lake = Lake.open(old_lake)
    work = plan_mine(lake, MineConfig())
    done = {row["subject"] for row in lake.read("ledger").to_pylist() if row["stage"] == "mine"}
    assert len(done) == 1
    assert [len(task.log_ids) for task in work.tasks if isinstance(task, MineTask)] == [1]
    (task,) = work.tasks
    assert isinstance(task, MineTask)
    rows = rows_of("logs", dict(task.files)["logs"], task.log_ids)
    assert rows["log_id"].to_pylist() == list(task.log_ids)
    assert done.isdisjoint(task.log_ids)


def test_it_verifies(old_lake: str) -> None:
    assert verify(old_lake).problems == ()


def test_it_grows(old_lake: str, fleetmill: Fleetmill, tmp_path: Path) -> None:
    drives = ("--drives", "1", "--minutes", "0.1", "--no-video", "--seed", "9")
    assert fleetmill("synth", tmp_path / "new", *drives).code == 0
    done = fleetmill("ingest", "--input", tmp_path / "new", "--lake", old_lake)
    assert done.code == 0, done.err
    assert Lake.open(old_lake).read("logs").num_rows == ROWS["logs"] + 1
    assert verify(old_lake).problems == ()
