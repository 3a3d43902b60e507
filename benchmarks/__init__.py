"""Benchmarks: every measure is compared with a peer, or a limit, in the same run.

Every module defines `measure()`, which yields its measures. `python -m benchmarks` runs all
modules, `python -m benchmarks mine plan` only those named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Measure:
    """One result: our value and the peer's, in `unit`.

    `lower_is_better` is for times and errors, whose ratio is the peer's over ours.
    """

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    detail: str = ""
    lower_is_better: bool = False

    @property
    def ratio(self) -> float:
        """How many times better than the peer: above 1 where ours is better."""
        return self.peer / self.ours if self.lower_is_better else self.ours / self.peer


def interleaved(actions: Sequence[Callable[[], object]], repeats: int = 5) -> list[float]:
    """Times actions in turn, A B A B …, so that a drift of the machine affects all alike.

    Returns:
        The median wall time of each action in seconds, after one warm-up run of each.
    """
    for action in actions:
        action()
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, taken in zip(actions, times, strict=True):
            start = perf_counter()
            action()
            taken.append(perf_counter() - start)
    return [median(taken) for taken in times]
