"""Builds the rows of one log, conforming to the schemas of the lake's tables.

The rows stay in memory: `pipeline.stages.ingest` collects those of a task's logs and writes one
file per table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.arrays import Float32Array
from schemas.recording import Channel, Joints, LogHeader, Segment, Video
from schemas.records import Count, LogRef, Reject
from schemas.redaction import bare
from schemas.tables import TABLES
from schemas.times import NS_PER_S, Span, grid_rows
from transforms.align import align
from transforms.budget import UNLIMITED, require
from transforms.readers import FORMATS, OpenLog, ReadOptions
from transforms.readers.checks import check_header, check_segment
from transforms.timing import step


@dataclass(frozen=True, slots=True)
class LogRows:
    """One log's rows by table, with the rejects and counts of its parts."""

    tables: dict[str, pa.Table]
    rejects: tuple[Reject, ...]
    counts: tuple[Count, ...]


def read_log(log: LogRef, options: ReadOptions) -> LogRows:
    """Reads a log and makes its rows.

    Raises:
        DataError: the log cannot be used.
    """
    return log_rows(_open(log, options), options.memory_bytes)


def begin_log(log: LogRef, options: ReadOptions) -> tuple[LogRows, tuple[Span, ...]]:
    """Reads what is said of a log as a whole, and its only segment if it has one.

    Returns:
        The rows, and the spans of the segments that are left to be read; see `read_segment`.

    Raises:
        DataError: the log cannot be used.
    """
    opened = _open(log, options)
    if len(opened.segments) == 1:
        return log_rows(opened, options.memory_bytes), ()
    return log_rows(opened, options.memory_bytes, spans=()), opened.segments


def read_segment(log: LogRef, options: ReadOptions, span: Span) -> LogRows:
    """Reads one segment of a log.

    Raises:
        DataError: nothing of it is usable.
    """
    opened = _open(log, options)
    check_header(opened.header)
    return _made({}, opened, (span,), options.memory_bytes)


def _open(log: LogRef, options: ReadOptions) -> OpenLog:
    with step("read"):
        opened: OpenLog = FORMATS.load(log.format)().open(log, options)
    return opened


def log_rows(
    opened: OpenLog, allowed_bytes: int = UNLIMITED, *, spans: Sequence[Span] | None = None
) -> LogRows:
    """Makes the rows of an open log, segment by segment; tables without rows are left out.

    Args:
        opened: the log.
        allowed_bytes: what the rows may take; 0 for any amount.
        spans: the segments to read; None for all.

    Raises:
        DataError: the log cannot be used.
    """
    check_header(opened.header)
    parts = {"logs": [_log_rows(opened.header)]}
    return _made(parts, opened, opened.segments if spans is None else spans, allowed_bytes)


def _made(
    parts: dict[str, list[pa.Table]], opened: OpenLog, spans: Sequence[Span], allowed_bytes: int
) -> LogRows:
    """Adds the rows of segments to rows by table."""
    header = opened.header
    rejects: list[Reject] = []
    counts: list[Count] = []
    for span in spans:
        with step("read"):
            segment = opened.read(span)
        check_segment(header.log.uri, segment)
        _check_size(header.log.uri, segment, allowed_bytes)
        for table, rows in _segment_rows(header.log.log_id, segment).items():
            parts.setdefault(table, []).append(rows)
        rejects += segment.rejects
        counts += segment.counts
    tables = {name: TABLES[name].conform(pa.concat_tables(rows)) for name, rows in parts.items()}
    return LogRows(tables, tuple(rejects), tuple(counts))


def _segment_rows(log_id: str, segment: Segment) -> dict[str, pa.Table]:
    """Returns the rows of a segment by table; tables without rows are left out."""
    tables = {}
    if segment.videos:
        tables["videos"] = _rows("videos", [_video(log_id, video) for video in segment.videos])
        # In the table's order, or all frames would be sorted.
        videos = sorted(segment.videos, key=lambda v: (v.camera, v.t_ns[0], v.uri))
        tables["frames"] = pa.concat_tables([_frames(log_id, video) for video in videos])
    if segment.signals:
        with step("align"):
            grid = align(segment.signals, segment.span)
        tables["signals"] = grid.add_column(0, "log_id", _same(log_id, grid.num_rows))
    if segment.joints is not None:
        tables["joints"] = _joints(log_id, segment.joints)
    if segment.native:
        tables["channels"] = _channels(log_id, segment.native)
    if segment.annotations:
        rows = [{"log_id": log_id, **asdict(one)} for one in segment.annotations]
        tables["annotations"] = _rows("annotations", rows)
    return tables


def _check_size(uri: str, segment: Segment, allowed_bytes: int) -> None:
    """Checks the memory of a segment's rows: signals have one each 20 ms, however few they are.

    Raises:
        TooLargeError: they take more than an input may.
    """
    rows = {"frames": sum(len(video.t_ns) for video in segment.videos)}
    rows["signals"] = grid_rows(segment.span) if segment.signals else 0
    rows["channels"] = sum(len(channel.t_ns) for channel in segment.native)
    needed = sum(count * _row_bytes(table) for table, count in rows.items())
    said = ", ".join(f"{count:,} rows of {table}" for table, count in rows.items() if count)
    require(uri, said, needed, allowed_bytes)


def _row_bytes(table: str) -> int:
    """Returns the size of a row in memory: 16 bytes a text, 8 bytes a number, at most."""
    types = [field.type for field in TABLES[table].schema]
    return sum(8 if pa.types.is_primitive(one) else 16 for one in types)


def _rows(table: str, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TABLES[table].schema)


def _log_rows(header: LogHeader) -> pa.Table:
    log = header.log
    row = {
        "log_id": log.log_id,
        "drive_id": header.drive_id,
        "vehicle_id": header.vehicle_id,
        "platform": header.platform,
        "format": log.format,
        "name": log.name,
        "uri": bare(log.uri),
        "fingerprint": log.fingerprint,
        "start_ns": header.start_ns,
        "start_local": header.start_local,
        "duration_ns": header.duration_ns,
        "clock": header.clock,
        "software": header.software,
        "joint_names": list(header.joint_names),
    }
    return _rows("logs", [row])


def _video(log_id: str, video: Video) -> dict[str, Any]:
    numerator, denominator = video.time_base
    return {
        "log_id": log_id,
        "camera": video.camera,
        "uri": bare(video.uri),
        "codec": video.codec,
        "width": video.width,
        "height": video.height,
        "frames": len(video.t_ns),
        "first_pts_ns": round(int(video.pts[0]) * numerator * NS_PER_S / denominator),
        "start_ns": int(video.t_ns[0]),
        "duration_ns": video.duration_ns,
        "time_base_num": numerator,
        "time_base_den": denominator,
        "variable_rate": video.variable_rate,
    }


def _frames(log_id: str, video: Video) -> pa.Table:
    rows = len(video.t_ns)
    return pa.table(
        {
            "log_id": _same(log_id, rows),
            "camera": _same(video.camera, rows),
            "uri": _same(bare(video.uri), rows),
            "frame_index": np.arange(rows, dtype=np.int64),
            "t_ns": video.t_ns,
            "pts": video.pts,
            "is_keyframe": video.is_keyframe,
            "byte_offset": video.byte_offset,
            "byte_size": video.byte_size,
        }
    )


def _joints(log_id: str, joints: Joints) -> pa.Table:
    rows = len(joints.t_ns)
    return pa.table(
        {
            "log_id": _same(log_id, rows),
            "t_ns": joints.t_ns,
            "position": _lists(joints.position, rows),
            "velocity": _lists(joints.velocity, rows),
            "action": _lists(joints.action, rows),
        }
    )


def _channels(log_id: str, native: Sequence[Channel]) -> pa.Table:
    return pa.concat_tables(
        [
            pa.table(
                {
                    "log_id": _same(log_id, len(channel.t_ns)),
                    "channel": _same(channel.name, len(channel.t_ns)),
                    "t_ns": channel.t_ns,
                    "value": pa.array(channel.values.astype(np.float64)),
                }
            )
            for channel in native
        ]
    )


def _same(text: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), rows)


def _lists(values: Float32Array | None, rows: int) -> pa.Array:
    """Makes a list column of float32[rows, width]; all null if the robot has none."""
    if values is None:
        return pa.nulls(rows, pa.list_(pa.float32()))
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1])
    return pa.ListArray.from_arrays(offsets, flat)
