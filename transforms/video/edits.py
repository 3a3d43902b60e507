"""MP4 edit lists: how they change the timestamps of a track, as in libavformat.

The edit list (ISO/IEC 14496-12, 8.6.6) selects the part of the media that is presented.
Samples that decoding needs but that are not presented stay in the index: they are hidden,
and have times before their edit. Ties, B-frames and composition offsets are treated as in
libavformat's mov demuxer, so that a pts of the index addresses the same picture there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, IntArray


@dataclass(frozen=True, slots=True)
class Timeline:
    """Samples in decode order: `rows` of the sample table, `dts` in ticks, hidden or not."""

    rows: IntArray
    dts: IntArray
    is_hidden: BoolArray


def present(
    edits: Sequence[tuple[int, int]],
    dts: IntArray,
    composition_offset: IntArray,
    is_keyframe: BoolArray,
    dts_shift: int,
    *,
    reordered: bool,
) -> Timeline:
    """Applies an edit list.

    Args:
        edits: (duration, media time) in media ticks; media time -1 is an empty edit, a
            delay at the start.
        dts: int64[n], decode times before the edits.
        composition_offset: int64[n], pts less dts.
        is_keyframe: bool[n].
        dts_shift: ticks that were added to `composition_offset` to make it non-negative.
        reordered: the track has composition offsets (B-frames).

    Returns:
        The samples that the edits need: from the keyframe before each edit to the first
        keyframe after it (the second if pictures are reordered).
    """
    delay = 0
    end = -dts_shift
    first_pts: list[int] = []
    pieces: list[tuple[IntArray, IntArray, BoolArray]] = []
    # Edits refer to the composition times in the file, without the shift.
    pts = dts + composition_offset - dts_shift
    for duration, media_time in edits:
        start = end
        end += duration
        if media_time == -1:
            # Empty edits count only before the first other one.
            delay += 0 if pieces else duration
            continue
        before = (dts <= media_time - dts_shift) & (pts <= media_time - dts_shift)
        ending = (pts + np.append(np.diff(dts), duration) >= media_time + duration) & is_keyframe
        rows = _needed(before, ending, is_keyframe, keyframes_after=2 if reordered else 1)
        inside = (pts[rows] >= media_time) & (pts[rows] < media_time + duration)
        times = _shifted(dts[rows], inside, start)
        if inside.any():
            first_pts.append(int((times + composition_offset[rows])[inside].min()))
        pieces.append((rows, times, ~inside))
    if not pieces:
        return Timeline(np.arange(len(dts)), dts, np.zeros(len(dts), np.bool_))
    rows, times, hidden = (np.concatenate(column) for column in zip(*pieces, strict=True))
    late = max(0, min(first_pts, default=0) - delay)
    return Timeline(rows, times - late, hidden)


def _shifted(dts: IntArray, inside: BoolArray, start: int) -> IntArray:
    """Moves decode times so that the first presented sample is decoded at `start`."""
    if not inside.any():
        return np.full(len(dts), start, np.int64)
    return np.asarray(dts - dts[np.argmax(inside)] + start, np.int64)


def _needed(
    before: BoolArray, ending: BoolArray, is_keyframe: BoolArray, *, keyframes_after: int
) -> IntArray:
    """Returns the rows from the last keyframe before an edit to the keyframe that ends it."""
    starts = np.flatnonzero(before & is_keyframe)
    if not len(starts):
        starts = np.flatnonzero(before)
    start = int(starts[-1]) if len(starts) else 0
    ends = np.flatnonzero(ending[start:]) + start
    enough = len(ends) >= keyframes_after
    return np.arange(start, int(ends[keyframes_after - 1]) + 1 if enough else len(before))
