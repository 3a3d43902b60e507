"""Where a task's time goes, by named step.

Code anywhere below a task says what it is doing, and whoever runs the task records it:

    with step("decode"):
        frame = next(frames)

Every instant of a recording belongs to exactly one step: a step that begins within another
one interrupts it. So the steps of a task add up to the time that it took, and time outside
every step is the step OTHER. Outside a recording `step` does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

OTHER = "other"

T = TypeVar("T")


class StepTimes:
    """The time of one task by step; made and read by `recording`."""

    def __init__(self) -> None:
        self._ns: dict[str, int] = {OTHER: 0}
        self._current = OTHER
        self._since_ns = time.monotonic_ns()

    def switch(self, name: str) -> str:
        """Charges the time since the last switch to the step that ran; returns its name."""
        now_ns = time.monotonic_ns()
        before = self._current
        self._ns[before] += now_ns - self._since_ns
        self._ns.setdefault(name, 0)
        self._current, self._since_ns = name, now_ns
        return before

    def charge(self, spent_ns: Mapping[str, int]) -> None:
        """Moves time from the step that runs to others, as another process measured it."""
        self.switch(self._current)
        for name, ns in spent_ns.items():
            if name != OTHER:
                self._ns[name] = self._ns.get(name, 0) + ns
                self._ns[self._current] -= ns

    def nanoseconds(self) -> dict[str, int]:
        """Returns nanoseconds by step."""
        self.switch(self._current)
        return dict(self._ns)

    def milliseconds(self) -> dict[str, int]:
        """Returns whole milliseconds by step, which add up to those of the whole.

        Rounded down, and up where most is left over: steps of a fraction of a millisecond
        must not vanish from the sum.
        """
        return round_to_sum({name: ns / 1_000_000 for name, ns in self.nanoseconds().items()})


def round_to_sum(values: dict[str, float]) -> dict[str, int]:
    """Rounds values so that their sum is the rounded sum, by largest remainder.

    >>> round_to_sum({"read": 0.7, "decode": 7.4, "other": 0.1})
    {'read': 1, 'decode': 7, 'other': 0}
    """
    rounded = {name: int(value) for name, value in values.items()}
    missing = round(sum(values.values())) - sum(rounded.values())
    by_remainder = sorted(values, key=lambda name: rounded[name] - values[name])
    for name in by_remainder[:missing]:
        rounded[name] += 1
    return rounded


_times: ContextVar[StepTimes | None] = ContextVar("step_times", default=None)


@contextmanager
def recording() -> Iterator[StepTimes]:
    """Records the steps of the block, in this thread and in contexts copied from it."""
    times = StepTimes()
    token = _times.set(times)
    try:
        yield times
    finally:
        _times.reset(token)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Charges the time of the block to a step, if a recording is under way."""
    times = _times.get()
    if times is None:
        yield
        return
    before = times.switch(name)
    try:
        yield
    finally:
        times.switch(before)


def charge(spent_ns: Mapping[str, int]) -> None:
    """Charges time of this step to the steps of another process, if a recording is under way."""
    times = _times.get()
    if times is not None:
        times.charge(spent_ns)


def timed(name: str, values: Iterable[T]) -> Iterator[T]:
    """Yields values, charging to a step the time it takes to make each.

    >>> list(timed("decode", [1, 2]))
    [1, 2]
    """
    iterator = iter(values)
    while True:
        with step(name):
            try:
                value = next(iterator)
            except StopIteration:
                return
        yield value
