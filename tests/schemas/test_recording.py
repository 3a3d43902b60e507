"""Recordings: columns of one length, and immutable."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

from schemas.recording import Annotation, Channel, Joints, LogHeader, Segment, Video
from schemas.records import LogRef, Member
from schemas.times import Span

LOG = LogRef("video", "a.mp4", "/in/a.mp4", (Member("a.mp4", "/in/a.mp4", 9),), "0" * 20)


def _video(**columns: Any) -> Video:
    n = 3
    arrays: dict[str, Any] = {
        "t_ns": np.arange(n),
        "pts": np.arange(n),
        "is_keyframe": np.ones(n, np.bool_),
        "byte_offset": np.arange(n),
        "byte_size": np.arange(n),
    }
    return Video(
        camera="front",
        uri="/in/a.mp4",
        codec="h264",
        width=64,
        height=48,
        time_base=(1, 90_000),
        duration_ns=5,
        variable_rate=False,
        **{**arrays, **columns},
    )


def test_a_channel_has_one_value_for_each_time() -> None:
    assert len(Channel("speed_mps", np.arange(3), np.ones(3)).values) == 3
    assert len(Channel("speed_mps", np.arange(0), np.ones(0)).values) == 0
    with pytest.raises(ValueError, match=r"'speed_mps'.*'t_ns': 3, 'values': 2"):
        Channel("speed_mps", np.arange(3), np.ones(2))


@pytest.mark.parametrize("column", ["t_ns", "pts", "is_keyframe", "byte_offset", "byte_size"])
def test_a_video_has_one_row_for_each_frame(column: str) -> None:
    assert len(_video().pts) == 3
    with pytest.raises(ValueError, match=rf"'/in/a\.mp4'.*'{column}': 2"):
        _video(**{column: np.arange(2)})


def test_headers_and_segments_are_immutable_and_survive_pickling() -> None:
    header = LogHeader(LOG, "d", "v", "robot", 5, "none", joint_names=("hip",))
    joints = Joints(np.arange(3), np.zeros((3, 1), np.float32), None, None)
    marks = (Annotation(1, "honk"),)
    segment = Segment(Span(0, 5), videos=(_video(),), joints=joints, annotations=marks)
    with pytest.raises(dataclasses.FrozenInstanceError):
        header.duration_ns = 6  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(header)) == header  # noqa: S301 - our own bytes
    copy = pickle.loads(pickle.dumps(segment))  # noqa: S301
    assert (copy.span, copy.annotations, copy.signals) == (Span(0, 5), marks, ())
    np.testing.assert_array_equal(copy.videos[0].t_ns, segment.videos[0].t_ns)
    np.testing.assert_array_equal(copy.joints.position, joints.position)
