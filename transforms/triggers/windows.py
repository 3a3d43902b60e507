"""Functions of time over rows of many logs, in numpy: faster than window functions in SQL.

Rows are sorted by series (a log, or a camera of a log) and time, and divided into *runs* of
rows without gaps. Windows do not extend beyond their run.

Sums are exact: values are rounded to multiples of 2**-30 in int64. Its addition is
associative, also when it wraps around, so that the sum over a window does not depend on the
other logs in the batch; with a prefix sum in float64 it would.
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
"""Limit on values: greater ones are not physical in SI units, and count as null."""


@dataclass(frozen=True, slots=True)
class Window:
    """For every row, the rows [lo, hi) whose times are in [t + start, t + end].

    On a regular grid, the window of an inner row i is [i + start, i + stop), and only the
    `edge` rows near the ends of runs have bounds of their own: lo and hi int64[len(edge)],
    hi >= lo. On an irregular grid, all rows are edge rows.
    """

    start: int
    stop: int
    inner: slice
    edge: IntArray
    lo: IntArray
    hi: IntArray

    def shifted(self, by: int) -> slice:
        """Returns the inner rows, shifted by a number of rows."""
        return slice(self.inner.start + by, self.inner.stop + by)


@dataclass(frozen=True, slots=True)
class Rows:
    """The runs of n rows.

    t_ns int64[n], ascending within a run; run int64[n], the number of each row's run;
    `first` and `last` int64[n], the first and last row of that run; `step_ns`, the step of a
    regular grid, or 0.
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
        """Describes rows whose runs start at the row numbers `starts` (ascending, 0 first)."""
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
        """Returns the window [t + start, t + end] of every row; cached."""
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
        """Returns ascending times with the runs further apart than `reach_ns`."""
        offset = self.t_ns - self.t_ns[self.first]
        heads = np.flatnonzero(np.diff(self.first, prepend=-1))
        spans = offset[self.last[heads]] + (reach_ns + 1)
        placed: IntArray = offset + (np.cumsum(spans) - spans)[self.run]
        return placed

    def nearest(self, shift_ns: int) -> pa.Array:
        """Returns the row nearest to t + shift: int64[n], null beyond the run; cached."""
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
    """Converts numbers or booleans to float64[n] and a mask of valid ones; None if all are."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    # A whole number that float64 rounds is beyond the limit on values.
    array = np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    # min and max are NaN if any value is, so that two fast passes suffice for most columns.
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
    """Sums integers over windows, as differences of prefix sums."""
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
    """Returns the mean over the window, ignoring nulls; null if there are no values."""
    total_, count = _sum_and_count(rows, values, start_ns, end_ns)
    return _masked(total_ / np.maximum(count, 1), count == 0)


def total(rows: Rows, values: pa.Array, start_ns: int, end_ns: int) -> pa.Array:
    """Returns the sum over the window, ignoring nulls; of booleans, the number of true ones."""
    total_, count = _sum_and_count(rows, values, start_ns, end_ns)
    return _masked(total_, count == 0)


def lowest(rows: Rows, values: pa.Array, start_ns: int, end_ns: int) -> pa.Array:
    """Returns the minimum over the window; null if there are no values."""
    array, ok = _floats(values)
    usable = -array if ok is None else np.where(ok, -array, -np.inf)
    highest_ = _extreme(rows, usable, start_ns, end_ns)
    return _masked(-highest_, np.isneginf(highest_))


def highest(rows: Rows, values: pa.Array, start_ns: int, end_ns: int) -> pa.Array:
    """Returns the maximum over the window; null if there are no values."""
    array, ok = _floats(values)
    usable = array if ok is None else np.where(ok, array, -np.inf)
    highest_ = _extreme(rows, usable, start_ns, end_ns)
    return _masked(highest_, np.isneginf(highest_))


def _extreme(rows: Rows, array: FloatArray, start_ns: int, end_ns: int) -> FloatArray:
    """Computes maxima over windows with a sparse table; -inf if there are no values.

    A window of w rows is the union of two spans of 2**k rows, k = floor(log2(w)). `array`
    contains the maxima of the spans of 2**k rows from each row on, for increasing k.
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
    """Returns the value at t - shift, of any type; null beyond the run."""
    return ahead(rows, values, -shift_ns)


def ahead(rows: Rows, values: pa.Array, shift_ns: int) -> pa.Array:
    """Returns the value at t + shift, of any type; null beyond the run."""
    return pc.take(values, rows.nearest(shift_ns))


WINDOWED: dict[str, Callable[[Rows, pa.Array, int, int], pa.Array]] = {
    "mean": mean,
    "total": total,
    "lowest": lowest,
    "highest": highest,
}
"""Functions f(x, from_s, to_s) over the window [t + from_s, t + to_s], in float64."""

SHIFTED: dict[str, Callable[[Rows, pa.Array, int], pa.Array]] = {"past": past, "ahead": ahead}
"""Functions f(x, s) that return x at another time, in the type of x."""
