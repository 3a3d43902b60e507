"""Masks: what of each frame of a camera is covered, from regions that are found on some of them.

Regions are linked into tracks with what comes before and after: a face that a detector misses for a
moment is covered all the same, and what moves is covered on its way. What is found is covered from
the look before it to the look after it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from auto_label.link import LinkSpec, link
from auto_label.models import Detections
from auto_label.overlap import iou
from auto_label.regions import SURE
from schemas.arrays import FloatArray, IntArray

VERSION = 2
"""Increases when the same regions give other masks."""

_LINK = LinkSpec(
    sure=SURE,
    birth=SURE,
    overlap_sure=0.05,
    overlap_weak=0.05,
    # What is small may move by several times its size from one look to the next.
    margin=2.0,
    same_object=0.95,
    lost_s=1.0,
    bridge_s=1.0,
    min_hits=1,
)
"""Every sure region counts, however short its track; gaps of a second are filled."""

_SAME = 0.3
"""Overlap (IoU) from which a track's box and a region are of the same."""

_NONE: FloatArray = np.empty((0, 4))


class Masks:
    """What is covered of each frame of one camera.

    Args:
        t_ns: int64[n], the times of the frames that were looked at, strictly increasing; the
            first and the last frame of the clip are among them.
        found: the regions that were found on each, in pixels; a track is of one class.

    Attributes:
        held: the number of regions that were not found on the frame, and are covered because
            they were found before and after.
    """

    def __init__(self, t_ns: IntArray, found: Sequence[Detections]) -> None:
        self._t_ns: list[int] = t_ns.tolist()
        tracked, self.held = _tracked(t_ns, found)
        self._at = [
            outermost(np.concatenate([seen.xywh[seen.score >= SURE], *boxes.values()]))
            for seen, boxes in zip(found, tracked, strict=True)
        ]
        self._between = [
            outermost(np.concatenate([self._at[k], self._at[k + 1], *_hulls(*tracked[k : k + 2])]))
            for k in range(len(self._t_ns) - 1)
        ]

    def of(self, t_ns: int) -> FloatArray:
        """Returns the regions to cover of the frame at a time: float64[k, 4] xywh in pixels."""
        if not self._t_ns:
            return _NONE
        k = bisect_right(self._t_ns, t_ns) - 1
        if k < 0:
            return self._at[0]
        if self._t_ns[k] == t_ns or k == len(self._between):
            return self._at[k]
        return self._between[k]


def _tracked(
    t_ns: IntArray, found: Sequence[Detections]
) -> tuple[list[dict[int, FloatArray]], int]:
    """Returns the boxes float64[1, 4] of the tracks on each frame, by track, and how many are held.

    A track is smooth and what is found is not, so a box covers the region that it follows too.
    """
    tracked = link(t_ns, found, _LINK)
    boxes: list[dict[int, FloatArray]] = []
    for at, one in zip(t_ns.tolist(), found, strict=True):
        rows = tracked.t_ns == at
        own = tracked.xywh[rows]
        if len(own) and len(one):
            overlap = iou(own, one.xywh)
            overlap[tracked.class_index[rows][:, None] != one.class_index] = 0.0
            nearest = one.xywh[overlap.argmax(axis=1)]
            follows = overlap.max(axis=1) >= _SAME
            own[follows] = _hull(own[follows], nearest[follows])
        numbers = tracked.track_id[rows].tolist()
        boxes.append({number: one[None] for number, one in zip(numbers, own, strict=True)})
    return boxes, int(np.count_nonzero(~tracked.seen))


def _hull(one: FloatArray, other: FloatArray) -> FloatArray:
    """Returns the hulls of pairs of regions, float64[n, 4] each."""
    low = np.minimum(one[:, :2], other[:, :2])
    high = np.maximum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    return np.concatenate([low, high - low], axis=1)


def _hulls(before: dict[int, FloatArray], after: dict[int, FloatArray]) -> list[FloatArray]:
    """Returns the hulls of the boxes of tracks that are on both of two frames."""
    both = sorted(before.keys() & after.keys())
    return [_hull(before[number], after[number]) for number in both]


def outermost(regions: FloatArray) -> FloatArray:
    """Drops the regions that lie inside another one: their pixels are averaged in that one.

    >>> outermost(np.array([[0.0, 0, 9, 9], [1, 1, 2, 2], [5, 5, 9, 9]]))
    array([[0., 0., 9., 9.],
           [5., 5., 9., 9.]])
    """
    regions = np.unique(regions, axis=0)
    low, high = regions[:, :2], regions[:, :2] + regions[:, 2:]
    inside = np.all((low[:, None] >= low) & (high[:, None] <= high), axis=2)
    # Of those that lie in each other, which are equal up to rounding, the last one stays.
    mutual = inside & inside.T
    inside &= ~(mutual & np.tri(len(regions), dtype=np.bool_))
    return np.asarray(regions[~np.any(inside, axis=1)])
