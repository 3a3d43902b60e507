"""Alignment: resamples the native samples of vehicle signals to the 50 Hz grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.arrays import AnyArray, BoolArray, FloatArray, IntArray
from schemas.recording import Channel
from schemas.signals import SIGNAL, SIGNALS, Signal
from schemas.times import Span, grid


def align(signals: Sequence[Channel], span: Span) -> pa.Table:
    """Resamples native samples to the instants of schemas.times.grid.

    Of samples outside the span only the nearest usable one of each signal on either side bears on
    the result, wherever it is, so that a log can be read in pieces.

    Samples may be in any order; the last of equal timestamps is kept. Channels of the same
    name are concatenated. Samples that are NaN, infinite, None or an empty string are
    invalid and dropped.

    Args:
        signals: channels named by rows of schemas.signals, values in their units.
        span: of the log's time.

    Returns:
        n rows; a column t_ns int64 and one for each row of SIGNALS, of its type, with nulls
        as defined by schemas.signals.Signal. Before the first and after the last sample, an
        interpolated signal holds that sample for its tolerance.

    Raises:
        ValueError: a channel's name is not in schemas.signals.

    >>> speed = Channel("speed_mps", np.array([0, 40_000_000]), np.array([1.0, 3.0]))
    >>> align([speed], Span(0, 60_000_000)).column("speed_mps").to_pylist()
    [1.0, 2.0, 3.0]
    """
    unknown = sorted({channel.name for channel in signals} - set(SIGNAL))
    if unknown:
        raise ValueError(f"channels {unknown} are not in schemas.signals; add them there")
    t_ns = grid(span)
    columns = {"t_ns": pa.array(t_ns)}
    for signal in SIGNALS:
        named = [channel for channel in signals if channel.name == signal.name]
        columns[signal.name] = _column(signal, named, t_ns)
    return pa.table(columns)


def _column(signal: Signal, channels: Sequence[Channel], t_ns: IntArray) -> pa.Array:
    if not channels or not len(t_ns):
        return pa.nulls(len(t_ns), signal.type)
    sample_ns, values = _clean(
        signal,
        np.concatenate([channel.t_ns for channel in channels]),
        np.concatenate([_typed(signal, channel.values) for channel in channels]),
        reach_ns=int(t_ns[-1]) + 2 * signal.tolerance_ns + 1,
    )
    if not len(sample_ns):
        return pa.nulls(len(t_ns), signal.type)
    # Before and behind the samples there is nothing, however long a log is said to last.
    reach = (sample_ns[0] - signal.tolerance_ns, sample_ns[-1] + signal.tolerance_ns + 1)
    start, end = (int(row) for row in np.searchsorted(t_ns, reach))
    near_ns = t_ns[start:end]
    if signal.kind == "state":
        column, valid = _held(sample_ns, values, near_ns, signal.tolerance_ns)
    else:
        column, valid = _linear(
            sample_ns, values, near_ns, signal.tolerance_ns, arc=signal.kind == "angle"
        )
    near = pa.array(column, type=signal.type, mask=~valid)
    before, behind = (pa.nulls(rows, signal.type) for rows in (start, len(t_ns) - end))
    return pa.concat_arrays([before, near, behind])


def _typed(signal: Signal, values: AnyArray) -> AnyArray:
    """Converts values to float64 with NaN for None, or for strings to an object array."""
    return values.astype(object if pa.types.is_string(signal.type) else np.float64)


def _clean(
    signal: Signal, t_ns: IntArray, values: AnyArray, reach_ns: int
) -> tuple[IntArray, AnyArray]:
    """Sorts by time, drops invalid samples, and keeps the last of equal timestamps."""
    if pa.types.is_string(signal.type):
        valid = np.array([isinstance(v, str) and v != "" for v in values], dtype=np.bool_)
    else:
        valid = np.isfinite(values)
    # Differences of forged times must not overflow; times beyond reach have no effect.
    t_ns = np.clip(t_ns[valid], -reach_ns, reach_ns)
    values = values[valid]
    order = np.argsort(t_ns, kind="stable")
    t_ns, values = t_ns[order], values[order]
    last = np.append(t_ns[1:] != t_ns[:-1], True) if len(t_ns) else np.zeros(0, np.bool_)
    t_ns, values = t_ns[last], values[last]
    if pa.types.is_boolean(signal.type):
        values = values != 0
    return t_ns, values


def _held(
    sample_ns: IntArray, values: AnyArray, t_ns: IntArray, tolerance_ns: int
) -> tuple[AnyArray, BoolArray]:
    before = np.searchsorted(sample_ns, t_ns, side="right") - 1
    held = np.maximum(before, 0)
    return values[held], (before >= 0) & (t_ns - sample_ns[held] <= tolerance_ns)


def _linear(
    sample_ns: IntArray, values: FloatArray, t_ns: IntArray, tolerance_ns: int, *, arc: bool
) -> tuple[FloatArray, BoolArray]:
    after = np.searchsorted(sample_ns, t_ns, side="left")
    right = np.minimum(after, len(sample_ns) - 1)
    # On a sample, and before the first and after the last, both neighbours are the same.
    left = np.where(sample_ns[right] > t_ns, np.maximum(after - 1, 0), right)
    gap_ns = sample_ns[right] - sample_ns[left]
    away_ns = np.abs(t_ns - sample_ns[left])
    share = np.divide(away_ns, gap_ns, out=np.zeros(len(t_ns)), where=gap_ns > 0)
    with np.errstate(over="ignore", invalid="ignore"):
        step = values[right] - values[left]
        column = values[left] + (_wrap(step) if arc else step) * share
    if arc:
        column = _wrap(column)
    valid = np.where(gap_ns > 0, gap_ns, away_ns) <= tolerance_ns
    return column, valid & np.isfinite(column)


def _wrap(angle: FloatArray) -> FloatArray:
    """Wraps angles to (-pi, pi].

    >>> _wrap(np.array([np.pi, -np.pi, 1.5])).round(3).tolist()
    [3.142, 3.142, 1.5]
    """
    inside = (angle > -np.pi) & (angle <= np.pi)
    wrapped = np.where(inside, angle, np.pi - np.mod(np.pi - angle, 2 * np.pi))
    # Just above pi, the modulus rounds to a full turn.
    return np.where(wrapped <= -np.pi, np.pi, wrapped)
