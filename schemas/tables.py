"""The tables of the lake: one Arrow schema each, with SI units in the column names.

`t_ns` counts from the start of its log (see schemas.times). Columns that every row has
are not nullable. A column that is added to a table is nullable and its last; a change of a
schema raises FORMAT and is an entry in CHANGELOG.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.signals import SIGNALS

FORMAT = 4
"""The lake's format: 2 added `ledger.task` and `runs.number`, 3 the tables `views`, `detections`
and `parts`, which replaces `samples`, 4 the table `verdicts`."""

_S, _I, _F, _F32, _B = pa.string(), pa.int64(), pa.float64(), pa.float32(), pa.bool_()


def _required(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=False)


def _optional(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=True)


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its name, what a row is, its schema, and the columns it is sorted by."""

    name: str
    row: str
    schema: pa.Schema
    order: tuple[str, ...]

    def conform(self, rows: pa.Table) -> pa.Table:
        """Casts rows to the schema, fills absent nullable columns and sorts by `order`.

        Raises:
            ValueError: a required column is absent or has nulls, or a column is unknown.
        """
        unknown = set(rows.column_names) - set(self.schema.names)
        if unknown:
            raise ValueError(f"table {self.name!r} has no columns {sorted(unknown)}")
        columns = []
        for field in self.schema:
            if field.name in rows.column_names:
                columns.append(rows.column(field.name).cast(field.type))
            elif field.nullable:
                columns.append(pa.nulls(rows.num_rows, field.type))
            else:
                raise ValueError(f"table {self.name!r} needs a column {field.name!r}")
        table = pa.Table.from_arrays(columns, schema=self.schema)
        for field in self.schema:
            if not field.nullable and table.column(field.name).null_count:
                raise ValueError(f"column {field.name!r} of {self.name!r} must not be null")
        if _is_sorted(table, self.order):
            return table
        return table.sort_by([(name, "ascending") for name in self.order])

    def empty(self) -> pa.Table:
        """Returns an empty table of this schema."""
        return self.schema.empty_table()


def _is_sorted(table: pa.Table, order: Sequence[str]) -> bool:
    """Whether rows ascend by columns without nulls; much cheaper than to sort them again."""
    if len(table) < 2:
        return True
    tied: pa.ChunkedArray | None = None
    for name in order:
        before, after = table.column(name).slice(0, len(table) - 1), table.column(name).slice(1)
        falls, same = pc.greater(before, after), pc.equal(before, after)
        if tied is not None:
            falls, same = pc.and_(tied, falls), pc.and_(tied, same)
        if pc.any(falls).as_py():
            return False
        if not pc.any(same).as_py():
            return True
        tied = same
    return True


COUNT = pa.struct(
    [
        _required("stage", _S),
        _required("of", _S),
        _required("kept", _I),
        _required("filtered", _I),
        _required("rejected", _I),
    ]
)
"""One line of a run's balance; `in` is kept + filtered + rejected."""

_BOX = (
    _required("class", _S),
    _required("x_px", _F),
    _required("y_px", _F),
    _required("w_px", _F),
    _required("h_px", _F),
    _required("score", _F),
    _required("source", _S),
    _required("source_version", _S),
    _required("spec_digest", _S),
)
"""The columns of a box, as a model saw it or as it was linked."""

_REVIEWED_BOX = pa.struct(
    [
        _required("track_id", _I),
        _required("class", _S),
        _required("t_ns", _I),
        _required("x_px", _F),
        _required("y_px", _F),
        _required("w_px", _F),
        _required("h_px", _F),
    ]
)
"""A box as a reviewer left it: top left corner and size, in pixels."""

_ALL = (
    Table(
        "logs",
        "one log: one recording in one format",
        pa.schema(
            [
                _required("log_id", _S),
                _required("drive_id", _S),
                _required("vehicle_id", _S),
                _required("platform", _S),
                _required("format", _S),
                _required("name", _S),
                _required("uri", _S),
                _required("fingerprint", _S),
                _optional("start_ns", _I),
                _optional("start_local", _S),
                _required("duration_ns", _I),
                _required("clock", _S),
                _optional("software", _S),
                _required("joint_names", pa.list_(_S)),
            ]
        ),
        ("log_id",),
    ),
    Table(
        "videos",
        "one camera's file",
        pa.schema(
            [
                _required("log_id", _S),
                _required("camera", _S),
                _required("uri", _S),
                _required("codec", _S),
                _required("width", _I),
                _required("height", _I),
                _required("frames", _I),
                _required("first_pts_ns", _I),
                _required("start_ns", _I),
                _required("duration_ns", _I),
                _required("time_base_num", _I),
                _required("time_base_den", _I),
                _required("variable_rate", _B),
            ]
        ),
        ("log_id", "camera", "start_ns", "uri"),
    ),
    Table(
        "frames",
        "one frame, not decoded",
        pa.schema(
            [
                _required("log_id", _S),
                _required("camera", _S),
                _required("uri", _S),
                _required("frame_index", _I),
                _required("t_ns", _I),
                _required("pts", _I),
                _required("is_keyframe", _B),
                _required("byte_offset", _I),
                _required("byte_size", _I),
            ]
        ),
        ("log_id", "camera", "t_ns", "uri", "frame_index"),
    ),
    Table(
        "signals",
        "one instant of a vehicle on the 50 Hz grid; null where a signal has no value",
        pa.schema(
            [_required("log_id", _S), _required("t_ns", _I)]
            + [_optional(s.name, s.type) for s in SIGNALS]
        ),
        ("log_id", "t_ns"),
    ),
    Table(
        "joints",
        "one instant of a robot; the joint names are in logs",
        pa.schema(
            [
                _required("log_id", _S),
                _required("t_ns", _I),
                _required("position", pa.list_(_F32)),
                _optional("velocity", pa.list_(_F32)),
                _optional("action", pa.list_(_F32)),
            ]
        ),
        ("log_id", "t_ns"),
    ),
    Table(
        "channels",
        "one native sample of one channel, kept on request",
        pa.schema(
            [
                _required("log_id", _S),
                _required("channel", _S),
                _required("t_ns", _I),
                _optional("value", _F),
            ]
        ),
        ("log_id", "channel", "t_ns"),
    ),
    Table(
        "annotations",
        "one moment that the vehicle or its driver marked while recording",
        pa.schema(
            [
                _required("log_id", _S),
                _required("t_ns", _I),
                _required("reason", _S),
                _optional("camera", _S),
                _optional("lat_deg", _F),
                _optional("lon_deg", _F),
            ]
        ),
        ("log_id", "t_ns", "reason"),
    ),
    Table(
        "scene",
        "one frame measured by the sweep; counts are null without a detector",
        pa.schema(
            [
                _required("log_id", _S),
                _required("camera", _S),
                _required("t_ns", _I),
                _required("brightness", _F),
                _required("sharpness", _F),
                _optional("vehicles", _I),
                _optional("persons", _I),
                _optional("bicycles", _I),
                _optional("vru_height_frac", _F),
                _optional("lead_distance_m", _F),
                _required("source", _S),
                _required("source_version", _S),
            ]
        ),
        ("log_id", "camera", "t_ns"),
    ),
    Table(
        "events",
        "one mined moment",
        pa.schema(
            [
                _required("event_id", _S),
                _required("log_id", _S),
                _required("drive_id", _S),
                _required("trigger", _S),
                _required("trigger_version", _I),
                _required("params_digest", _S),
                _required("start_ns", _I),
                _required("anchor_ns", _I),
                _required("end_ns", _I),
                _required("score", _F),
                _required("evidence", _S),
            ]
        ),
        ("log_id", "trigger", "start_ns", "event_id"),
    ),
    Table(
        "views",
        "one camera of an event as one model looked at it; t_ns are the frames it was given",
        pa.schema(
            [
                _required("event_id", _S),
                _required("camera", _S),
                _required("width_px", _I),
                _required("height_px", _I),
                _required("t_ns", pa.list_(_I)),
                _required("source", _S),
                _required("source_version", _S),
                _required("spec_digest", _S),
            ]
        ),
        ("event_id", "spec_digest", "camera"),
    ),
    Table(
        "detections",
        "one box of one model on one frame, not linked; number counts those of the frame",
        pa.schema(
            [
                _required("event_id", _S),
                _required("camera", _S),
                _required("t_ns", _I),
                _required("number", _I),
                *_BOX,
            ]
        ),
        ("event_id", "spec_digest", "camera", "t_ns", "number"),
    ),
    Table(
        "boxes",
        "one box on one frame: top left corner and size, in pixels",
        pa.schema(
            [
                _required("event_id", _S),
                _required("camera", _S),
                _required("track_id", _I),
                _required("t_ns", _I),
                *_BOX,
            ]
        ),
        ("event_id", "spec_digest", "camera", "track_id", "t_ns"),
    ),
    Table(
        "tracks",
        "one object tracked through one camera of one event",
        pa.schema(
            [
                _required("event_id", _S),
                _required("camera", _S),
                _required("track_id", _I),
                _required("class", _S),
                _required("start_ns", _I),
                _required("end_ns", _I),
                _required("boxes", _I),
                _required("score", _F),
                _required("source", _S),
                _required("source_version", _S),
                _required("spec_digest", _S),
            ]
        ),
        ("event_id", "spec_digest", "camera", "track_id"),
    ),
    Table(
        "ego_path",
        "one instant of the ego pose; the origin is the pose at the event's anchor",
        pa.schema(
            [
                _required("event_id", _S),
                _required("t_ns", _I),
                _required("x_m", _F),
                _required("y_m", _F),
                _required("heading_rad", _F),
                _required("speed_mps", _F),
                _required("sigma_m", _F),
                _required("source", _S),
                _required("source_version", _S),
                _required("spec_digest", _S),
            ]
        ),
        ("event_id", "spec_digest", "t_ns"),
    ),
    Table(
        "privacy",
        "what was hidden on the clip of one camera of an event, and by which models; held counts "
        "regions that were covered between two looks at which they were found",
        pa.schema(
            [
                _required("event_id", _S),
                _required("camera", _S),
                _required("spec_digest", _S),
                _required("policy", _S),
                _required("models", pa.list_(_S)),
                _required("missing", pa.list_(_S)),
                _required("frames", _I),
                _required("looks", _I),
                _required("faces", _I),
                _required("heads", _I),
                _required("plates", _I),
                _required("held", _I),
                _required("area_mean_frac", _F),
                _required("area_max_frac", _F),
            ]
        ),
        ("event_id", "spec_digest", "camera"),
    ),
    Table(
        "parts",
        "one encoded part of an event's sample, as a byte range of a pack: clip, frames, signals "
        "or labels",
        pa.schema(
            [
                _required("event_id", _S),
                _required("log_id", _S),
                _required("drive_id", _S),
                _required("part", _S),
                _required("spec_digest", _S),
                _optional("source_digest", _S),
                _required("pack_uri", _S),
                _required("offset", _I),
                _required("length", _I),
                _required("sha256", _S),
                _required("duration_ns", _I),
                _required("cameras", pa.list_(_S)),
                _optional("privacy", _S),
            ]
        ),
        ("event_id", "part", "spec_digest"),
    ),
    Table(
        "samples",
        "one event's whole sample, as a byte range of a pack; written before format 3 of the lake",
        pa.schema(
            [
                _required("event_id", _S),
                _required("log_id", _S),
                _required("drive_id", _S),
                _required("payload", _S),
                _required("pack_uri", _S),
                _required("offset", _I),
                _required("length", _I),
                _required("sha256", _S),
                _required("spec_digest", _S),
                _required("duration_ns", _I),
                _required("cameras", pa.list_(_S)),
                _required("privacy", _S),
            ]
        ),
        ("event_id", "spec_digest", "payload"),
    ),
    Table(
        "verdicts",
        "one state of one reviewer's answer about one camera of an event; where frames_ns has a "
        "frame and boxes no box, there is none",
        pa.schema(
            [
                _required("event_id", _S),
                _required("log_id", _S),
                _required("drive_id", _S),
                _required("camera", _S),
                _required("task", _S),
                _required("annotation", _S),
                _required("updated_unix_ns", _I),
                _required("reviewer", _S),
                _optional("verdict", _S),
                _required("scene", pa.list_(_S)),
                _optional("comment", _S),
                _required("skipped", _B),
                _required("control", _B),
                _optional("seconds", _F),
                _required("width_px", _I),
                _required("height_px", _I),
                _required("frames_ns", pa.list_(_I)),
                _required("boxes", pa.list_(_REVIEWED_BOX)),
                _optional("labels_digest", _S),
            ]
        ),
        ("event_id", "camera", "annotation", "updated_unix_ns"),
    ),
    Table(
        "rejects",
        "one unusable input",
        pa.schema(
            [
                _required("uri", _S),
                _required("stage", _S),
                _required("reason", _S),
                _required("detail", _S),
                _required("subject", _S),
                _required("run_id", _S),
            ]
        ),
        ("uri", "stage", "reason", "detail"),
    ),
    Table(
        "ledger",
        "one input that a stage has processed; later runs skip it",
        pa.schema(
            [
                _required("stage", _S),
                _required("subject", _S),
                _required("stage_digest", _S),
                _required("outcome", _S),
                _required("run_id", _S),
                _optional("task", _S),
            ]
        ),
        ("stage", "subject", "stage_digest"),
    ),
    Table(
        "runs",
        "one job run, with the versions of the tables after it",
        pa.schema(
            [
                _required("run_id", _S),
                _required("job", _S),
                _required("config_digest", _S),
                _required("config", _S),
                _required(
                    "versions",
                    pa.list_(pa.struct([_required("table", _S), _required("version", _I)])),
                ),
                _required("started_ns", _I),
                _required("finished_ns", _I),
                _required("counts", pa.list_(COUNT)),
                _optional("number", _I),
            ]
        ),
        ("started_ns", "run_id"),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _ALL}
