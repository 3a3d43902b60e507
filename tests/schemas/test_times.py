"""Times: conversions at the limits of int64, the grid, and spans."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from schemas.times import GRID_HZ, GRID_NS, NS_PER_MS, NS_PER_S, Span, grid, grid_rows, ns, seconds

INT64_MAX = int(np.iinfo(np.int64).max)
INT64_MIN = int(np.iinfo(np.int64).min)


def test_the_constants_agree() -> None:
    assert NS_PER_S == 1000 * NS_PER_MS == GRID_HZ * GRID_NS


def test_seconds_round_trip_to_the_nanosecond_for_logs_of_a_month() -> None:
    rng = np.random.default_rng(1)
    month = 31 * 86_400 * NS_PER_S
    for t_ns in [0, 1, -1, month, -month, *rng.integers(-month, month, 1000).tolist()]:
        assert ns(seconds(t_ns)) == t_ns


def test_conversions_are_correctly_rounded_up_to_the_limits_of_int64() -> None:
    # ns(0.5e-9) and ns(1.5e-9): half to even. The others are exact in binary.
    assert [ns(s) for s in (0.0, 1.5, -1.5, 2.0**-9, 0.5e-9, 1.5e-9)] == [
        0, 1_500_000_000, -1_500_000_000, 1_953_125, 0, 2,
    ]  # fmt: skip
    for t_ns in (INT64_MAX, INT64_MIN, INT64_MAX - 1, INT64_MIN + 1):
        # The nearest float64 to the quotient: off by at most half a unit in the last place.
        error = abs(Fraction(seconds(t_ns)) - Fraction(t_ns, NS_PER_S))
        assert error <= Fraction(float(np.spacing(abs(seconds(t_ns))))) / 2
        assert abs(ns(seconds(t_ns)) - t_ns) <= 1024
    # No wrap-around: whole seconds convert exactly beyond int64 too.
    assert ns(9_223_372_036.0) == 9_223_372_036 * NS_PER_S < INT64_MAX
    assert ns(2.0**34) == 2**34 * NS_PER_S > INT64_MAX


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_times_that_are_not_finite_raise(value: float) -> None:
    with pytest.raises((ValueError, OverflowError)):
        ns(value)


@pytest.mark.parametrize("start_ns", [0, 1, GRID_NS - 1, GRID_NS, GRID_NS + 1, 3 * GRID_NS - 5])
@pytest.mark.parametrize("duration_ns", [0, 1, GRID_NS - 1, GRID_NS, GRID_NS + 1, 10**10 + 7])
def test_the_grid_is_every_instant_inside_the_span(start_ns: int, duration_ns: int) -> None:
    span = Span(start_ns, start_ns + duration_ns)
    instants = grid(span)
    assert instants.dtype == np.int64
    whole = range(0, span.end_ns, GRID_NS)
    assert instants.tolist() == [t_ns for t_ns in whole if t_ns >= start_ns]
    assert grid_rows(span) == len(instants)


def test_spans_are_ordered_and_reject_a_negative_length() -> None:
    assert Span(-5, 7).duration_ns == 12
    assert Span(3, 3).duration_ns == 0
    assert Span(INT64_MIN, INT64_MAX).duration_ns == 2**64 - 1
    assert sorted([Span(2, 3), Span(1, 9), Span(1, 2)]) == [Span(1, 2), Span(1, 9), Span(2, 3)]
    with pytest.raises(ValueError, match=r"ends before it starts: \[5, 4\)"):
        Span(5, 4)


def test_clipping_is_the_intersection_of_sets() -> None:
    bounds = range(6)
    spans = [Span(a, b) for a, b in itertools.product(bounds, bounds) if a <= b]
    for one, two in itertools.product(spans, spans):
        clipped = one.clip(two)
        points = set(range(one.start_ns, one.end_ns)) & set(range(two.start_ns, two.end_ns))
        assert set(range(clipped.start_ns, clipped.end_ns)) == points
        assert two.start_ns <= clipped.start_ns <= clipped.end_ns <= two.end_ns
        assert clipped.clip(two) == clipped
