"""What an MP4 edit list does to the times of a track, as libavformat does it.

The edit list (ISO/IEC 14496-12, 8.6.6) says which part of the media is presented. Samples
that decoding needs but nobody sees stay in the index, hidden, with times before their edit.
The rules for ties, B-frames and offsets are those of libavformat's mov demuxer, so that our
pts address the same pictures there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, IntArray


@dataclass(frozen=True, slots=True)
class Timeline:
    """Samples in decode order: `rows` of the tables, `dts` in ticks, hidden or not."""

    rows: IntArray
    dts: IntArray
    is_hidden: BoolArray


def present(
    edits: Sequence[tuple[int, int]],
    dts: IntArray,
    shift: IntArray,
    is_keyframe: BoolArray,
    lead: int,
    *,
    reordered: bool,
) -> Timeline:
    """Applies an edit list.

    Args:
        edits: (duration, media time) in media ticks; media time -1 is a wait at the start.
        dts: int64[n], decode times before the edits.
        shift: int64[n], pts less dts.
        is_keyframe: bool[n].
        lead: ticks by which `shift` was raised so that no picture precedes its decoding.
        reordered: the track has composition offsets.

    Returns:
        The samples that the edits need, from the keyframe before each edit to the first
        keyframe after it (the second where pictures are reordered).
    """
    wait, found = 0, False
    entry_end = -lead
    first_pts: int | None = None
    pieces: list[tuple[IntArray, IntArray, BoolArray]] = []
    # Edits speak of composition times as the file has them, before the lead was added.
    pts = dts + shift - lead
    for duration, media_time in edits:
        counter = entry_end
        entry_end += duration
        if media_time == -1:
            if not found:
                wait += duration
            continue
        found = True
        before = (dts <= media_time - lead) & (pts <= media_time - lead)
        ending = (pts + np.append(np.diff(dts), duration) >= media_time + duration) & is_keyframe
        rows = _needed(before, ending, is_keyframe, keyframes_after=2 if reordered else 1)
        inside = (pts[rows] >= media_time) & (pts[rows] < media_time + duration)
        times = np.full(len(rows), counter, np.int64)
        if inside.any():
            times = dts[rows] - dts[rows[np.argmax(inside)]] + counter
            start = int((times + shift[rows])[inside].min())
            first_pts = start if first_pts is None else min(first_pts, start)
        pieces.append((rows, times, ~inside))
    if not pieces:
        return Timeline(np.arange(len(dts)), dts, np.zeros(len(dts), np.bool_))
    rows, times, hidden = (np.concatenate(column) for column in zip(*pieces, strict=True))
    late = max(0, (first_pts or 0) - wait)
    return Timeline(rows, times - late, hidden)


def _needed(
    before: BoolArray, ending: BoolArray, is_keyframe: BoolArray, *, keyframes_after: int
) -> IntArray:
    """Rows from the last keyframe before an edit to the keyframe that ends it."""
    starts = np.flatnonzero(before & is_keyframe)
    if not len(starts):
        starts = np.flatnonzero(before)
    start = int(starts[-1]) if len(starts) else 0
    ends = np.flatnonzero(ending[start:]) + start
    enough = len(ends) >= keyframes_after
    return np.arange(start, int(ends[keyframes_after - 1]) + 1 if enough else len(before))
