"""Ingest: a recording laid out as rows, and tasks that are a pure function of the inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.config import IngestConfig
from pipeline.graph.execute import execute
from pipeline.lake.tables import Lake
from pipeline.stages.ingest import plan_ingest, recording_tables
from schemas.errors import UsageError
from schemas.recording import Annotation, Channel, Joints, Recording, Video
from schemas.records import LogRef, Member
from schemas.tables import TABLES

LOG = LogRef("video", "a", "/a.mp4", (Member("a.mp4", "/a.mp4", 9),), "f")


def recording() -> Recording:
    """A recording with some of everything."""
    times = np.array([0, 20_000_000, 50_000_000], dtype=np.int64)
    video = Video(
        camera="front",
        uri="/a.mp4",
        codec="h264",
        width=64,
        height=48,
        time_base=(1, 10_000),
        t_ns=times,
        pts=np.array([-550, -350, -50], dtype=np.int64),
        is_keyframe=np.array([True, False, False]),
        byte_offset=np.array([40, 90, 95], dtype=np.int64),
        byte_size=np.array([50, 5, 5], dtype=np.int64),
        duration_ns=70_000_000,
        variable_rate=True,
    )
    position = np.arange(6, dtype=np.float32).reshape(3, 2)
    return Recording(
        log=LOG,
        drive_id="d",
        vehicle_id="v",
        platform="vehicle",
        duration_ns=70_000_000,
        clock="none",
        signals=(Channel("speed_mps", times, np.array([0.0, 2.0, 5.0])),),
        native=(Channel("can/1/x", times, np.array([1, 2, 3])),),
        videos=(video,),
        joints=Joints(("a", "b"), times, position, None, position * 2),
        annotations=(Annotation(20_000_000, "honk"),),
    )


def test_a_recording_is_laid_out_row_by_row() -> None:
    """Every table conforms; values are where they belong."""
    tables = recording_tables(recording())
    assert set(tables) == {
        "logs",
        "videos",
        "frames",
        "signals",
        "joints",
        "channels",
        "annotations",
    }
    for name, table in tables.items():
        assert table.schema == TABLES[name].schema
        assert set(table["log_id"].to_pylist()) == {LOG.log_id}
    assert tables["frames"]["pts"].to_pylist() == [-550, -350, -50]
    assert tables["frames"]["frame_index"].to_pylist() == [0, 1, 2]
    assert tables["videos"]["first_pts_ns"].to_pylist() == [-55_000_000]
    assert tables["signals"]["speed_mps"].to_pylist() == pytest.approx([0.0, 2.0, 4.0, 5.0])
    assert tables["joints"]["position"].to_pylist() == [[0, 1], [2, 3], [4, 5]]
    assert tables["joints"]["velocity"].to_pylist() == [None] * 3
    assert tables["joints"]["action"].to_pylist() == [[0, 2], [4, 6], [8, 10]]
    assert tables["channels"]["value"].to_pylist() == [1.0, 2.0, 3.0]
    assert tables["logs"]["joint_names"].to_pylist() == [["a", "b"]]


def test_units_do_not_depend_on_the_order_of_the_inputs(tmp_path: Path) -> None:
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
