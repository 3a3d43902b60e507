"""Intervals against published ones, and against how often they cover a known rate."""

from __future__ import annotations

import numpy as np
import pytest

from auto_label.review.rates import clustered_rate, rate, wilson
from schemas.arrays import IntArray

REPETITIONS = 200


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_as_published(hits: int, trials: int, low: float, high: float) -> None:
    """By Newcombe, "Two-sided confidence intervals for the single proportion", 1998, method 3."""
    assert wilson(hits / trials, trials) == pytest.approx((low, high), abs=5e-5)


def test_all_hits_end_at_one_and_no_trials_are_no_rate() -> None:
    found = rate(7, 7)
    assert found
    assert found.high == pytest.approx(1.0)
    assert 0.6 < found.low < 0.7
    none = np.zeros(3, dtype=np.int64)
    assert rate(0, 0) is None
    assert clustered_rate(none, none) is None
    assert clustered_rate(none[:0], none[:0]) is None


def test_repeating_what_is_in_a_cluster_tells_no_more() -> None:
    hits = np.random.default_rng(1).integers(0, 2, 60)
    one, ten = clustered_rate(hits, np.ones(60, int)), clustered_rate(10 * hits, np.full(60, 10))
    assert one
    assert ten
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high), abs=0.01)
    plain = rate(int(hits.sum()), 60)
    assert plain
    assert one.high - one.low == pytest.approx(plain.high - plain.low, rel=0.05)


def test_where_all_are_hits_many_trials_of_few_clusters_are_not_sure() -> None:
    found, plain = clustered_rate(np.full(9, 40), np.full(9, 40)), rate(9, 9)
    assert found
    assert plain
    assert (found.trials, found.value) == (360, 1.0)
    assert found.high == pytest.approx(1.0)
    assert plain.low < found.low < 0.9


def test_a_single_cluster_says_little() -> None:
    found = clustered_rate(np.array([90]), np.array([100]))
    assert found
    assert found.high - found.low > 0.7


def test_no_interval_is_narrower_than_that_of_independent_trials() -> None:
    found, plain = clustered_rate(np.array([5] * 20), np.array([10] * 20)), rate(100, 200)
    assert found
    assert plain
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))


def clusters(dice: np.random.Generator, count: int, share: float) -> tuple[IntArray, IntArray]:
    """Clusters of 5 to 60 trials whose own shares vary about the one of all."""
    trials = dice.integers(5, 61, count)
    own = dice.beta(4 * share, 4 * (1 - share), count)
    return dice.binomial(trials, own), trials


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("count", [3, 8, 25, 100])
def test_the_interval_of_clusters_covers_the_rate(share: float, count: int) -> None:
    dice = np.random.default_rng(3)
    covered = 0
    for _ in range(REPETITIONS):
        found = clustered_rate(*clusters(dice, count, share))
        assert found
        covered += found.low <= share <= found.high
    assert covered >= 0.9 * REPETITIONS


def test_the_interval_of_independent_trials_would_not_cover_it() -> None:
    dice = np.random.default_rng(3)
    covered = 0
    for _ in range(REPETITIONS):
        hits, trials = clusters(dice, 100, 0.8)
        found = rate(int(hits.sum()), int(trials.sum()))
        assert found
        covered += found.low <= 0.8 <= found.high
    assert covered < 0.6 * REPETITIONS
