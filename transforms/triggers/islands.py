"""Islands: the stretches of rows on which a trigger is on, found in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, FloatArray, IntArray
from transforms.triggers.windows import Rows


@dataclass(frozen=True, slots=True)
class Islands:
    """k islands, by row number: first, last, peak int64[k]; score float64[k]."""

    first: IntArray
    last: IntArray
    peak: IntArray
    score: FloatArray

    def __len__(self) -> int:
        return len(self.first)


def held(when: BoolArray, until: BoolArray, first: IntArray) -> BoolArray:
    """Adds hysteresis: on from `when`, and on until `until`, within a run.

    Args:
        when: bool[n].
        until: bool[n]; a row of `when` is on even where `until` holds too.
        first: int64[n], the first row of each row's run.

    Returns:
        bool[n]

    >>> held(np.array([0, 1, 0, 0, 0], bool), np.array([0, 0, 0, 1, 0], bool), np.zeros(5, int))
    array([False,  True,  True, False, False])
    """
    here = np.arange(len(when))
    decided = np.where(when | until, here, first)
    # The last row up to here that decided, or the start of the run.
    latest = np.maximum.accumulate(decided)
    return np.asarray(when[latest], dtype=np.bool_)


def islands(
    on: BoolArray,
    score: FloatArray,
    rows: Rows,
    series: IntArray,
    *,
    for_ns: int,
    merge_ns: int,
) -> Islands:
    """Finds the islands of one trigger.

    First rows on side by side in one run are joined, then islands of one series that are
    closer than `merge_ns` (also across a gap), then those shorter than `for_ns` are dropped.
    An island's length is from its first row to its last, 0 for a single row. Its score is
    the greatest of its rows that are on, its peak the earliest of them; NaN counts as none,
    and an island without any score has 0 at its first row.

    Args:
        on: bool[n], over rows sorted by series and time.
        score: float64[n].
        rows: the runs of those rows.
        series: int64[n], which series each row is of; runs do not cross series.
        for_ns: least length.
        merge_ns: islands closer than this are one.
    """
    at = np.flatnonzero(on)
    if not len(at):
        return Islands(at, at, at, np.zeros(0))
    apart = (np.diff(at) > 1) | (np.diff(rows.run[at]) != 0)
    near = np.diff(rows.t_ns[at]) < merge_ns
    same = np.diff(series[at]) == 0
    heads = np.concatenate([[0], np.flatnonzero((apart & ~near) | ~same) + 1])
    tails = np.append(heads[1:], len(at)) - 1
    long = rows.t_ns[at[tails]] - rows.t_ns[at[heads]] >= for_ns

    values = np.where(np.isfinite(score[at]), score[at], -np.inf)
    best = np.maximum.reduceat(values, heads)
    is_best = np.flatnonzero(values == np.repeat(best, tails - heads + 1))
    peaks = is_best[np.searchsorted(is_best, heads)]
    return Islands(
        at[heads[long]],
        at[tails[long]],
        at[peaks[long]],
        np.where(np.isneginf(best), 0.0, best)[long],
    )
