"""Evolution: a lake of an older format is brought up to date by the first run that writes to it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.lake.delta_log import FORMAT_KEY
from pipeline.lake.evolution import upgrade
from pipeline.lake.intents import commit
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import query
from schemas.errors import LakeError
from schemas.tables import FORMAT, TABLES
from tests.conftest import ROOT
from tests.pipeline.lake.rows import filled, rejects, run_row

OLD = sorted(TABLES.keys() - {"views", "detections", "privacy", "parts", "verdicts"})
"""The tables of the old lake; those added since are made by the first run that adds to them."""


def columns(lake: Lake, table: str) -> list[str]:
    """The columns of a table's newest version."""
    return [field.name for field in lake.delta(table).schema().fields]


def test_a_new_lake_has_the_newest_format(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    assert lake.format == FORMAT
    assert lake.delta("runs").metadata().configuration[FORMAT_KEY] == str(FORMAT)


def test_a_newer_lake_is_refused(tmp_path: Path) -> None:
    lake = filled(str(tmp_path))
    lake.delta("runs").alter.set_table_properties(
        {FORMAT_KEY: str(FORMAT + 1)}, raise_if_not_exists=False
    )
    with pytest.raises(LakeError, match=rf"has format {FORMAT + 1}.*install a newer one"):
        Lake.open(lake.url)
    with pytest.raises(LakeError, match="newer fleetmill"):
        Lake.create(lake.url)


def test_reading_upgrades_nothing_and_writing_everything(old_lake: str) -> None:
    lake = Lake.open(old_lake)
    assert lake.format == 1
    before = {table: lake.read(table) for table in TABLES}
    assert "task" not in columns(lake, "ledger")
    assert before["ledger"]["task"].null_count == before["ledger"].num_rows > 0
    commit(lake, run_row("new"), lake.write("rejects", rejects("a"), "u"))
    assert lake.format == FORMAT
    for table in OLD:
        assert columns(lake, table) == TABLES[table].schema.names
        rows = lake.read(table)
        if table not in ("rejects", "runs"):
            assert rows.equals(before[table])
    assert lake.read("runs")["number"].drop_null().to_pylist() == [lake.number]


def test_upgrading_twice_changes_nothing(old_lake: str) -> None:
    lake = Lake.open(old_lake)
    upgrade(lake)
    versions = {table: lake.delta(table).version() for table in OLD}
    upgrade(lake)
    assert {table: lake.delta(table).version() for table in OLD} == versions


def test_a_table_added_since_is_empty(old_lake: str) -> None:
    shutil.rmtree(Path(old_lake, "tables", "annotations"))
    lake = Lake.open(old_lake)
    lake.versions.pop("annotations")  # as the last run of a lake without the table has it
    assert lake.read("annotations").num_rows == 0
    assert query(lake, "SELECT count(*) AS n FROM annotations")["n"].to_pylist() == [0]


def test_two_processes_upgrade_at_once(old_lake: str) -> None:
    program = (
        "import sys; from pipeline.lake.tables import Lake; "
        "from pipeline.lake.evolution import upgrade; lake = Lake.open(sys.argv[1]); "
        "sys.stdin.readline(); upgrade(lake)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, old_lake], cwd=ROOT, stdin=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait() for process in processes] == [0, 0]
    lake = Lake.open(old_lake)
    assert lake.format == FORMAT
    assert all(columns(lake, table) == TABLES[table].schema.names for table in OLD)
