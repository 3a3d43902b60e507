"""Gaps and islands: the maximal stretches of rows on which a trigger is on, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, FloatArray, IntArray
from transforms.triggers.windows import Rows


@dataclass(frozen=True, slots=True)
class Islands:
    """k islands: row numbers first, last and peak int64[k]; score float64[k]."""

    first: IntArray
    last: IntArray
    peak: IntArray
    score: FloatArray

    def __len__(self) -> int:
        return len(self.first)


def held(when: BoolArray, until: BoolArray, first: IntArray) -> BoolArray:
    """Applies hysteresis within runs: on from a row of `when` until a row of `until`.

    Args:
        when: bool[n].
        until: bool[n]; where both hold, `when` has precedence.
        first: int64[n], the first row of each row's run.

    Returns:
        bool[n], the rows that are on.

    >>> held(np.array([0, 1, 0, 0, 0], bool), np.array([0, 0, 0, 1, 0], bool), np.zeros(5, int))
    array([False,  True,  True, False, False])
    """
    here = np.arange(len(when))
    decided = np.where(when | until, here, first)
    # The latest row at which either condition holds, or the start of the run.
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

    Adjacent rows of a run that are on are joined; then islands of one series that are closer
    than `merge_ns` are merged, also across gaps; then islands shorter than `for_ns` are
    dropped. The length of an island is the time from its first row to its last, 0 for a
    single row. Its score is the maximum over its rows that are on, and its peak the first row
    with that score. Scores that are not finite are ignored; an island without any other has
    score 0 and its peak at its first row.

    Args:
        on: bool[n], over rows sorted by series and time.
        score: float64[n].
        rows: the runs of these rows.
        series: int64[n], the series of each row; runs do not cross series.
        for_ns: minimum length.
        merge_ns: islands closer than this are merged.
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
