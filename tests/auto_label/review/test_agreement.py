"""Agreement of reviewers who err at known rates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from auto_label.review.agreement import TRUTH, Agreement, agreement, kappa
from auto_label.review.config import VERDICTS
from schemas.arrays import AnyArray, IntArray
from tests.auto_label.review.simulated import Scenes, answer, answers, box, draw, verdicts

NOTHING_KNOWN = TRUTH.empty_table()


def agree(*rows: dict[str, Any], truth: pa.Table = NOTHING_KNOWN) -> Agreement:
    return agreement(verdicts(*rows), truth)


def flipped(dice: np.random.Generator, truth: AnyArray, rate: float) -> AnyArray:
    """Verdicts of a reviewer who errs at a rate: 0 is right and 1 wrong."""
    return np.where(dice.uniform(size=len(truth)) < rate, 1 - truth, truth)


def expected_kappa(right: float, first: float, second: float) -> float:
    """Kappa of two who flip a verdict at independent rates, of which a share is right."""
    says = [right * (1 - rate) + (1 - right) * rate for rate in (first, second)]
    observed = (1 - first) * (1 - second) + first * second
    chance = says[0] * says[1] + (1 - says[0]) * (1 - says[1])
    return (observed - chance) / (1 - chance)


def test_kappa_is_that_of_reviewers_who_err_independently() -> None:
    """From verdicts to the report, against the confusion matrix of the simulation."""
    dice = np.random.default_rng(6)
    truth = (dice.uniform(size=1500) < 0.3).astype(np.int64)
    said = {"ada": flipped(dice, truth, 0.05), "bo": flipped(dice, truth, 0.15)}
    rows = [
        answer(f"{k}", name, verdict=VERDICTS[verdict])
        for name, given in said.items()
        for k, verdict in enumerate(given.tolist())
    ]
    (pair,) = agree(*rows).pairs
    both = said["ada"] == said["bo"]
    observed = both.mean()
    chance = sum((said["ada"] == k).mean() * (said["bo"] == k).mean() for k in (0, 1))
    assert (pair.first, pair.second, pair.shared, pair.agreed) == ("ada", "bo", 1500, both.sum())
    assert pair.kappa == pytest.approx((observed - chance) / (1 - chance))
    assert pair.kappa == pytest.approx(expected_kappa(0.7, 0.05, 0.15), abs=0.08)


def test_kappa_is_its_expectation_within_its_standard_error() -> None:
    dice = np.random.default_rng(7)
    expected = expected_kappa(0.7, 0.1, 0.2)
    found, covered = [], 0
    for _ in range(200):
        truth = (dice.uniform(size=300) < 0.3).astype(np.int64)
        confusion: IntArray = np.zeros((2, 2), dtype=np.int64)
        np.add.at(confusion, (flipped(dice, truth, 0.1), flipped(dice, truth, 0.2)), 1)
        value = kappa(confusion)
        assert value is not None
        # The standard error of Cohen, 1960.
        share = confusion / 300
        chance = share.sum(axis=0) @ share.sum(axis=1)
        error = math.sqrt(np.trace(share) * (1 - np.trace(share)) / 300) / (1 - chance)
        covered += abs(value - expected) <= 1.96 * error
        found.append(value)
    assert covered >= 180
    assert np.mean(found) == pytest.approx(expected, abs=0.015)


def test_kappa_of_one_answer_alone_is_undefined() -> None:
    only = np.diag([0, 9, 0])
    assert kappa(only) is None
    assert kappa() is None
    assert kappa(np.zeros((3, 3), dtype=np.int64)) is None
    assert kappa(np.diag([4, 4, 1])) == 1.0


def test_pooled_kappa_does_not_depend_on_who_comes_first() -> None:
    one, two = np.array([[20, 5], [10, 15]]), np.array([[9, 0], [8, 3]])
    pooled = kappa(one, two)
    assert pooled == pytest.approx(kappa(one, two.T))
    assert pooled == pytest.approx(kappa(two, one))
    values = [kappa(one), kappa(two)]
    assert min(v for v in values if v) < (pooled or 0) < max(v for v in values if v)
    assert kappa(one, np.zeros((2, 2), dtype=np.int64)) == kappa(one)


def test_three_reviewers_make_three_pairs_over_what_they_share() -> None:
    rows = [answer(f"{k}", name) for k in range(4) for name in ("ada", "bo")]
    rows += [answer("0", "cy", verdict="wrong"), answer("9", "cy")]
    found = agree(*rows)
    assert [(pair.first, pair.second, pair.shared) for pair in found.pairs] == [
        ("ada", "bo", 4),
        ("ada", "cy", 1),
        ("bo", "cy", 1),
    ]
    assert (found.shared, found.kappa) == (6, 0.0)
    assert [pair.kappa for pair in found.pairs] == [None, 0.0, 0.0]


def test_one_reviewer_has_nobody_to_agree_with() -> None:
    found = agree(answer(), answer("other"))
    assert (found.pairs, found.shared, found.kappa) == ((), 0, None)
    assert [(one.reviewer, one.answers) for one in found.reviewers] == [("ada", 2)]
    assert agree() == Agreement((), (), 0, None)


def test_other_cameras_of_an_event_are_not_shared() -> None:
    assert agree(answer(), answer(reviewer="bo", camera="rear")).pairs == ()


def test_boxes_of_reviewers_who_shift_and_miss_them() -> None:
    scenes = Scenes(300)
    dice = np.random.default_rng(8)
    given = ["right"] * scenes.events
    ada = answers(scenes, draw(dice, scenes), given)
    bo = answers(scenes, draw(dice, scenes, missed=0.2, nudge_px=6.0), given, "bo")
    (pair,) = agreement(pa.concat_tables([ada, bo]), NOTHING_KNOWN).pairs
    assert pair.mean_iou == pytest.approx(54 / 66)
    assert pair.matched == pytest.approx(1.6 / 1.8, abs=0.02)
    assert pair.boxes == pytest.approx(300 * 20 * 1.8, rel=0.02)


def test_boxes_are_compared_on_frames_of_both() -> None:
    one = answer(frames_ns=[1, 2], boxes=[box(0, 1), box(0, 2), box(0, 3)])
    two = answer(reviewer="bo", verdict=None, frames_ns=[2, 3], boxes=[box(0, 2), box(9, 3)])
    (pair,) = agree(one, two).pairs
    assert (pair.shared, pair.boxes, pair.matched, pair.mean_iou) == (0, 2, 1.0, 1.0)


def test_reviewers_have_answers_times_and_control_tasks() -> None:
    truth = pa.table([["a", "b", "c"], ["front"] * 3, ["right", "wrong", "right"]], schema=TRUTH)
    rows = [
        answer("a", control=True, seconds=10.0),
        answer("b", control=True, seconds=20.0),
        answer("c", control=True, verdict="unsure", seconds=90.0),
        answer("d", control=True),
        answer("e", verdict=None),
        answer("f", skipped=True, seconds=1.0),
        answer("b", "bo", verdict="wrong", control=True),
        answer("c", "bo", verdict="wrong"),
    ]
    ada, bo = agree(*rows, truth=truth).reviewers
    assert (ada.answers, ada.skipped, ada.seconds) == (5, 1, 20.0)
    assert (bo.answers, bo.skipped, bo.seconds) == (2, 0, None)
    assert ada.control
    assert bo.control
    assert (ada.control.hits, ada.control.trials) == (1, 3)
    assert (bo.control.hits, bo.control.trials) == (1, 1)


def test_a_control_task_does_not_check_a_reviewer_who_answered_the_event_before() -> None:
    truth = pa.table([["a", "b"], ["front"] * 2, ["right"] * 2], schema=TRUTH)
    rows = [answer("a"), answer("a", control=True, task="c"), answer("b", control=True)]
    (one,) = agree(*rows, truth=truth).reviewers
    assert one.control
    assert one.control.trials == 1


def test_control_tasks_find_the_rate_at_which_a_reviewer_errs() -> None:
    dice = np.random.default_rng(9)
    names = [f"{k}" for k in range(400)]
    known = pa.table([names, ["front"] * 400, ["right"] * 400], schema=TRUTH)
    errs = dice.uniform(size=400) < 0.1
    rows = [
        answer(name, control=True, verdict="wrong" if err else "right")
        for name, err in zip(names, errs, strict=True)
    ]
    (one,) = agree(*rows, truth=known).reviewers
    assert one.control
    assert one.control.low <= 0.9 <= one.control.high


def test_a_truth_with_two_answers_is_an_error() -> None:
    truth = pa.table([["a"] * 2, ["front"] * 2, ["right", "wrong"]], schema=TRUTH)
    with pytest.raises(ValueError, match="more than once"):
        agree(answer("a"), truth=truth)
