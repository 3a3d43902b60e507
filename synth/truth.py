"""Ground truth of a synthetic fleet, as Parquet tables in OUT/truth/.

`t_ns` counts from the log's start, as in a reader's output. `log_name` is the name that
discovery gives the log when run on OUT; `drive` is the name of the drive.

- events: one row per injected event. `params` is compact JSON of numbers, units in the names.
- boxes: one row per actor, frame and camera: the extent inside the image in pixels, and the
  share of it that nearer actors occlude. Empty without pictures.
- ego: the pose of the car on the 50 Hz grid in a local map (x east, y north, m), at the middle
  of the rear axle; the heading is counter-clockwise from east and not wrapped.
- signals: the signals of ideal sensors on the 50 Hz grid, with the names and units of
  schemas.signals; also lead_*, which TeslaCam files do not have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.arrays import IntArray
from schemas.ids import canonical
from schemas.signals import SIGNALS
from schemas.times import GRID_NS, NS_PER_S, Span, grid
from synth.pictures import Boxes
from synth.profiles import SIM_HZ
from synth.recorded import Drive
from synth.script import Injected
from synth.sensors import clean

_KEY = [pa.field("drive", pa.string(), False), pa.field("log_name", pa.string(), False)]


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([*_KEY, *(pa.field(name, kind, False) for name, kind in columns.items())])


EVENTS = _schema(
    type=pa.string(),
    start_ns=pa.int64(),
    anchor_ns=pa.int64(),
    end_ns=pa.int64(),
    params=pa.string(),
)
BOXES = _schema(
    **{
        "camera": pa.string(),
        "t_ns": pa.int64(),
        "track_id": pa.int64(),
        "class": pa.string(),
        "x_px": pa.float64(),
        "y_px": pa.float64(),
        "w_px": pa.float64(),
        "h_px": pa.float64(),
        "occluded_frac": pa.float64(),
    }
)
EGO = _schema(
    t_ns=pa.int64(),
    x_m=pa.float64(),
    y_m=pa.float64(),
    heading_rad=pa.float64(),
    speed_mps=pa.float64(),
)
SIGNAL_TRUTH = pa.schema(
    [*_KEY, pa.field("t_ns", pa.int64(), False), *(pa.field(s.name, s.type) for s in SIGNALS)]
)
TABLES: dict[str, pa.Schema] = {
    "events": EVENTS,
    "boxes": BOXES,
    "ego": EGO,
    "signals": SIGNAL_TRUTH,
}
"""Schemas of the tables in OUT/truth/."""

_STEP_NS = NS_PER_S // SIM_HZ


def duration_ns(drive: Drive) -> int:
    """Returns the duration of a drive's log."""
    return len(drive.motion.t_s) * _STEP_NS


def events(drive: Drive, log_name: str, extra: Sequence[Injected] = ()) -> pa.Table:
    """Lists the injected events and the `extra` ones of this recording, ordered by start."""
    rows = sorted([*drive.script.events, *extra], key=lambda event: (event.start, event.type))
    columns = {
        "type": [event.type for event in rows],
        "start_ns": [event.start * _STEP_NS for event in rows],
        "anchor_ns": [event.anchor * _STEP_NS for event in rows],
        "end_ns": [event.end * _STEP_NS for event in rows],
        "params": [canonical(event.params).decode("ascii") for event in rows],
    }
    return _keyed(drive, log_name, columns, len(rows), EVENTS)


def boxes(drive: Drive, log_name: str, parts: Sequence[Boxes]) -> pa.Table:
    """Lists the boxes of all pictures, in the order of rendering."""
    names = BOXES.names[len(_KEY) :]
    columns = {name: [value for part in parts for value in part[name]] for name in names}
    return _keyed(drive, log_name, dict(columns), len(columns["t_ns"]), BOXES)


def ego(drive: Drive, log_name: str) -> pa.Table:
    """Lists the true poses on the 50 Hz grid."""
    t_ns, pick = _grid(drive)
    columns = {
        "t_ns": t_ns,
        **{
            name: getattr(drive.motion, name)[pick]
            for name in ("x_m", "y_m", "heading_rad", "speed_mps")
        },
    }
    return _keyed(drive, log_name, columns, len(t_ns), EGO)


def signals(drive: Drive, log_name: str) -> pa.Table:
    """Lists the true signals on the 50 Hz grid."""
    t_ns, pick = _grid(drive)
    true = clean(drive.motion)
    true["lead_distance_m"] = drive.traffic.lead_distance_m
    true["lead_speed_mps"] = drive.traffic.lead_speed_mps
    columns: dict[str, object] = {"t_ns": t_ns}
    for signal in SIGNALS:
        values = true[signal.name][pick]
        missing = np.isnan(values) if values.dtype.kind == "f" else None
        columns[signal.name] = pa.array(values, signal.type, mask=missing)
    return _keyed(drive, log_name, columns, len(t_ns), SIGNAL_TRUTH)


def _grid(drive: Drive) -> tuple[IntArray, slice]:
    return grid(Span(0, duration_ns(drive))), slice(None, None, GRID_NS // _STEP_NS)


def _keyed(
    drive: Drive, log_name: str, columns: dict[str, object], rows: int, schema: pa.Schema
) -> pa.Table:
    key = {"drive": [drive.name] * rows, "log_name": [log_name] * rows}
    return pa.table(key | columns, schema=schema)
