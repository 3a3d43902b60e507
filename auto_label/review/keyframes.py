"""Converts the boxes of a track to the keyframes of a region in Label Studio, and back.

A region of the type `videorectangle` is a `sequence` of keyframes. What it means is what the editor
draws: read in VideoRegion, VideoRectangleRegion, VideoRegions and Rectangle (web/libs/editor/src)
of Label Studio 1.23.0 and 1.23.2:

- Frame 1 is the first picture of the video. x and width are in percent of the picture's width, y
  and height in percent of its height. `rotation` is in degrees, clockwise on the screen, about the
  top left corner, and turns the box as it is in pixels.
- Before its first keyframe a region is not drawn. On a keyframe it is drawn, whether this is
  enabled or not; from there to the next one only if it is enabled. So a keyframe that is not
  enabled ends a run of frames on its own frame, or is a run of one frame.
- Between two keyframes the four numbers change linearly, and the rotation the shorter way around.
  After the last keyframe its box stays.
- If a frame has several keyframes, the first one's box is drawn on it, and the last one decides
  what follows.
- The `time` of a keyframe is its frame divided by the frame rate. The editor writes it and does
  not read it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.errors import CorruptError

_BOX = ("x", "y", "width", "height")

_DECIMALS = 4
"""Decimals of a percent: less than a hundredth of a pixel, even with 8000 columns."""

_LARGEST = 1e9
"""The largest frame, percent or angle that is read: differences of such numbers are finite."""


def keyframes(
    grid: IntArray,
    seen: IntArray,
    xywh: FloatArray,
    size: tuple[int, int],
    fps: float,
    *,
    tolerance_px: float = 0.25,
) -> list[dict[str, Any]]:
    """Makes the sequence of a region that is drawn where a track has boxes.

    On frames between two neighbours of `grid` that both have a box, the region is drawn too. It is
    not drawn on a frame of `grid` without a box, nor between such a frame and its neighbours.

    Args:
        grid: int64[g], the frames that were looked at, from 1, rising.
        seen: int64[n], those of them on which the track has a box, rising.
        xywh: float64[n, 4], its boxes: top left corner, width and height in px.
        size: width and height of the picture in px.
        fps: frames per s of the video.
        tolerance_px: keyframes are left out that the editor's interpolation replaces with an error
            of at most this in each of the four numbers, so that labellers have few to move.

    Returns:
        The keyframes as the editor writes them, by frame; at most one a frame.

    Raises:
        ValueError: the frames do not rise from 1, `seen` is no part of `grid`, or boxes and frames
            differ in number.

    >>> grid, xywh = np.arange(1, 6), np.array([[20.0 + 2 * k, 50, 40, 30] for k in range(3)])
    >>> for one in keyframes(grid, grid[1:4], xywh, (200, 100), 10.0):
    ...     print(one)  # doctest: +NORMALIZE_WHITESPACE
    {'frame': 2, 'enabled': True, 'rotation': 0,
     'x': 10.0, 'y': 50.0, 'width': 20.0, 'height': 30.0, 'time': 0.2}
    {'frame': 4, 'enabled': False, 'rotation': 0,
     'x': 12.0, 'y': 50.0, 'width': 20.0, 'height': 30.0, 'time': 0.4}
    """
    if not (_rises(grid) and _rises(seen) and np.isin(seen, grid).all() and len(seen) == len(xywh)):
        raise ValueError(f"{len(xywh)} boxes need as many rising frames of {grid}, not {seen}")
    percent_per_px = 100.0 / np.array([*size, *size], dtype=np.float64)
    exact = xywh * percent_per_px
    stored = exact.round(_DECIMALS)
    sequence = []
    ends = np.flatnonzero(np.diff(np.searchsorted(grid, seen)) > 1) + 1
    for run in np.split(np.arange(len(seen)), ends):
        needed = _needed(seen[run], stored[run], exact[run], tolerance_px * percent_per_px)
        for row in run[needed]:
            frame, box = int(seen[row]), zip(_BOX, stored[row].tolist(), strict=True)
            head = {"frame": frame, "enabled": bool(row != run[-1]), "rotation": 0}
            sequence.append({**head, **dict(box), "time": frame / fps})
    return sequence


def _rises(frames: IntArray) -> bool:
    return bool((np.diff(frames, prepend=0) > 0).all())


def _needed(
    frame: IntArray, stored: FloatArray, exact: FloatArray, tolerance: FloatArray
) -> list[int]:
    """Selects the rows of a run that become keyframes: each as far from the one before as can be.

    Args:
        frame: int64[n], rising.
        stored: float64[n, 4], what the keyframes would hold.
        exact: float64[n, 4], what interpolation has to meet.
        tolerance: float64[4], by how much it may miss.

    Returns:
        Rising rows, with the first and the last.
    """
    rows = [0] if len(frame) else []
    while rows and rows[-1] < len(frame) - 1:
        row = rows[-1]
        later, start = slice(row + 1, None), stored[row]
        lapse = (frame[later] - frame[row])[:, None]
        slope = (stored[later] - start) / lapse
        # A line from this row meets all up to another row if its slope is within all their bounds.
        low = np.maximum.accumulate((exact[later] - tolerance - start) / lapse)
        high = np.minimum.accumulate((exact[later] + tolerance - start) / lapse)
        meets = ((slope >= low) & (slope <= high)).all(axis=1)
        meets[0] = True
        rows.append(row + 1 + int(np.flatnonzero(meets)[-1]))
    return rows


def shown(sequence: object, frames: IntArray, size: tuple[int, int]) -> tuple[IntArray, FloatArray]:
    """Tells on which frames a region is drawn, and where.

    A sequence that is out of order is read by frame, the order into which the editor itself brings
    it when a keyframe is added. A keyframe without `enabled` is not enabled, as in the editor; one
    without `rotation` is upright.

    Args:
        sequence: the region's `sequence`, as parsed from JSON.
        frames: int64[f], frames of the video, from 1.
        size: width and height of the picture in px.

    Returns:
        int64[k], those of the frames on which the region is drawn, and float64[k, 4], the upright
        boxes around it: top left corner, width and height in px. They are not cut at the edges of
        the picture.

    Raises:
        CorruptError: the sequence is none that the editor could draw.

    >>> only = {"frame": 3, "enabled": False, "x": 50, "y": 50, "width": 10, "height": 20}
    >>> shown([only], np.arange(1, 6), (200, 100))
    (array([3]), array([[100.,  50.,  20.,  20.]]))
    """
    frame, enabled, boxes = _read(sequence)
    frames = frames[np.searchsorted(frame, frames, side="right") > 0]
    first = np.searchsorted(frame, frames, side="left")
    after = np.searchsorted(frame, frames, side="right")
    placed = first < after
    drawn = placed | enabled[after - 1]
    frames, placed = frames[drawn], placed[drawn]
    start = np.where(placed, first[drawn], after[drawn] - 1)
    end = np.minimum(after[drawn], len(frame) - 1)
    part = (frames - frame[start]) / np.maximum(frame[end] - frame[start], 1)
    change = boxes[end] - boxes[start]
    change[:, 4] = 180.0 - (180.0 - change[:, 4]) % 360.0
    return frames, _upright(boxes[start] + change * part[:, None], size)


def own_frames(sequence: object) -> IntArray:
    """Returns the frames on which a region has a keyframe: where somebody placed it.

    Args:
        sequence: the region's `sequence`, as parsed from JSON.

    Returns:
        int64[k], from 1, rising. The region is drawn on each of them.

    Raises:
        CorruptError: as `shown`.

    >>> own_frames([{"frame": 3, "enabled": True, "x": 50, "y": 50, "width": 10, "height": 20}])
    array([3])
    """
    frame, _, _ = _read(sequence)
    return np.unique(frame[frame >= 1])


def _read(sequence: object) -> tuple[IntArray, BoolArray, FloatArray]:
    """Checks the keyframes of a sequence and orders them by frame; those of a frame as they were.

    Returns:
        frame: int64[m].
        enabled: bool[m].
        boxes: float64[m, 5], x, y, width and height in percent, rotation in degrees.
    """
    if not isinstance(sequence, list):
        raise CorruptError(f"sequence is {sequence!r:.80}; it must be a list of keyframes")
    frame, enabled, boxes = [], [], []
    for index, keyframe in enumerate(sequence):
        place = f"sequence[{index}]"
        if not isinstance(keyframe, dict):
            raise CorruptError(f"{place} is {keyframe!r:.80}; it must be an object")
        switch = keyframe.get("enabled")
        if switch is not None and not isinstance(switch, bool):
            raise CorruptError(f"{place}.enabled is {switch!r:.80}; it must be true or false")
        number = _number(keyframe, "frame", place)
        if not number.is_integer():
            raise CorruptError(f"{place}.frame is {number}; it must be a whole number")
        box = [_number(keyframe, name, place) for name in _BOX]
        if min(box[2:]) < 0:
            raise CorruptError(f"{place} has the size {box[2:]}; it must not be negative")
        turned = keyframe.get("rotation") is not None
        frame.append(int(number))
        enabled.append(switch is True)
        boxes.append([*box, _number(keyframe, "rotation", place) if turned else 0.0])
    order = np.argsort(np.array(frame, dtype=np.int64), kind="stable")
    return (
        np.array(frame, dtype=np.int64)[order],
        np.array(enabled, dtype=np.bool_)[order],
        np.array(boxes, dtype=np.float64).reshape(-1, 5)[order],
    )


def _number(keyframe: dict[str, Any], name: str, place: str) -> float:
    value = keyframe.get(name)
    # NaN is not within bounds either.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        bounds = f"from {-_LARGEST:,.0f} to {_LARGEST:,.0f}"
        raise CorruptError(f"{place}.{name} is {value!r:.80}; it must be a number {bounds}")
    return float(value)


def _upright(boxes: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Returns the upright boxes float64[k, 4] in px around turned ones, float64[k, 5] in percent.

    Turning is done in px: a percent of the width is longer than one of the height.
    """
    px = boxes[:, :4] * np.array([*size, *size], dtype=np.float64) / 100.0
    angle = np.radians(boxes[:, 4])
    cos, sin = np.cos(angle), np.sin(angle)
    # The edges that start at the top left corner: `along` the width, `down` the height.
    along = px[:, 2, None] * np.column_stack([cos, sin])
    down = px[:, 3, None] * np.column_stack([-sin, cos])
    corner = px[:, :2] + np.minimum(along, 0.0) + np.minimum(down, 0.0)
    return np.concatenate([corner, np.abs(along) + np.abs(down)], axis=1)
