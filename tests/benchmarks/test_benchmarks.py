"""What the benchmarks share: the ratio of a measure, and interleaved timing."""

from __future__ import annotations

from time import sleep

import pytest

from benchmarks import Measure, interleaved


@pytest.mark.parametrize(("lower_is_better", "ratio"), [(False, 4.0), (True, 0.25)])
def test_the_ratio_is_above_one_where_we_are_better(lower_is_better: bool, ratio: float) -> None:
    measure = Measure("x", 8.0, 2.0, "peer", "s", lower_is_better=lower_is_better)
    assert measure.ratio == ratio


def test_actions_take_turns_after_one_warm_up_each() -> None:
    calls: list[str] = []
    interleaved([lambda: calls.append("a"), lambda: calls.append("b")], repeats=3)
    assert calls == ["a", "b"] * 4


def test_the_median_ignores_one_slow_run() -> None:
    waits = iter([0.0, 0.0, 0.2, 0.0])  # the first is the warm-up
    (seconds,) = interleaved([lambda: sleep(next(waits))], repeats=3)
    assert seconds < 0.1
