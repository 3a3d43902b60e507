"""Keyframes: what Label Studio draws of them, and what is read of what it answers."""

from __future__ import annotations

import cmath
import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auto_label.review.keyframes import keyframes, own_frames, shown
from schemas.arrays import FloatArray, IntArray
from schemas.errors import CorruptError

SIZE = (1280, 720)
FPS = 12.5
LAST = 60
"""Frames of the video."""

ALL: IntArray = np.arange(1, LAST + 1)

percents = st.floats(-20, 120)
lengths = st.floats(0, 100)
angles = st.sampled_from([0, 30, 90, -90, 179.5, -180, 400]) | st.floats(-360, 360)
placed = st.fixed_dictionaries(
    {"frame": st.integers(-2, 12), "x": percents, "y": percents, "width": lengths},
    optional={"enabled": st.booleans() | st.none(), "rotation": angles | st.none()},
).flatmap(lambda one: lengths.map(lambda height: {**one, "height": height}))
sequences = st.lists(placed, max_size=6)


@st.composite
def tracks(draw: st.DrawFn) -> tuple[IntArray, IntArray, FloatArray]:
    """A grid, the frames of it on which a track has a box, and the boxes."""
    grid = sorted(draw(st.sets(st.integers(1, LAST), min_size=1)))
    # Runs and gaps, of which some are a single frame.
    switches = draw(st.lists(st.integers(1, 6), min_size=1, max_size=20))
    first = draw(st.booleans())
    states = [first ^ bool(k % 2) for k, length in enumerate(switches) for _ in range(length)]
    seen = [frame for frame, on in zip(grid, states, strict=False) if on]
    pixels = st.tuples(*[st.floats(1, 500)] * 4)
    steady = st.tuples(*[st.floats(-4, 4)] * 4)
    if draw(st.booleans()):
        start, step = draw(pixels), draw(steady)
        xywh = [[500 + a + b * frame for a, b in zip(start, step, strict=True)] for frame in seen]
    else:
        xywh = [list(draw(pixels)) for _ in seen]
    return np.array(grid), np.array(seen, np.int64), np.array(xywh, np.float64).reshape(-1, 4)


def drawn(sequence: list[dict[str, Any]], frame: int) -> tuple[float, ...] | None:
    """What the editor draws on a frame, told by its rules one after the other."""
    ordered = sorted(sequence, key=lambda one: int(one["frame"]))
    before = [one for one in ordered if one["frame"] <= frame]
    here = [one for one in ordered if one["frame"] == frame]
    after = [one for one in ordered if one["frame"] > frame]
    if not before or not (here or before[-1].get("enabled")):
        return None
    names = ("x", "y", "width", "height", "rotation")
    box = [(here or before[-1:])[0].get(name) or 0.0 for name in names]
    if not here and after:
        begin, end = before[-1], after[0]
        part = (frame - begin["frame"]) / (end["frame"] - begin["frame"])
        change = [(end.get(name) or 0.0) - (begin.get(name) or 0.0) for name in names]
        while change[4] > 180:
            change[4] -= 360
        while change[4] <= -180:
            change[4] += 360
        box = [start + part * by for start, by in zip(box, change, strict=True)]
    x, y, width, height, rotation = box
    width, height = width * SIZE[0] / 100, height * SIZE[1] / 100
    turn = cmath.rect(1, math.radians(rotation))
    corners = [turn * to for to in (0, width, 1j * height, width + 1j * height)]
    left, top = min(to.real for to in corners), min(to.imag for to in corners)
    right, bottom = max(to.real for to in corners), max(to.imag for to in corners)
    return x * SIZE[0] / 100 + left, y * SIZE[1] / 100 + top, right - left, bottom - top


@given(sequences)
def test_a_sequence_is_read_as_the_editor_draws_it(sequence: list[dict[str, Any]]) -> None:
    """Out of order, with several keyframes of a frame, rotated, with parts missing."""
    wanted = {int(frame): drawn(sequence, int(frame)) for frame in ALL}
    frames, xywh = shown(sequence, ALL, SIZE)
    assert frames.tolist() == [frame for frame, box in wanted.items() if box is not None]
    for frame, box in zip(frames.tolist(), xywh, strict=True):
        assert box == pytest.approx(wanted[frame], abs=1e-6)
    own = own_frames(sequence)
    assert own.tolist() == sorted({one["frame"] for one in sequence if one["frame"] >= 1})
    assert np.isin(own, frames).all()


@given(tracks())
@example((ALL, ALL, np.tile([0.0, 0.0, 9.0, 9.0], (LAST, 1))))
@example((ALL, ALL[:1], np.array([[3.0, 4.0, 9.0, 9.0]])))
@example((ALL, ALL[-1:], np.array([[3.0, 4.0, 9.0, 9.0]])))
@example((ALL, ALL[::2], np.full((LAST // 2, 4), 7.0)))
@example((ALL, ALL[:0], np.empty((0, 4))))
def test_what_is_drawn_is_the_track(track: tuple[IntArray, IntArray, FloatArray]) -> None:
    """On the frames that were looked at; between two of them where both have a box."""
    grid, seen, xywh = track
    sequence = json.loads(json.dumps(keyframes(grid, seen, xywh, SIZE, FPS)))
    frames, boxes = shown(sequence, grid, SIZE)
    assert frames.tolist() == seen.tolist()
    assert np.abs(boxes - xywh).max(initial=0) <= 0.25 + 1e-6
    between = {
        frame
        for a, b in pairwise(grid.tolist())
        if a in seen and b in seen
        for frame in range(a, b + 1)
    }
    everywhere, _ = shown(sequence, ALL, SIZE)
    assert set(everywhere.tolist()) == between | set(seen.tolist())
    assert [int(frame) for frame in ALL if drawn(sequence, int(frame))] == everywhere.tolist()


@given(tracks())
def test_keyframes_are_few_rising_and_on_frames_with_a_box(
    track: tuple[IntArray, IntArray, FloatArray],
) -> None:
    grid, seen, xywh = track
    sequence = keyframes(grid, seen, xywh, SIZE, FPS)
    frames = own_frames(sequence)
    assert frames.tolist() == [one["frame"] for one in sequence]
    assert np.isin(frames, seen).all()
    assert [one["time"] for one in sequence] == [one["frame"] / FPS for one in sequence]
    assert not seen.size or not sequence[-1]["enabled"], "nothing is drawn after the last box"
    coarse = keyframes(grid, seen, xywh, SIZE, FPS, tolerance_px=1e6)
    runs = int((np.diff(np.searchsorted(grid, seen)) > 1).sum()) + 1 if seen.size else 0
    assert runs <= len(coarse) <= min(2 * runs, len(sequence))


def test_a_straight_move_needs_two_keyframes() -> None:
    """With the noise of a detector, below the tolerance, too."""
    grid = np.arange(1, 900, 3)
    xywh = np.array([100.0, 50, 80, 60]) + grid[:, None] * np.array([1.1, 0.3, 0.2, 0.1])
    assert len(keyframes(grid, grid, xywh, SIZE, FPS)) == 2
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, xywh.shape)
    assert len(keyframes(grid, grid, xywh + noise, SIZE, FPS)) == 2


def test_a_turn_needs_a_keyframe_where_it_is() -> None:
    x = np.minimum(ALL, 40) * 5.0
    xywh = np.column_stack([x, x * 0, x * 0 + 40, x * 0 + 30])
    sequence = keyframes(ALL, ALL, xywh, SIZE, FPS, tolerance_px=0.01)
    assert [one["frame"] for one in sequence] == [1, 40, LAST]


@pytest.mark.parametrize(
    ("grid", "seen", "boxes"),
    [([1, 2], [3], 1), ([0, 1], [1], 1), ([2, 1], [1], 1), ([1, 2], [2, 1], 2), ([1, 2], [1], 2)],
)
def test_frames_that_do_not_fit_are_a_mistake(grid: list[int], seen: list[int], boxes: int) -> None:
    with pytest.raises(ValueError, match="boxes need as many rising frames"):
        keyframes(np.array(grid), np.array(seen), np.ones((boxes, 4)), SIZE, FPS)


def test_a_box_is_turned_on_the_screen_about_its_corner() -> None:
    """By a right angle: what was its height is its width, in px and not in percent."""
    box = {"frame": 1, "enabled": True, "x": 50, "y": 50, "width": 10, "height": 20, "rotation": 90}
    _, xywh = shown([box], np.array([1]), (200, 100))
    assert xywh[0] == pytest.approx([80, 50, 20, 20])


def test_before_the_first_keyframe_nothing_is_drawn() -> None:
    box = {"frame": 5, "enabled": True, "x": 1, "y": 2, "width": 10, "height": 20}
    assert shown([box], ALL, SIZE)[0].tolist() == list(range(5, LAST + 1))
    assert shown([], ALL, SIZE)[0].tolist() == own_frames([]).tolist() == []


GOOD = {"frame": 1, "enabled": True, "x": 1, "y": 2.5, "width": 10, "height": 20, "rotation": 0}


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        (None, "sequence is None"),
        ({"frame": 1}, "sequence is"),
        ([GOOD, None], r"sequence\[1\] is None"),
        ([GOOD, [1, 2]], r"sequence\[1\] is"),
        *[([GOOD, {**GOOD, key: "7"}], rf"sequence\[1\]\.{key} is '7'") for key in GOOD],
        *[([{**GOOD, key: math.nan}], rf"sequence\[0\]\.{key} is nan") for key in GOOD],
        *[([{**GOOD, key: -math.inf}], rf"\.{key} is -inf") for key in GOOD],
        *[([{**GOOD, key: 10**400}], rf"\.{key} is 1000") for key in GOOD],
        *[([{**GOOD, key: {}}], rf"\.{key} is {{}}") for key in GOOD],
        *[([{**GOOD, key: True}], rf"\.{key} is True") for key in GOOD if key != "enabled"],
        *[([{**GOOD, key: None}], rf"\.{key} is None") for key in ("frame", "x", "height")],
        ([{"frame": 1, "enabled": False}], r"sequence\[0\]\.x is None"),
        ([{**GOOD, "enabled": 1}], r"\.enabled is 1"),
        ([{**GOOD, "frame": 1.5}], r"\.frame is 1\.5; it must be a whole number"),
        ([{**GOOD, "width": -1}], r"sequence\[0\] has the size \[-1\.0, 20\.0\]"),
        ([{**GOOD, "x": "y" * 9999}], r"\.x is 'yyy.{,90}; it must"),
    ],
)
def test_a_sequence_that_cannot_be_drawn_is_corrupt(bad: object, where: str) -> None:
    with pytest.raises(CorruptError, match=where):
        shown(bad, ALL, SIZE)
    with pytest.raises(CorruptError, match=where):
        own_frames(bad)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner)
)
damaged = st.lists(st.fixed_dictionaries({key: anything | st.just(GOOD[key]) for key in GOOD}))


@given(damaged | anything | st.lists(anything))
def test_whatever_comes_is_drawn_or_corrupt(sequence: object) -> None:
    try:
        frames, xywh = shown(sequence, ALL, SIZE)
    except CorruptError:
        with pytest.raises(CorruptError):
            own_frames(sequence)
    else:
        assert np.isin(frames, ALL).all()
        assert np.isfinite(xywh).all()
        assert (xywh[:, 2:] >= 0).all()
