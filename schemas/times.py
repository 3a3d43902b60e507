"""Times: int64 nanoseconds, half-open spans, units in names.

`t_ns` counts from the start of its log, so that logs without a UTC clock need no special
case; a log's `start_ns`, if known, is the UTC time of its `t_ns` 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import IntArray

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

GRID_HZ = 50
GRID_NS = NS_PER_S // GRID_HZ


def ns(seconds: float) -> int:
    """Converts seconds to whole nanoseconds, rounding half to even.

    >>> ns(1.5)
    1500000000
    """
    return round(seconds * NS_PER_S)


def seconds(t_ns: int) -> float:
    """Converts nanoseconds to seconds.

    >>> seconds(1_500_000_000)
    1.5
    """
    return t_ns / NS_PER_S


def grid(span: Span) -> IntArray:
    """Returns the instants of the 50 Hz grid in a span of a log.

    Returns:
        int64[n], the multiples of 20 ms in the span.

    >>> grid(Span(5_000_000, 45_000_000))
    array([20000000, 40000000])
    """
    return np.arange(_ticks(span.start_ns), _ticks(span.end_ns), dtype=np.int64) * GRID_NS


def grid_rows(span: Span) -> int:
    """Returns the number of the grid's instants in a span, without making them.

    >>> grid_rows(Span(0, 45_000_000))
    3
    """
    return _ticks(span.end_ns) - _ticks(span.start_ns)


def _ticks(t_ns: int) -> int:
    """Returns the number of the first instant of the grid at t_ns or later."""
    return -(-t_ns // GRID_NS)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open span [start_ns, end_ns) of a log's time."""

    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        """Rejects a span that ends before it starts."""
        if self.end_ns < self.start_ns:
            raise ValueError(f"span ends before it starts: [{self.start_ns}, {self.end_ns})")

    @property
    def duration_ns(self) -> int:
        """Length of the span."""
        return self.end_ns - self.start_ns

    def clip(self, other: Span) -> Span:
        """Returns the intersection with `other`, empty at its nearer edge if they are disjoint."""
        start = min(max(self.start_ns, other.start_ns), other.end_ns)
        return Span(start, max(start, min(self.end_ns, other.end_ns)))
