"""Regions of a picture to hide: where faces, heads and licence plates are, or have to be.

Models find faces and plates. Of each person the head is hidden, whether or not a face is found,
and of each vehicle without a found plate the zone where its plate is, if it could be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from auto_label.models import Detections
from auto_label.overlap import nms
from auto_label.policies import KINDS, PolicyDetector, PolicySpec
from auto_label.scene import BICYCLES, PERSONS, VEHICLES
from schemas.arrays import BoolArray, FloatArray

VERSION = 1
"""Increases when the same detections give other regions."""

SURE = 0.5
"""Score of a region whose model is as sure as its policy wants."""
_WEAK = 0.5 * SURE

FACES = frozenset({"face"})
PLATES = frozenset({"plate"})
TWO_WHEELERS = BICYCLES | {"motorbike", "motorcycle"}

_HEAD_HEIGHT, _HEAD_WIDTH = 0.25, 0.5
"""A head is the top of a person's box: so much of its height, or of its width if that is more."""
_SITS = 1.5
"""Height over width of a person's box below which it may begin under the head."""
_ABOVE = 0.4
"""Height over a box's width of the region above it where a head may be."""
_RIDER = 0.8
"""Height over a two-wheeler's height of the region above it where a rider's head is."""

_LARGE_PX, _LARGE_DOUBT = 100.0, 1.5
"""Width of a plate from which its model has to be so much surer."""
_LEGIBLE_PX = 72.0
"""Width of the smallest vehicle on which a plate could be read."""
_SIDE = 1.9
"""Width over height of a vehicle from which it is seen from the side."""
_SAME = 0.8
"""Overlap (IoU) from which two regions of a kind are one."""


def find_regions(
    seen: Sequence[tuple[PolicyDetector, Detections]], policy: PolicySpec
) -> Detections:
    """Finds what a policy hides on one picture.

    Args:
        seen: what each of its detectors saw, in pixels of the picture.
        policy: what it hides, and how far regions grow.

    Returns:
        Regions in pixels, whose classes are KINDS. Their scores are SURE and more for what counts
        wherever it is, and less for what counts where such a region is before or after.
    """
    rated = [_rated(detector, found) for detector, found in seen]
    persons, vehicles = _of(rated, PERSONS), _of(rated, VEHICLES)
    wheels, plates = _of(rated, TWO_WHEELERS), _doubted(_of(rated, PLATES))
    found = {
        "face": _of(rated, FACES),
        "head": np.concatenate([_heads(persons), _riders(wheels, _sure(persons))]),
        "plate": np.concatenate([plates, _plate_zones(vehicles, _sure(plates))]),
    }
    boxes = [found[kind] if kind in policy.hide else found[kind][:0] for kind in KINDS]
    rows = np.concatenate(boxes)
    kinds = np.repeat(np.arange(len(KINDS), dtype=np.int64), [len(one) for one in boxes])
    xywh = _grown(rows[:, :4], policy.grow)
    stays = np.sort(nms(xywh, rows[:, 4], kinds, _SAME))
    return Detections(xywh[stays], rows[stays, 4], kinds[stays], KINDS)


def _rated(detector: PolicyDetector, found: Detections) -> Detections:
    """Returns what a detector saw with scores that compare with those of others."""
    score = np.minimum(SURE * found.score / detector.score, 1.0)
    keep = score >= _WEAK
    return Detections(found.xywh[keep], score[keep], found.class_index[keep], found.classes)


def _of(seen: Sequence[Detections], names: frozenset[str]) -> FloatArray:
    """Returns the boxes of some classes, float64[n, 5]: x, y, w, h and score."""
    wanted = [found.of(names) for found in seen]
    rows = [np.column_stack([found.xywh, found.score]) for found in wanted]
    return np.concatenate([np.empty((0, 5)), *rows])


def _doubted(plates: FloatArray) -> FloatArray:
    """Lowers the scores of large plates, which are plain to see if they are there."""
    score = plates[:, 4] / np.where(plates[:, 2] >= _LARGE_PX, _LARGE_DOUBT, 1.0)
    return np.asarray(np.column_stack([plates[:, :4], score])[score >= _WEAK])


def _sure(rows: FloatArray) -> FloatArray:
    return np.asarray(rows[rows[:, 4] >= SURE])


def _part(
    boxes: FloatArray, place: Callable[[FloatArray, FloatArray], tuple[FloatArray, ...]]
) -> FloatArray:
    """Returns a part of each box; `place` gives its left, top, width and height from w and h."""
    x, y, w, h, score = boxes.T
    left, top, wide, high = place(w, h)
    return np.column_stack([x + left, y + top, wide, high, score])


def _heads(persons: FloatArray) -> FloatArray:
    def top(w: FloatArray, h: FloatArray) -> tuple[FloatArray, ...]:
        high = np.minimum(np.maximum(_HEAD_HEIGHT * h, _HEAD_WIDTH * w), h)
        above = np.where(h < _SITS * w, _ABOVE * w, 0.0)
        return np.zeros_like(w), -above, w, high + above

    return _part(persons, top)


def _riders(wheels: FloatArray, persons: FloatArray) -> FloatArray:
    """Returns the regions above two-wheelers on which no person was seen."""

    def above(w: FloatArray, h: FloatArray) -> tuple[FloatArray, ...]:
        high = _RIDER * h
        return np.zeros_like(w), -high, w, high

    regions = _part(wheels, above)
    low, high = regions[:, :2], regions[:, :2] + regions[:, 2:4]
    others_low, others_high = persons[:, :2], persons[:, :2] + persons[:, 2:4]
    meets = (low[:, None] < others_high) & (high[:, None] > others_low)
    return np.asarray(regions[~np.any(np.all(meets, axis=2), axis=1)])


def _plate_zones(vehicles: FloatArray, plates: FloatArray) -> FloatArray:
    """Returns the zones where vehicles have their plates, if none was found on them.

    Seen from the side a plate is too narrow to be read.
    """
    w, h = vehicles[:, 2], vehicles[:, 3]
    shown = (w >= _LEGIBLE_PX) & (w < _SIDE * h) & ~_have(vehicles, plates)

    def low(w: FloatArray, h: FloatArray) -> tuple[FloatArray, ...]:
        return 0.2 * w, 0.45 * h, 0.6 * w, 0.5 * h

    return _part(vehicles[shown], low)


def _have(boxes: FloatArray, points: FloatArray) -> BoolArray:
    """Tells of each box whether it has the centre of another one."""
    centre = points[:, :2] + points[:, 2:4] / 2
    low, high = boxes[:, None, :2], boxes[:, None, :2] + boxes[:, None, 2:4]
    inside = np.all((centre >= low) & (centre <= high), axis=2)
    return np.asarray(np.any(inside, axis=1), dtype=np.bool_)


def _grown(boxes: FloatArray, grow: float) -> FloatArray:
    return np.column_stack([boxes[:, :2] - grow * boxes[:, 2:], (1 + 2 * grow) * boxes[:, 2:]])
