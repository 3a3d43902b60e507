"""Steps of time: one frame of each."""

from __future__ import annotations

import numpy as np
import pytest

from auto_label.steps import Steps
from schemas.times import NS_PER_S


@pytest.mark.parametrize("fps", [1.0, 5.0, 7.3, 120.0])
def test_the_first_frame_of_each_step_is_taken(fps: float) -> None:
    dice = np.random.default_rng(1)
    start = 3 * NS_PER_S
    times = start + np.sort(dice.integers(0, 4 * NS_PER_S, 200))
    steps = Steps(start, fps)
    taken = [t for t in times.tolist() if steps.takes(t)]
    number = (times - start) * fps // NS_PER_S
    _, first = np.unique(number, return_index=True)
    assert taken == times[first].tolist()


def test_steps_may_come_in_any_order() -> None:
    """The next file of a camera is asked for its first frame at once."""
    steps = Steps(0, 5.0)
    assert steps.takes(2 * NS_PER_S)
    assert [steps.takes(k * NS_PER_S // 10) for k in range(4)] == [True, False, True, False]
    assert not steps.takes(2 * NS_PER_S + 1)
