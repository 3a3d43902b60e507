"""What `make bench` runs: each measure beside a peer or a limit taken in the same run.

A module here defines `measure()`, which yields its measures; `python -m benchmarks` runs
them all, `python -m benchmarks mine plan` some.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Measure:
    """One result: ours against a peer, in `unit`; the ratio is above 1 where we are better.

    `lower_is_better` is for times and errors: there the ratio is the peer's over ours.
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
        """How many times better we are than the peer."""
        return self.peer / self.ours if self.lower_is_better else self.ours / self.peer


def interleaved(actions: Sequence[Callable[[], object]], repeats: int = 5) -> list[float]:
    """Times several actions in turn, A B A B …, so that a drifting machine hits them alike.

    Returns:
        The median wall seconds of each action, after one warm-up of each.
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
