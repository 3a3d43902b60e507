"""Ingest: tasks are a pure function of the inputs, and what a log that was read keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import IngestConfig
from pipeline.graph.execute import execute
from pipeline.lake.tables import Lake
from pipeline.stages.ingest import plan_ingest
from schemas.errors import UsageError


def test_tasks_do_not_depend_on_the_order_of_the_inputs(tmp_path: Path) -> None:
    """A rerun with the flags in another order is the same run."""
    lake = Lake.create(str(tmp_path / "lake"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.mp4").write_bytes(name.encode() * 100)
    folders = (str(tmp_path / "one"), str(tmp_path / "two"))
    first, second = (
        [task.key for task in plan_ingest(lake, IngestConfig(input=given)).tasks]
        for given in (folders, folders[::-1])
    )
    assert first == second


def test_a_log_that_was_read_with_other_options_stays_and_is_told(tmp_path: Path) -> None:
    """Rows of one log never stand in a table twice."""
    lake = Lake.create(str(tmp_path / "lake"))
    (tmp_path / "bad.mp4").write_bytes(b"nothing that plays")
    config = IngestConfig(input=(str(tmp_path / "bad.mp4"),))
    report = execute(lake, "ingest", {}, plan_ingest(lake, config))
    assert [c.rejected for c in report.counts if c.of == "logs"] == [1]
    other = IngestConfig(input=config.input, channels=True)
    again = plan_ingest(Lake.open(lake.url), other)
    assert not again.tasks
    assert "1 logs are in the lake" in again.notes[0]
    assert [count.rejected for count in again.known if count.of == "logs"] == [1]


def test_a_dbc_that_is_not_there_is_bad_usage(tmp_path: Path) -> None:
    """Before any work starts."""
    lake = Lake.create(str(tmp_path / "lake"))
    config = IngestConfig(input=(str(tmp_path),), dbc=(str(tmp_path / "none.dbc"),))
    with pytest.raises(UsageError, match=r"--dbc .*none\.dbc"):
        plan_ingest(lake, config)
