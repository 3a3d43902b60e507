"""The parts of an event's sample: its clips, its signals and its labels, each by itself.

A part holds nothing that another part depends on, so each is made anew alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label.labels import Labels
from auto_label.specs import LabelSpec, PixelSpec
from schemas.arrays import AnyArray
from schemas.errors import CorruptError
from schemas.records import Event
from schemas.signals import SIGNALS
from transforms.corpora import Sample

_LOG_FIELDS = (
    "log_id",
    "drive_id",
    "vehicle_id",
    "platform",
    "format",
    "clock",
    "start_ns",
    "start_local",
    "software",
    "joint_names",
)
"""The fields of a log that its samples hold: no location of the log or of the lake."""


def clip_part(
    event: Event,
    clips: Mapping[str, bytes],
    sizes: Mapping[str, tuple[int, int]],
    spec: PixelSpec,
) -> Sample:
    """Makes the part that holds the clips.

    Args:
        event: the event; its id is the sample's key.
        clips: an MP4 by camera; none for a log without video.
        sizes: width and height by camera, px.
        spec: what the clips were made with.
    """
    pictures = {
        "payload": "clip",
        "cameras": {
            camera: {"width_px": sizes[camera][0], "height_px": sizes[camera][1]}
            for camera in clips
        },
        "pixels": {**spec.told, "digest": spec.digest},
    }
    return Sample(event.event_id, clips=clips, pictures=pictures)


def labels_part(event: Event, log: Mapping[str, Any], labels: Labels, spec: LabelSpec) -> Sample:
    """Makes the part that holds the event, its log and its labels by column.

    Args:
        event: the event.
        log: the row of `logs` of its log.
        labels: its labels.
        spec: what they were made with.
    """
    metadata = {
        "event": asdict(event),
        "log": {name: log[name] for name in _LOG_FIELDS},
        **{table: _columns(rows) for table, rows in labels.tables().items()},
        "labelling": {**asdict(spec), "models": list(spec.models), "digest": spec.link_digest},
    }
    return Sample(event.event_id, metadata=metadata)


def signals_part(event: Event, signals: pa.Table, joints: pa.Table) -> Sample:
    """Makes the part that holds the signals.

    Args:
        event: the event.
        signals: rows of `signals` of its log; those outside the event are left out.
        joints: rows of `joints` of its log, likewise.

    Returns:
        `t_ns` int64[n] and each signal that the vehicle has, float64[n] with NaN, int8[n] with
        -1 or text with "" where it is unknown, and for a robot `joint_t_ns` and
        `joint_{position,velocity,action}` float32[m, j].
    """
    arrays = _signal_arrays(_inside(signals, event)) | _joint_arrays(_inside(joints, event))
    return Sample(event.event_id, signals=arrays)


def _columns(table: pa.Table) -> dict[str, list[Any]]:
    kept = table.drop_columns(["event_id", "spec_digest"])
    return {name: kept.column(name).to_pylist() for name in kept.column_names}


def _inside(table: pa.Table, event: Event) -> pa.Table:
    t_ns = pc.field("t_ns")
    return table.filter((t_ns >= event.start_ns) & (t_ns < event.end_ns)).sort_by("t_ns")


def _signal_arrays(signals: pa.Table) -> dict[str, AnyArray]:
    if not signals.num_rows:
        return {}
    arrays: dict[str, AnyArray] = {"t_ns": signals.column("t_ns").to_numpy()}
    for signal in SIGNALS:
        column = signals.column(signal.name)
        if column.null_count == len(column):
            continue
        if pa.types.is_floating(signal.type):
            arrays[signal.name] = column.to_numpy().astype(np.float64)
        elif pa.types.is_boolean(signal.type):
            arrays[signal.name] = column.cast(pa.int8()).fill_null(-1).to_numpy()
        else:
            arrays[signal.name] = np.array(column.fill_null("").to_pylist(), dtype=np.str_)
    return arrays


def _joint_arrays(joints: pa.Table) -> dict[str, AnyArray]:
    if not joints.num_rows:
        return {}
    arrays: dict[str, AnyArray] = {"joint_t_ns": joints.column("t_ns").to_numpy()}
    for name in ("position", "velocity", "action"):
        rows = joints.column(name).to_pylist()
        widths = {len(row) for row in rows if row is not None}
        if not widths:
            continue
        if len(widths) > 1:
            raise CorruptError(
                f"joints: {name} has rows of {sorted(widths)} numbers; ingest the log again"
            )
        unknown = [np.nan] * widths.pop()
        table = [unknown if row is None else row for row in rows]
        arrays[f"joint_{name}"] = np.array(table, dtype=np.float32)
    return arrays
