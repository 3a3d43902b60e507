"""The rows of a recording: every table conforms, with the right values."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.stages.recording_rows import log_rows
from schemas.recording import Annotation, Channel, Joints, Video
from schemas.records import LogRef, Member
from schemas.tables import TABLES
from tests.recording import Recording

LOG = LogRef("video", "a", "/a.mp4", (Member("a.mp4", "/a.mp4", 9),), "f")


def recording() -> Recording:
    """Builds a recording with every kind of content."""
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
        joint_names=("a", "b"),
        joints=Joints(times, position, None, position * 2),
        annotations=(Annotation(20_000_000, "honk"),),
    )


def test_rows_of_every_table() -> None:
    tables = log_rows(recording().opened).tables
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
