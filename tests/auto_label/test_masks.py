"""Masks: what is covered on and between the frames that were looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from auto_label.masks import Masks, outermost
from auto_label.models import Detections
from auto_label.policies import KINDS
from auto_label.regions import SURE
from schemas.arrays import BoolArray, FloatArray
from schemas.times import NS_PER_S

NONE: FloatArray = np.empty((0, 4))
STEP_NS = NS_PER_S // 5


def masks(*regions: FloatArray) -> Masks:
    """Masks of looks that are a fifth of a second apart."""
    found = [heads(one) for one in regions]
    return Masks(np.arange(len(regions), dtype=np.int64) * STEP_NS, found)


def heads(xywh: FloatArray) -> Detections:
    """Regions of one kind."""
    kinds = np.full(len(xywh), KINDS.index("head"), dtype=np.int64)
    return Detections(xywh, np.full(len(xywh), SURE), kinds, KINDS)


def covered(regions: FloatArray, boxes: FloatArray) -> BoolArray:
    """Tells of each box whether one region covers it whole, up to a pixel."""
    low, high = boxes[:, None, :2] + 1, boxes[:, None, :2] + boxes[:, None, 2:] - 1
    inside = (regions[:, :2] <= low) & (regions[:, :2] + regions[:, 2:] >= high)
    return np.asarray(np.any(np.all(inside, axis=2), axis=1), dtype=np.bool_)


def box(*xywh: float) -> FloatArray:
    return np.array([xywh], dtype=np.float64)


def test_nothing_found_is_nothing_covered() -> None:
    made = masks(NONE, NONE, NONE)
    assert all(len(made.of(t)) == 0 for t in range(0, 3 * STEP_NS, STEP_NS // 4))
    assert len(Masks(np.empty(0, dtype=np.int64), []).of(5)) == 0


def test_on_a_look_what_was_found_and_between_the_way_between() -> None:
    left, right = box(10, 20, 20, 20), box(22, 20, 20, 20)
    made = masks(left, right, NONE)
    assert covered(made.of(0), left).all()
    assert made.of(0)[:, 0].max() < 15
    assert covered(made.of(STEP_NS // 2), box(10, 20, 32, 20)).all()
    assert covered(made.of(STEP_NS + 1), right).all(), "until the next look"
    assert len(made.of(2 * STEP_NS)) == 0


def test_what_appears_is_covered_from_the_look_before() -> None:
    made = masks(NONE, box(100, 40, 30, 30))
    assert covered(made.of(1), box(100, 40, 30, 30)).all()
    assert len(made.of(0)) == 0


def test_frames_before_the_first_and_after_the_last_look_have_theirs() -> None:
    made = masks(box(1, 2, 30, 40), box(5, 2, 30, 40))
    assert covered(made.of(-5), box(1, 2, 30, 40)).all()
    assert covered(made.of(9 * STEP_NS), box(5, 2, 30, 40)).all()


@pytest.mark.parametrize("gap", [1, 2, 3])
def test_a_face_that_is_missed_for_a_moment_is_covered(gap: int) -> None:
    """Less than a second; it moves on meanwhile."""
    way = [box(100 + 6 * k, 50, 40, 50) for k in range(12)]
    found = [NONE if 5 <= k < 5 + gap else one for k, one in enumerate(way)]
    made = masks(*found)
    for k, one in enumerate(way):
        shrunk = one + np.array([[8.0, 8.0, -16.0, -16.0]])
        assert covered(made.of(k * STEP_NS), shrunk).all(), k
        assert covered(made.of(k * STEP_NS + STEP_NS // 2), shrunk).all(), k


def test_a_face_that_is_gone_for_seconds_is_not_covered_meanwhile() -> None:
    face = box(100, 50, 40, 50)
    made = masks(face, face, *[NONE] * 10, face, face)
    assert len(made.of(6 * STEP_NS)) == 0


def test_a_large_region_does_not_join_what_lies_about_it() -> None:
    """A wide false plate, once: one bar over crossing, cyclist and cars was blurred."""
    plate = box(100, 300, 260, 60)
    heads = np.array([[40.0, 100.0, 30.0, 30.0], [400.0, 420.0, 30.0, 30.0]])
    between = masks(plate, heads).of(STEP_NS // 2)
    area = (between[:, 2] * between[:, 3]).sum()
    assert area <= 1.01 * (260 * 60 + 2 * 30 * 30)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_was_found_is_covered_on_both_sides(seed: int) -> None:
    """Of a crowd too, whose regions are few between the looks."""
    dice = np.random.default_rng(seed)
    found = [1.0 + dice.uniform(0, 400, (dice.integers(0, 60), 4)) for _ in range(6)]
    made = masks(*found)
    for k, regions in enumerate(found):
        for t in (k * STEP_NS - 1, k * STEP_NS, k * STEP_NS + 1):
            assert covered(made.of(t), regions).all()
        if k:
            between = made.of(k * STEP_NS - 1)
            assert len(between) <= 3 * (len(found[k - 1]) + len(regions)) + 60


def test_regions_that_are_the_same_at_each_look_stay_as_they_are() -> None:
    still = np.array([[0.0, 0.0, 20.0, 20.0], [65.0, 0.0, 20.0, 20.0], [300.0, 5.0, 9.0, 9.0]])
    made = masks(*[still] * 8)
    for t in range(0, 7 * STEP_NS, STEP_NS // 3):
        regions = made.of(t)
        assert covered(regions, still).all()
        assert (regions[:, 2] * regions[:, 3]).sum() < 1.2 * (still[:, 2] * still[:, 3]).sum()


def test_only_what_lies_in_another_is_dropped() -> None:
    dice = np.random.default_rng(2)
    regions = dice.uniform(0, 50, (80, 4))
    kept = outermost(regions)
    low, high = regions[:, :2], regions[:, :2] + regions[:, 2:]
    for k in range(len(regions)):
        others = np.delete(np.arange(len(regions)), k)
        inside = ((low[others] <= low[k]) & (high[others] >= high[k])).all(axis=1).any()
        assert any(np.array_equal(regions[k], one) for one in kept) != inside


def test_what_is_found_weakly_counts_where_it_was_found_surely_before() -> None:
    """A face that turns away; the same score elsewhere is none."""
    face, far = box(100, 40, 30, 30), box(300, 40, 30, 30)
    weak = np.array([0.3])
    found = [heads(face), *(replace(heads(face), score=weak) for _ in range(3))]
    found += [replace(heads(far), score=weak) for _ in range(3)]
    made = Masks(np.arange(len(found), dtype=np.int64) * STEP_NS, found)
    for k in range(4):
        assert covered(made.of(k * STEP_NS), face).all()
    assert not any(len(made.of(k * STEP_NS)) for k in range(4, 7))
