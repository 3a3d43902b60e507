"""Alignment against a slow reference loop, and against analytic functions."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.recording import Channel
from schemas.signals import SIGNAL, SIGNALS
from schemas.times import GRID_NS, NS_PER_MS, NS_PER_S, Span, grid
from transforms.align import align

TWO_PI = 2 * math.pi


def channel(name: str, t_ns: Any, values: Any, dtype: Any = np.float64) -> Channel:
    """Builds a channel from lists."""
    return Channel(name, np.asarray(t_ns, dtype=np.int64), np.asarray(values, dtype=dtype))


def aligned(signals: Sequence[Channel], duration_ns: int) -> pa.Table:
    """Aligns all of a log."""
    return align(signals, Span(0, duration_ns))


def slow(name: str, t_ns: list[int], values: list[float], at: int) -> float | None:
    """Reference: one instant of an interpolated or held signal."""
    signal = SIGNAL[name]
    newest = {t: v for t, v in zip(t_ns, values, strict=True) if math.isfinite(v)}
    times = sorted(newest)
    if not times:
        return None
    if signal.kind == "state":
        i = bisect_right(times, at) - 1
        return newest[times[i]] if i >= 0 and at - times[i] <= signal.tolerance_ns else None
    if at in newest:
        return newest[at]
    i = bisect_left(times, at)
    if i in {0, len(times)}:
        edge = times[0] if i == 0 else times[-1]
        return newest[edge] if abs(at - edge) <= signal.tolerance_ns else None
    a, b = times[i - 1], times[i]
    if b - a > signal.tolerance_ns:
        return None
    step = newest[b] - newest[a]
    if signal.kind == "angle":
        step = math.remainder(step, TWO_PI)
    return newest[a] + step * (at - a) / (b - a)


@pytest.mark.parametrize("name", ["speed_mps", "lat_deg", "heading_rad", "brake_on"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_slow_loop(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 120))
    # Coarse times make duplicates and exact hits on the grid; the span leaves both edges bare.
    t_ns = rng.integers(-50, 700, n) * 5 * NS_PER_MS + rng.integers(0, 2, n)
    values = rng.uniform(-math.pi, math.pi, n)
    values[rng.random(n) < 0.1] = np.nan
    if name == "brake_on":
        values = np.where(np.isnan(values), np.nan, values > 0)
    table = aligned([channel(name, t_ns, values)], 5 * NS_PER_S)
    got = table.column(name).to_pylist()
    want = [
        slow(name, t_ns.tolist(), values.tolist(), int(at)) for at in grid(Span(0, 5 * NS_PER_S))
    ]
    assert [g is None for g in got] == [w is None for w in want]
    for g, w in zip(got, want, strict=True):
        if g is None or w is None:
            continue
        difference = g - w
        if name == "heading_rad":
            assert -math.pi < g <= math.pi
            difference = math.remainder(difference, TWO_PI)
        assert abs(difference) < 1e-12


def test_every_signal_is_a_column_of_its_type_and_absent_ones_are_null() -> None:
    table = aligned([], 100 * NS_PER_MS)
    assert table.schema.names == ["t_ns", *(signal.name for signal in SIGNALS)]
    assert [table.schema.field(s.name).type for s in SIGNALS] == [s.type for s in SIGNALS]
    assert table.column("t_ns").to_pylist() == [k * GRID_NS for k in range(5)]
    assert all(table.column(s.name).null_count == 5 for s in SIGNALS)


def test_a_log_without_length_has_no_rows() -> None:
    assert aligned([channel("speed_mps", [0], [1.0])], 0).num_rows == 0


@pytest.mark.parametrize("name", ["speed_mps", "heading_rad", "brake_on", "gear"])
@pytest.mark.parametrize("seed", range(10))
def test_pieces_of_a_log_have_the_rows_of_the_whole(name: str, seed: int) -> None:
    """Of the samples outside a piece, a reader gives the nearest usable one on either side."""
    dice = np.random.default_rng(seed)
    count = int(dice.integers(0, 60))
    t_ns = dice.integers(-200, 2000, count) * 5 * NS_PER_MS + dice.integers(0, 3, count)
    if name == "gear":
        values = dice.choice(np.array(["park", "drive", "", None], dtype=object), count)
        usable = np.array([value not in {"", None} for value in values], dtype=np.bool_)
        samples = channel(name, t_ns, values, object)
    else:
        values = dice.uniform(-math.pi, math.pi, count)
        values[dice.random(count) < 0.2] = np.nan
        usable = np.isfinite(values)
        samples = channel(name, t_ns, values)
    cuts = [0, *sorted(dice.integers(0, 8 * NS_PER_S, 7).tolist()), 9 * NS_PER_S]
    pieces = []
    for start, end in pairwise(cuts):
        near = (t_ns >= start) & (t_ns < end)
        for outside, nearest in ((t_ns < start, max), (t_ns >= end, min)):
            if (usable & outside).any():
                near |= usable & (t_ns == nearest(t_ns[usable & outside]))
        piece = Channel(name, samples.t_ns[near], samples.values[near])
        pieces.append(align([piece], Span(start, end)))
    assert pa.concat_tables(pieces).equals(aligned([samples], 9 * NS_PER_S))


def test_linear_signals_are_reproduced() -> None:
    t_ns = np.sort(np.random.default_rng(1).integers(0, 10 * NS_PER_S, 400))
    table = aligned([channel("speed_mps", t_ns, 3.0 + t_ns * 2e-9)], 10 * NS_PER_S)
    inside = (grid(Span(0, 10 * NS_PER_S)) >= t_ns[0]) & (grid(Span(0, 10 * NS_PER_S)) <= t_ns[-1])
    got = table.column("speed_mps").to_numpy()
    np.testing.assert_allclose(
        got[inside], (3.0 + grid(Span(0, 10 * NS_PER_S)) * 2e-9)[inside], rtol=1e-13
    )


def test_constant_signals_are_reproduced_exactly() -> None:
    t_ns = np.random.default_rng(2).integers(0, NS_PER_S, 50)
    table = aligned([channel("alt_m", t_ns, np.full(50, 0.1))], NS_PER_S)
    assert set(table.column("alt_m").to_pylist()) == {0.1}


def test_order_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    t_ns = rng.choice(10**6, 80, False) * 2000
    values = rng.normal(size=80)
    shuffle = rng.permutation(80)
    one = aligned([channel("accel_x_mps2", t_ns, values)], 2 * NS_PER_S)
    assert one.equals(
        aligned([channel("accel_x_mps2", t_ns[shuffle], values[shuffle])], 2 * NS_PER_S)
    )
    halves = [
        channel("accel_x_mps2", t_ns[:30], values[:30]),
        channel("accel_x_mps2", t_ns[30:], values[30:]),
    ]
    assert one.equals(aligned(halves, 2 * NS_PER_S))


def test_of_samples_at_one_instant_the_last_counts() -> None:
    burst = channel("speed_mps", [0, 0, 0, 20 * NS_PER_MS], [1.0, np.nan, 2.0, 3.0])
    assert aligned([burst], 40 * NS_PER_MS).column("speed_mps").to_pylist() == [2.0, 3.0]


def test_a_linear_signal_is_held_for_its_tolerance_and_null_beyond() -> None:
    tolerance = SIGNAL["speed_mps"].tolerance_ns
    table = aligned([channel("speed_mps", [NS_PER_S], [7.0])], 2 * NS_PER_S)
    for t_ns, value in zip(
        table.column("t_ns").to_pylist(), table.column("speed_mps").to_pylist(), strict=True
    ):
        assert value == (7.0 if abs(t_ns - NS_PER_S) <= tolerance else None)


def test_a_gap_longer_than_the_tolerance_is_null_but_its_ends() -> None:
    gap = SIGNAL["speed_mps"].tolerance_ns + GRID_NS
    table = aligned([channel("speed_mps", [0, gap], [1.0, 2.0])], gap + GRID_NS)
    got = table.column("speed_mps").to_pylist()
    assert (got[0], got[-1], set(got[1:-1])) == (1.0, 2.0, {None})


def test_angles_take_the_shorter_arc() -> None:
    table = aligned([channel("heading_rad", [0, 40 * NS_PER_MS], [3.1, -3.1])], 60 * NS_PER_MS)
    got = table.column("heading_rad").to_pylist()
    assert got[1] == pytest.approx(math.pi)
    assert got[2] == -3.1


def test_strings_and_truth_values_are_states() -> None:
    gear = channel("gear", [0, 20, 40], ["park", None, "drive"], object)
    left = channel("blinker_left", [0], [True], np.bool_)
    table = aligned([gear, left], 40 * NS_PER_MS)
    assert table.column("gear").to_pylist() == ["park", "drive"]
    assert table.column("blinker_left").to_pylist() == [True, True]
    assert table.schema.field("blinker_left").type == pa.bool_()


def test_forged_times_and_values_make_nulls_not_errors() -> None:
    edge = np.iinfo(np.int64)
    forged = channel(
        "speed_mps", [edge.min, edge.max, 0, 20 * NS_PER_MS], [1, 2, -1.7e308, 1.7e308]
    )
    assert aligned([forged], 60 * NS_PER_MS).column("speed_mps").to_pylist()[0] == -1.7e308
    far = channel("gear", [edge.min, edge.max], ["park", "drive"], object)
    assert aligned([far], 60 * NS_PER_MS).column("gear").null_count == 3


def test_an_unknown_name_is_a_bug() -> None:
    with pytest.raises(ValueError, match="wheel_slip"):
        aligned([channel("wheel_slip", [0], [1.0])], NS_PER_S)


def test_a_long_log_with_few_samples_has_them_where_they_are() -> None:
    """Of the ten hours around them nothing is computed."""
    at = 5 * 3600 * NS_PER_S
    made = [
        channel("speed_mps", [at, at + 40 * NS_PER_MS], [1.0, 3.0]),
        channel("brake_on", [at], [1]),
    ]
    table = aligned(made, 10 * 3600 * NS_PER_S)
    first = at // GRID_NS
    speed, brake = table["speed_mps"].combine_chunks(), table["brake_on"].combine_chunks()
    assert speed.slice(first, 3).to_pylist() == [1.0, 2.0, 3.0]
    reach = {name: SIGNAL[name].tolerance_ns // GRID_NS for name in ("speed_mps", "brake_on")}
    assert len(speed) - speed.null_count == 3 + 2 * reach["speed_mps"]
    assert len(brake) - brake.null_count == 1 + reach["brake_on"]
