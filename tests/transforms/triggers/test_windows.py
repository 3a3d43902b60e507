"""Functions of time against reference loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest

from schemas.arrays import FloatArray, IntArray
from transforms.triggers import windows
from transforms.triggers.windows import Rows

Values = Sequence[float | None]


def _grid() -> Rows:
    t_ns = np.concatenate([np.arange(40), np.arange(7), 100 + np.arange(1), np.arange(30)]) * 20
    return Rows.of(t_ns, np.array([0, 40, 47, 48]))


def _uneven() -> Rows:
    rng = np.random.default_rng(5)
    parts = [np.sort(rng.integers(0, 900, n)) for n in (30, 1, 25, 12)]
    return Rows.of(np.concatenate(parts), np.cumsum([0, 30, 1, 25]))


def _values(rows: Rows) -> list[float | None]:
    rng = np.random.default_rng(6)
    return [None if rng.random() < 0.2 else float(v) for v in rng.normal(0, 5, len(rows.t_ns))]


def _seen(rows: Rows, values: Values, i: int, start: int, end: int) -> list[float]:
    return [
        v
        for j, v in enumerate(values)
        if v is not None
        and rows.run[j] == rows.run[i]
        and rows.t_ns[i] + start <= rows.t_ns[j] <= rows.t_ns[i] + end
    ]


def _mean(seen: list[float]) -> float:
    return sum(seen) / len(seen)


@pytest.mark.parametrize("rows", [_grid(), _uneven()], ids=["grid", "uneven"])
@pytest.mark.parametrize(
    ("start", "end"), [(-100, 100), (0, 0), (-1000, -10), (30, 70), (-55, 5), (-5000, 5000)]
)
@pytest.mark.parametrize(
    ("function", "plain"),
    [("mean", _mean), ("total", sum), ("lowest", min), ("highest", max)],
)
def test_windowed_like_a_loop(
    rows: Rows, start: int, end: int, function: str, plain: Callable[[list[float]], float]
) -> None:
    """Each equals a loop over the rows of the run in the window."""
    values = _values(rows)
    got = windows.WINDOWED[function](rows, pa.array(values), start, end).to_pylist()
    for i, value in enumerate(got):
        seen = _seen(rows, values, i, start, end)
        if seen:
            assert value == pytest.approx(plain(seen), abs=1e-7)
        else:
            assert value is None


@pytest.mark.parametrize("rows", [_grid(), _uneven()], ids=["grid", "uneven"])
@pytest.mark.parametrize("shift", [0, 20, 200, -60, 777, 10_000])
def test_ahead_takes_the_nearest(rows: Rows, shift: int) -> None:
    """The row nearest to the instant, null outside of the run."""
    values = [f"row {i}" for i in range(len(rows.t_ns))]
    got = windows.ahead(rows, pa.array(values), shift).to_pylist()
    assert got == windows.past(rows, pa.array(values), -shift).to_pylist()
    for i, value in enumerate(got):
        run = np.flatnonzero(rows.run == rows.run[i])
        target = int(rows.t_ns[i]) + shift
        if not rows.t_ns[run[0]] <= target <= rows.t_ns[run[-1]]:
            assert value is None
            continue
        distance = np.abs(rows.t_ns[run] - target)
        assert value is not None
        assert distance[values.index(value) - run[0]] == distance.min()


def test_sums_are_exact_whatever_lies_beside() -> None:
    """A run's sums are bit for bit the same alone and after a million rows of large values."""
    rng = np.random.default_rng(7)
    small, great = rng.normal(0, 1, 500), rng.normal(0, 9e5, 1_000_000)

    def means(values: FloatArray, starts: IntArray) -> list[float]:
        lengths = np.diff(starts, append=len(values))
        t_ns = np.concatenate([np.arange(n) for n in lengths]) * 20
        rows = Rows.of(t_ns.astype(np.int64), starts)
        out: list[float] = windows.mean(rows, pa.array(values), -100, 100).to_pylist()[-500:]
        return out

    alone = means(small, np.array([0]))
    assert alone == means(np.concatenate([great, small]), np.array([0, len(great)]))


def test_hostile_values_count_as_null() -> None:
    """NaN, infinities and values over the limit are ignored, and nothing overflows."""
    rows = Rows.of(np.arange(5, dtype=np.int64) * 20, np.array([0]))
    values = pa.array([1.0, float("nan"), float("inf"), -1e300, 3.0])
    assert windows.mean(rows, values, -1000, 1000).to_pylist() == [2.0] * 5
    assert windows.highest(rows, values, -1000, 1000).to_pylist() == [3.0] * 5
    assert windows.lowest(rows, values, -1000, 1000).to_pylist() == [1.0] * 5


def test_booleans_count() -> None:
    """`total` of a condition counts the true rows."""
    rows = Rows.of(np.arange(4, dtype=np.int64) * 20, np.array([0]))
    values = pa.array([True, False, None, True])
    assert windows.total(rows, values, -1000, 1000).to_pylist() == [2.0] * 4
    assert windows.highest(rows, values, -20, 0).to_pylist() == [1.0, 1.0, 0.0, 1.0]


def test_whole_numbers_beyond_float64_count_as_null() -> None:
    rows = Rows.of(np.arange(3) * 20_000_000, np.array([0]))
    values = pa.array([2**63 - 1, 5, -(2**63)])
    assert windows.highest(rows, values, -20_000_000, 20_000_000).to_pylist() == [5.0] * 3
    assert windows.total(rows, values, 0, 0).to_pylist() == [None, 5.0, None]
