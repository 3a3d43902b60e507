"""The border of the readers: which texts and numbers pass."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.stages.recording_rows import log_rows
from schemas.errors import CorruptError
from schemas.recording import Annotation, Channel, Joints, Video
from schemas.records import LogRef, Member
from tests.recording import Recording
from transforms.readers.checks import MAX_TEXT_CHARS, check_header, check_segment

LOG = LogRef("video", "a", "/a.mp4", (Member("a.mp4", "/a.mp4", 9),), "f")
TIMES = np.array([0, 20_000_000], dtype=np.int64)
VIDEO = Video(
    camera="front",
    uri="/a.mp4",
    codec="h264",
    width=64,
    height=48,
    time_base=(1, 10_000),
    t_ns=TIMES,
    pts=np.array([0, 200], dtype=np.int64),
    is_keyframe=np.array([True, False]),
    byte_offset=TIMES,
    byte_size=TIMES,
    duration_ns=40_000_000,
    variable_rate=False,
)
JOINTS = Joints(TIMES, np.zeros((2, 2), np.float32), None, None)
PLAIN = Recording(
    log=LOG,
    drive_id="d",
    vehicle_id="v",
    platform="vehicle",
    duration_ns=40_000_000,
    clock="none",
    start_ns=1_700_000_000_000_000_000,
    start_local="2026-01-05T08:17:24",
    software="1.2",
    signals=(Channel("gear", TIMES, np.array(["D", None], dtype=object)),),
    native=(Channel("can/1/x", TIMES, np.array([1, 2])),),
    videos=(VIDEO,),
    joint_names=("a", "b"),
    joints=JOINTS,
    annotations=(Annotation(0, "honk", "front", 48.1, 11.6),),
)
UNFIT = [
    "a\ud800",
    "\udfff",
    "a\0b",
    "a\nb",
    "a\x1b[31m",
    "\x7f",
    "\x85",
    "x" * (MAX_TEXT_CHARS + 1),
]


def check(made: Recording) -> None:
    check_header(made.opened.header)
    check_segment(made.log.uri, made.opened.segment)


def with_text(field: str, text: str) -> Recording:
    """Puts a text into a field."""
    made: dict[str, Any] = {
        "camera": {"videos": (replace(VIDEO, camera=text),)},
        "codec": {"videos": (replace(VIDEO, codec=text),)},
        "joint": {"joint_names": ("a", text)},
        "reason": {"annotations": (Annotation(0, text),)},
        "marked camera": {"annotations": (Annotation(0, "honk", text),)},
        "channel": {"native": (Channel(text, TIMES, TIMES),)},
        "signal": {"signals": (Channel("gear", TIMES, np.array(["D", text], dtype=object)),)},
    }
    return replace(PLAIN, **made.get(field, {field: text}))


FIELDS = [
    "drive_id", "vehicle_id", "start_local", "software", "clock", "camera", "codec", "joint",
    "reason", "marked camera", "channel", "signal",
]  # fmt: skip


def test_a_plain_recording_passes() -> None:
    check(PLAIN)
    check(replace(PLAIN, software=None, start_ns=None, start_local=None, joints=None))


@pytest.mark.parametrize("text", ["", "é", "道路", "\U0001f697", "a b", "'\"\\%$;--", "x" * 1000])
@pytest.mark.parametrize("field", FIELDS)
def test_any_text_that_tables_take_passes(field: str, text: str) -> None:
    made = with_text(field, text)
    check(made)
    if field != "signal":  # whose values the grid holds
        for table in log_rows(made.opened).tables.values():
            table.validate(full=True)


@pytest.mark.parametrize("text", UNFIT)
@pytest.mark.parametrize("field", FIELDS)
def test_other_texts_are_refused(field: str, text: str) -> None:
    with pytest.raises(CorruptError, match=r"^/a\.mp4: .*; correct the file") as raised:
        check(with_text(field, text))
    pa.array([str(raised.value)])  # the message itself can be stored
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_ns": -1},
        {"duration_ns": 1 << 62},
        {"start_ns": -1},
        {"start_ns": 1 << 63},
        {"annotations": (Annotation(0, "a"),) * 10_001},
        {"annotations": (Annotation(0, "a", None, math.nan, 0.0),)},
        {"annotations": (Annotation(0, "a", None, 90.1, 0.0),)},
        {"annotations": (Annotation(0, "a", None, 0.0, -math.inf),)},
        {"videos": (replace(VIDEO, width=0),)},
        {"videos": (replace(VIDEO, height=1 << 20),)},
        {"videos": (replace(VIDEO, time_base=(1, 0)),)},
        {"videos": (replace(VIDEO, time_base=(-1, 5)),)},
        {"videos": (replace(VIDEO, duration_ns=1 << 62),)},
    ],
)
def test_numbers_that_no_recording_has_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CorruptError, match="correct the file"):
        check(replace(PLAIN, **changes))
