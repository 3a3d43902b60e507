"""The tables of the lake: one Arrow schema each, SI units in the column names.

`t_ns` counts from the start of its log (see schemas.times). Columns that every row has
are not nullable. A change of a schema is an entry of CHANGELOG.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from schemas.signals import SIGNALS

_S, _I, _F, _F32, _B = pa.string(), pa.int64(), pa.float64(), pa.float32(), pa.bool_()


def _must(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=False)


def _may(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=True)


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its name, what a row is, its schema and the order of its rows."""

    name: str
    row: str
    schema: pa.Schema
    order: tuple[str, ...]

    def conform(self, data: pa.Table) -> pa.Table:
        """Casts `data` to the schema, fills absent nullable columns, sorts by `order`.

        Raises:
            ValueError: a column that must be there is absent, or one is not of the table.
        """
        unknown = set(data.column_names) - set(self.schema.names)
        if unknown:
            raise ValueError(f"table {self.name!r} has no columns {sorted(unknown)}")
        columns = []
        for field in self.schema:
            if field.name in data.column_names:
                columns.append(data.column(field.name).cast(field.type))
            elif field.nullable:
                columns.append(pa.nulls(data.num_rows, field.type))
            else:
                raise ValueError(f"table {self.name!r} needs a column {field.name!r}")
        table = pa.Table.from_arrays(columns, schema=self.schema)
        for field in self.schema:
            if not field.nullable and table.column(field.name).null_count:
                raise ValueError(f"column {field.name!r} of {self.name!r} must not be null")
        return table.sort_by([(name, "ascending") for name in self.order])

    def empty(self) -> pa.Table:
        """Returns the table without rows."""
        return self.schema.empty_table()


COUNT = pa.struct(
    [
        _must("stage", _S),
        _must("of", _S),
        _must("kept", _I),
        _must("filtered", _I),
        _must("rejected", _I),
    ]
)
"""One line of a run's balance; `in` is kept + filtered + rejected."""

_ALL = (
    Table(
        "logs",
        "one log: one recording in one format",
        pa.schema(
            [
                _must("log_id", _S),
                _must("drive_id", _S),
                _must("vehicle_id", _S),
                _must("platform", _S),
                _must("format", _S),
                _must("name", _S),
                _must("uri", _S),
                _must("fingerprint", _S),
                _may("start_ns", _I),
                _may("start_local", _S),
                _must("duration_ns", _I),
                _must("clock", _S),
                _may("software", _S),
                _must("joint_names", pa.list_(_S)),
            ]
        ),
        ("log_id",),
    ),
    Table(
        "videos",
        "one camera's file",
        pa.schema(
            [
                _must("log_id", _S),
                _must("camera", _S),
                _must("uri", _S),
                _must("codec", _S),
                _must("width", _I),
                _must("height", _I),
                _must("frames", _I),
                _must("first_pts_ns", _I),
                _must("start_ns", _I),
                _must("duration_ns", _I),
                _must("time_base_num", _I),
                _must("time_base_den", _I),
                _must("variable_rate", _B),
            ]
        ),
        ("log_id", "camera", "start_ns", "uri"),
    ),
    Table(
        "frames",
        "one frame, not decoded",
        pa.schema(
            [
                _must("log_id", _S),
                _must("camera", _S),
                _must("uri", _S),
                _must("frame_index", _I),
                _must("t_ns", _I),
                _must("pts", _I),
                _must("is_keyframe", _B),
                _must("byte_offset", _I),
                _must("byte_size", _I),
            ]
        ),
        ("log_id", "camera", "t_ns", "uri", "frame_index"),
    ),
    Table(
        "signals",
        "one instant of a vehicle on the 50 Hz grid; null where it has none",
        pa.schema(
            [_must("log_id", _S), _must("t_ns", _I)] + [_may(s.name, s.type) for s in SIGNALS]
        ),
        ("log_id", "t_ns"),
    ),
    Table(
        "joints",
        "one instant of a robot; the names of its joints are in logs",
        pa.schema(
            [
                _must("log_id", _S),
                _must("t_ns", _I),
                _must("position", pa.list_(_F32)),
                _may("velocity", pa.list_(_F32)),
                _may("action", pa.list_(_F32)),
            ]
        ),
        ("log_id", "t_ns"),
    ),
    Table(
        "channels",
        "one native sample of one channel, kept on request",
        pa.schema(
            [_must("log_id", _S), _must("channel", _S), _must("t_ns", _I), _may("value", _F)]
        ),
        ("log_id", "channel", "t_ns"),
    ),
    Table(
        "annotations",
        "one moment that the vehicle or its driver marked while recording",
        pa.schema(
            [
                _must("log_id", _S),
                _must("t_ns", _I),
                _must("reason", _S),
                _may("camera", _S),
                _may("lat_deg", _F),
                _may("lon_deg", _F),
            ]
        ),
        ("log_id", "t_ns", "reason"),
    ),
    Table(
        "scene",
        "one keyframe or frame as the sweep saw it; counts are null without a detector",
        pa.schema(
            [
                _must("log_id", _S),
                _must("camera", _S),
                _must("t_ns", _I),
                _must("brightness", _F),
                _must("sharpness", _F),
                _may("vehicles", _I),
                _may("persons", _I),
                _may("bicycles", _I),
                _may("vru_height_frac", _F),
                _may("lead_distance_m", _F),
                _must("source", _S),
                _must("source_version", _S),
            ]
        ),
        ("log_id", "camera", "t_ns"),
    ),
    Table(
        "events",
        "one mined moment",
        pa.schema(
            [
                _must("event_id", _S),
                _must("log_id", _S),
                _must("drive_id", _S),
                _must("trigger", _S),
                _must("trigger_version", _I),
                _must("params_digest", _S),
                _must("start_ns", _I),
                _must("anchor_ns", _I),
                _must("end_ns", _I),
                _must("score", _F),
                _must("evidence", _S),
            ]
        ),
        ("log_id", "trigger", "start_ns", "event_id"),
    ),
    Table(
        "boxes",
        "one box on one frame; the top left corner and the size, in pixels",
        pa.schema(
            [
                _must("event_id", _S),
                _must("camera", _S),
                _must("track_id", _I),
                _must("t_ns", _I),
                _must("class", _S),
                _must("x_px", _F),
                _must("y_px", _F),
                _must("w_px", _F),
                _must("h_px", _F),
                _must("score", _F),
                _must("source", _S),
                _must("source_version", _S),
                _must("spec_digest", _S),
            ]
        ),
        ("event_id", "spec_digest", "camera", "track_id", "t_ns"),
    ),
    Table(
        "tracks",
        "one object followed through one camera of one event",
        pa.schema(
            [
                _must("event_id", _S),
                _must("camera", _S),
                _must("track_id", _I),
                _must("class", _S),
                _must("start_ns", _I),
                _must("end_ns", _I),
                _must("boxes", _I),
                _must("score", _F),
                _must("source", _S),
                _must("source_version", _S),
                _must("spec_digest", _S),
            ]
        ),
        ("event_id", "spec_digest", "camera", "track_id"),
    ),
    Table(
        "ego_path",
        "one instant of the ego pose; the origin is the pose at the event's anchor",
        pa.schema(
            [
                _must("event_id", _S),
                _must("t_ns", _I),
                _must("x_m", _F),
                _must("y_m", _F),
                _must("heading_rad", _F),
                _must("speed_mps", _F),
                _must("sigma_m", _F),
                _must("source", _S),
                _must("source_version", _S),
                _must("spec_digest", _S),
            ]
        ),
        ("event_id", "spec_digest", "t_ns"),
    ),
    Table(
        "samples",
        "one event's encoded payload: a byte range of a pack",
        pa.schema(
            [
                _must("event_id", _S),
                _must("log_id", _S),
                _must("drive_id", _S),
                _must("payload", _S),
                _must("pack_uri", _S),
                _must("offset", _I),
                _must("length", _I),
                _must("sha256", _S),
                _must("spec_digest", _S),
                _must("duration_ns", _I),
                _must("cameras", pa.list_(_S)),
                _must("privacy", _S),
            ]
        ),
        ("event_id", "spec_digest", "payload"),
    ),
    Table(
        "rejects",
        "one unusable input",
        pa.schema(
            [
                _must("uri", _S),
                _must("stage", _S),
                _must("reason", _S),
                _must("detail", _S),
                _must("subject", _S),
                _must("run_id", _S),
            ]
        ),
        ("uri", "stage", "reason", "detail"),
    ),
    Table(
        "ledger",
        "one input that a stage is done with; what a later run skips",
        pa.schema(
            [
                _must("stage", _S),
                _must("subject", _S),
                _must("stage_digest", _S),
                _must("outcome", _S),
                _must("run_id", _S),
            ]
        ),
        ("stage", "subject", "stage_digest"),
    ),
    Table(
        "runs",
        "one job run, and the version of every table as it left them",
        pa.schema(
            [
                _must("run_id", _S),
                _must("job", _S),
                _must("config_digest", _S),
                _must("config", _S),
                _must("versions", pa.list_(pa.struct([_must("table", _S), _must("version", _I)]))),
                _must("started_ns", _I),
                _must("finished_ns", _I),
                _must("counts", pa.list_(COUNT)),
            ]
        ),
        ("started_ns", "run_id"),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _ALL}
