"""Functions of time over rows of many logs, in numpy: what SQL windows are slow at.

Rows are sorted by series (a log, or a camera of a log) and time, and cut into *runs*:
rows that follow each other without a gap. A window never reaches out of its run.

Sums are exact. Values become multiples of 2**-30 in int64, whose addition is associative
even where it wraps around, so that a sum over a window is the same bits whichever other
logs lie in the batch; a float prefix sum would not be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrays import BoolArray, FloatArray, IntArray

_SCALE = float(1 << 30)
MAX_MAGNITUDE = 1e6
"""Greater values are no physical quantity in SI units; they count as null."""


@dataclass(frozen=True, slots=True)
class Window:
    """The rows [lo, hi) of [t + start, t + end], for every row.

    On a regular grid, inner rows i have [i + start, i + stop) and only the `edge` rows near
    the ends of runs have bounds of their own: lo and hi int64[len(edge)], hi >= lo. Where the
    grid is not regular, every row is an edge row.
    """

    start: int
    stop: int
    inner: slice
    edge: IntArray
    lo: IntArray
    hi: IntArray

    def shifted(self, by: int) -> slice:
        """The inner rows, moved by some rows."""
        return slice(self.inner.start + by, self.inner.stop + by)


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the runs are: n rows in m runs.

    t_ns int64[n], ascending within a run; run int64[n], the number of each row's run;
    `first` and `last` int64[n], the first and last row of that run; `step_ns` the one step
    of a regular grid, or 0.
    """

    t_ns: IntArray
    run: IntArray
    first: IntArray
    last: IntArray
    step_ns: int
    _windows: dict[tuple[int, int], Window] = field(default_factory=dict)
    _nearest: dict[int, pa.Array] = field(default_factory=dict)

    @classmethod
    def of(cls, t_ns: IntArray, starts: IntArray) -> Rows:
        """Lays out rows whose runs begin at the row numbers `starts` (ascending, 0 first)."""
        n = len(t_ns)
        lengths = np.diff(starts, append=n)
        steps = np.diff(t_ns)
        inside = np.ones(len(steps), np.bool_)
        inside[starts[1:] - 1] = False
        steps = steps[inside]
        step = int(steps[0]) if len(steps) and steps[0] > 0 and (steps == steps[0]).all() else 0
        return cls(
            t_ns,
            np.repeat(np.arange(len(starts)), lengths),
            np.repeat(starts, lengths),
            np.repeat(starts + lengths - 1, lengths),
            step,
        )

    def window(self, start_ns: int, end_ns: int) -> Window:
        """Finds the window [t + start, t + end] of every row."""
        key = (start_ns, end_ns)
        if key not in self._windows:
            self._windows[key] = self._search(start_ns, end_ns)
        return self._windows[key]

    def _search(self, start_ns: int, end_ns: int) -> Window:
        n = len(self.t_ns)
        if self.step_ns:
            start, stop = -(-start_ns // self.step_ns), end_ns // self.step_ns + 1
            here = np.arange(n)
            low, high = min(start, 0), max(stop - 1, 0)
            inside = (here + low >= self.first) & (here + high <= self.last)
            edge = np.flatnonzero(~inside)
            lo: IntArray = edge + start
            hi: IntArray = edge + stop
            inner = slice(min(-low, n), max(n - high, min(-low, n)))
        else:
            start = stop = 0
            edge, inner = np.arange(n), slice(0, 0)
            clock = self._clock(max(abs(start_ns), abs(end_ns)))
            lo = np.searchsorted(clock, clock + start_ns, "left")
            hi = np.searchsorted(clock, clock + end_ns, "right")
        lo = np.clip(lo, self.first[edge], self.last[edge] + 1)
        return Window(start, stop, inner, edge, lo, np.clip(hi, lo, self.last[edge] + 1))

    def _clock(self, reach_ns: int) -> IntArray:
        """Puts the runs one after the other, further apart than any window reaches."""
        offset = self.t_ns - self.t_ns[self.first]
        heads = np.flatnonzero(np.diff(self.first, prepend=-1))
        spans = offset[self.last[heads]] + (reach_ns + 1)
        placed: IntArray = offset + (np.cumsum(spans) - spans)[self.run]
        return placed

    def nearest(self, shift_ns: int) -> pa.Array:
        """Finds the row nearest to t + shift: int64[n], null where that is beyond the run."""
        if shift_ns not in self._nearest:
            row, ok = self._find(shift_ns)
            self._nearest[shift_ns] = pa.array(row, mask=~ok)
        return self._nearest[shift_ns]

    def _find(self, shift_ns: int) -> tuple[IntArray, BoolArray]:
        if self.step_ns:
            row = np.arange(len(self.t_ns)) + round(shift_ns / self.step_ns)
            ok = (row >= self.first) & (row <= self.last)
            return row, ok
        clock = self._clock(abs(shift_ns))
        target = clock + shift_ns
        ok = (target >= clock[self.first]) & (target <= clock[self.last])
        right = np.clip(np.searchsorted(clock, target, "left"), self.first, self.last)
        left = np.maximum(right - 1, self.first)
        nearer_left = target - clock[left] <= clock[right] - target
        return np.where(nearer_left, left, right), ok


def _floats(values: pa.Array) -> tuple[FloatArray, BoolArray | None]:
    """Turns numbers or booleans into float64[n], and where they are usable; None: all are."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    array = np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
    # The least and the greatest are NaN where any is: two quick passes settle most columns.
    if len(array) and array.min() >= -MAX_MAGNITUDE and array.max() <= MAX_MAGNITUDE:
        return array, None
    return array, np.abs(array) <= MAX_MAGNITUDE


def _sum_and_count(
    rows: Rows, values: pa.Array, start_ns: int, end_ns: int
) -> tuple[FloatArray, IntArray]:
    array, ok = _floats(values)
    window = rows.window(start_ns, end_ns)
    if ok is not None:
        array = np.where(ok, array, 0.0)
        count = _sums(ok, window)
    else:
        count = np.full(len(array), max(window.stop - window.start, 0))
        count[window.edge] = window.hi - window.lo
    fixed = array * _SCALE
    np.rint(fixed, out=fixed)
    return _sums(fixed.astype(np.int64), window) / _SCALE, count


def _masked(array: FloatArray, missing: BoolArray) -> pa.Array:
    return pa.array(array, mask=missing) if missing.any() else pa.array(array)


def _sums(values: IntArray | BoolArray, window: Window) -> IntArray:
    """Sums integers over windows, as differences of their prefix sums."""
    prefix = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=prefix[1:])
    out = np.zeros(len(values), np.int64)
    if window.stop > window.start:
        out[window.inner] = (
            prefix[window.shifted(window.stop)] - prefix[window.shifted(window.start)]
        )
    out[window.edge] = prefix[window.hi] - prefix[window.lo]
    return out


def mean(rows: Rows, values: pa.Array, start_ns: int, end_ns: int) -> pa.Array:
    """Averages what is not null in the window; null where nothing is."""
    total_, count = _sum_and_count(rows, values, start_ns, end_ns)
    return _masked(total_ / np.maximum(count, 1), count == 0)


def total(rows: Rows, values: pa.Array, start_ns: int, end_ns: int) -> pa.Array:
    """Adds up what is not null in the window; of booleans: counts the true ones."""
    total_, count = _sum_and_count(rows, values, start_ns, end_ns)
    return _masked(total_, count == 0)


def lowest(rows: Rows, values: pa.Array, start_ns: int, end_ns: int) -> pa.Array:
    """Finds the least value in the window; null where there is none."""
    array, ok = _floats(values)
    usable = -array if ok is None else np.where(ok, -array, -np.inf)
    highest_ = _extreme(rows, usable, start_ns, end_ns)
    return _masked(-highest_, np.isneginf(highest_))


def highest(rows: Rows, values: pa.Array, start_ns: int, end_ns: int) -> pa.Array:
    """Finds the greatest value in the window; null where there is none."""
    array, ok = _floats(values)
    usable = array if ok is None else np.where(ok, array, -np.inf)
    highest_ = _extreme(rows, usable, start_ns, end_ns)
    return _masked(highest_, np.isneginf(highest_))


def _extreme(rows: Rows, array: FloatArray, start_ns: int, end_ns: int) -> FloatArray:
    """Takes the maximum over windows by doubling; -inf where there is none.

    A window of w rows is covered by two spans of 2**k rows, k = floor(log2(w)); `array`
    holds the maxima of spans of 2**k rows from each row on, for one k after the other.
    """
    window = rows.window(start_ns, end_ns)
    out = np.full(len(array), -np.inf)
    width = window.stop - window.start
    widths = window.hi - window.lo
    edges = np.full(len(widths), -np.inf)
    widest = max(width, int(widths.max(initial=0)))
    span = 1
    while span <= widest:
        if span <= width < 2 * span:
            heads = array[window.shifted(window.start)]
            out[window.inner] = np.maximum(heads, array[window.shifted(window.stop - span)])
        at = np.flatnonzero((widths >= span) & (widths < 2 * span))
        edges[at] = np.maximum(array[window.lo[at]], array[window.hi[at] - span])
        if 2 * span <= widest:
            array = np.concatenate([np.maximum(array[:-span], array[span:]), array[-span:]])
        span *= 2
    out[window.edge] = edges
    return out


def past(rows: Rows, values: pa.Array, shift_ns: int) -> pa.Array:
    """Takes each row's value of a time ago, of any type; null beyond the run."""
    return ahead(rows, values, -shift_ns)


def ahead(rows: Rows, values: pa.Array, shift_ns: int) -> pa.Array:
    """Takes each row's value of a time later, of any type; null beyond the run."""
    return pc.take(values, rows.nearest(shift_ns))


WINDOWED: dict[str, Callable[[Rows, pa.Array, int, int], pa.Array]] = {
    "mean": mean,
    "total": total,
    "lowest": lowest,
    "highest": highest,
}
"""Functions f(x, from_s, to_s) over the window [t + from_s, t + to_s], in float64."""

SHIFTED: dict[str, Callable[[Rows, pa.Array, int], pa.Array]] = {"past": past, "ahead": ahead}
"""Functions f(x, s) that give x of another time, in the type of x."""
