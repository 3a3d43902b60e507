"""Ticks: a virtual table for triggers that sample logs regardless of their contents."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from schemas.ids import uniform
from schemas.times import NS_PER_S, seconds

MAX_TICKS = 7 * 24 * 3600
"""Limit per log, a week: a forged duration must not exhaust the memory."""

_LOWER = float(1 << 26)
"""Splits a uniform number into upper and lower bits."""

SCHEMA = pa.schema(
    [
        pa.field("log_id", pa.string(), nullable=False),
        pa.field("t_ns", pa.int64(), nullable=False),
        pa.field("uniform", pa.float64(), nullable=False),
        pa.field("log_s", pa.float64(), nullable=False),
    ]
)


def ticks(logs: pa.Table) -> pa.Table:
    """Places one tick in every second of every log, at a time drawn by the log's id.

    A log of d seconds is divided into ceil(d) equal slots. Each has one tick, uniformly
    distributed in the slot, so that every instant of the log is equally likely to be a tick.

    Args:
        logs: rows of `logs`; log_id and duration_ns are read.

    Returns:
        Rows log_id, t_ns, uniform (in [0, 1), a hash of log and slot) and log_s (the log's
        duration), sorted by log and time.
    """
    ids, durations = logs.column("log_id").to_pylist(), logs.column("duration_ns").to_pylist()
    parts = [SCHEMA.empty_table()]
    for log_id, duration_ns in sorted(zip(ids, durations, strict=True)):
        slots = min(-(-duration_ns // NS_PER_S), MAX_TICKS)
        if slots <= 0:
            continue
        drawn = np.array([uniform("tick", f"{log_id} {slot}") for slot in range(slots)])
        # Triggers compare the number's upper bits; its lower bits give the time in the slot.
        place = (np.arange(slots) + (drawn * _LOWER) % 1.0) / slots
        t_ns = np.minimum((place * duration_ns).astype(np.int64), duration_ns - 1)
        log_s = np.full(slots, seconds(duration_ns))
        parts.append(pa.table([pa.array([log_id] * slots), t_ns, drawn, log_s], schema=SCHEMA))
    return pa.concat_tables(parts)
