"""Triggers against the shares and scores that their events were drawn with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auto_label.review.resolve import event_verdicts
from auto_label.review.triggers import TriggerScore, best_threshold, trigger_scores
from schemas.arrays import BoolArray, FloatArray
from tests.auto_label.review.simulated import answer, events, replaced, verdicts

REPETITIONS = 200


def score(right: BoolArray, value: FloatArray, unsure: int = 0) -> TriggerScore:
    """The score of a trigger by answers on all of its events, the last of them unsure."""
    names = [f"{k:04d}" for k in range(len(right))]
    said = np.where(right, "right", "wrong").tolist()
    said[len(said) - unsure :] = ["unsure"] * unsure
    rows = [answer(name, verdict=verdict) for name, verdict in zip(names, said, strict=True)]
    (one,) = trigger_scores(events(names, value), event_verdicts(verdicts(*rows)))
    return one


def test_precision_is_that_of_the_trigger() -> None:
    dice = np.random.default_rng(4)
    covered = 0
    for _ in range(REPETITIONS):
        found = score(dice.uniform(size=60) < 0.8, dice.uniform(size=60)).precision
        assert found
        covered += found.low <= 0.8 <= found.high
    assert covered >= 0.9 * REPETITIONS


def test_unsure_events_are_answered_but_neither_right_nor_wrong() -> None:
    found = score(np.array([True] * 6 + [False] * 4), np.arange(10) / 10, unsure=3)
    assert (found.answered, found.right, found.wrong, found.unsure) == (10, 6, 1, 3)
    assert found.precision
    assert found.precision.value == 6 / 7


def test_all_unsure_have_neither_precision_nor_threshold() -> None:
    found = score(np.array([True] * 3), np.arange(3) / 3, unsure=3)
    assert (found.unsure, found.precision, found.threshold) == (3, None, None)


def test_the_threshold_lies_where_right_and_wrong_scores_part() -> None:
    """Right ones about 0.7 and as many wrong ones about 0.3: F1 is best a little below 0.5."""
    dice = np.random.default_rng(5)
    right = np.arange(600) % 2 == 0
    found = score(right, np.where(right, 0.7, 0.3) + dice.normal(0.0, 0.1, 600)).threshold
    assert found
    # The best of a fine grid over the normal distributions, computed from their tails.
    grid = np.linspace(0.2, 0.8, 601)
    draws = np.sort(dice.normal(0.0, 0.1, 200_000))
    kept = [1 - np.searchsorted(draws, grid - mean) / len(draws) for mean in (0.7, 0.3)]
    f1 = 2 * kept[0] / (kept[0] + kept[1] + 1)
    assert found.score == pytest.approx(grid[np.argmax(f1)], abs=0.05)
    assert found.f1 == pytest.approx(f1.max(), abs=0.02)
    assert found.kept_right / 300 == pytest.approx(0.98, abs=0.02)
    assert found.kept_wrong / 300 == pytest.approx(0.03, abs=0.03)


numbers = st.lists(st.integers(0, 8).map(float), max_size=12)


@settings(deadline=None)
@given(numbers, numbers)
def test_no_other_threshold_has_a_better_f1(right: Sequence[float], wrong: Sequence[float]) -> None:
    found = best_threshold(right, wrong)
    if not right:
        assert found is None
        return
    assert found
    assert found.least_right == min(right)

    def f1(least: float) -> float:
        kept = sum(value >= least for value in right)
        return 2 * kept / (kept + sum(value >= least for value in wrong) + len(right))

    assert found.kept_right == sum(value >= found.score for value in right)
    assert found.kept_wrong == sum(value >= found.score for value in wrong)
    assert found.f1 == f1(found.score) == max(f1(least) for least in [*right, *wrong])
    assert found.score == min(least for least in right if f1(least) == found.f1)
    assert wrong or found.score == min(right)


def test_triggers_and_their_versions_are_scored_apart() -> None:
    one, two = events(["a", "b"], [1, 2]), events(["c"], [3], trigger="cut_in")
    newer = replaced(replaced(two, "trigger_version", 2), "event_id", "d")
    given_to = event_verdicts(verdicts(answer("b"), answer("d", verdict="wrong")))
    found = trigger_scores(pa.concat_tables([newer, two, one]), given_to)
    assert [(one.key, one.events, one.answered) for one in found] == [
        (("cut_in", 1, "p"), 1, 0),
        (("cut_in", 2, "p"), 1, 1),
        (("hard_brake", 1, "p"), 2, 1),
    ]


def test_without_verdicts_there_are_events_only() -> None:
    (found,) = trigger_scores(events(["a"], [1]), event_verdicts(verdicts()))
    assert (found.events, found.answered, found.precision, found.threshold) == (1, 0, None, None)
    assert trigger_scores(events([], []), event_verdicts(verdicts(answer()))) == ()
