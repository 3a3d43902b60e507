"""Ingest: logs to the tables logs, videos, frames, signals, joints, channels and annotations.

Sensors first, pixels last: a log is demuxed for its packet index and its signals are laid
on the 50 Hz grid. Nothing is decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import fsspec
import numpy as np
import pyarrow as pa

from pipeline.config import IngestConfig
from pipeline.graph.deadline import within
from pipeline.graph.execute import Work, done_subjects, stage_digest
from pipeline.graph.stage import Done, Output, Stage
from pipeline.lake.tables import Lake
from schemas.arrays import Float32Array
from schemas.errors import DataError, TimeLimitError, UsageError
from schemas.ids import digest
from schemas.recording import Recording
from schemas.records import Count, LogRef, Reject
from schemas.tables import TABLES
from transforms.align import align
from transforms.readers import FORMATS, ReadOptions
from transforms.readers.discover import discover

VERSION = 1
"""Rises when the same recording comes to different rows."""

TASK_BYTES = 256 << 20
TASK_LOGS = 16
"""A task ends at either: enough work to amortise a file a table, little enough to retry."""


@dataclass(frozen=True, slots=True)
class IngestTask:
    """Some logs that are read together, into one file a table."""

    key: str
    logs: tuple[LogRef, ...]


@dataclass(slots=True)
class IngestStage(Stage):
    """Reads logs. `digests` names by format how they are read: what the ledger keeps."""

    options: ReadOptions
    digests: dict[str, str]
    timeout_s: float
    name: str = "ingest"
    task: ClassVar[type] = IngestTask

    def process(self, task: IngestTask) -> Output:
        """Reads the task's logs one after the other; a log that fails is a reject."""
        output = Output()
        parts: dict[str, list[pa.Table]] = {}
        for log in task.logs:
            read = partial(FORMATS.load(log.format)().read, log, self.options)
            try:
                recording = within(self.timeout_s, read, log.uri)
            except DataError as error:
                output.rejects.append(
                    Reject.of(error, uri=log.uri, stage=self.name, subject=log.log_id)
                )
                if not isinstance(error, TimeLimitError):
                    output.done.append(Done(log.log_id, self.digests[log.format], "rejected"))
                output.counts.append(Count(self.name, "logs", rejected=1))
                continue
            for table, rows in recording_tables(recording).items():
                parts.setdefault(table, []).append(rows)
            output.rejects.extend(recording.rejects)
            output.done.append(Done(log.log_id, self.digests[log.format], "kept"))
            output.counts.append(Count(self.name, "logs", kept=1))
            output.counts.extend(recording.counts)
        output.tables = {table: pa.concat_tables(rows) for table, rows in parts.items()}
        return output


def recording_tables(recording: Recording) -> dict[str, pa.Table]:
    """Lays one recording out as rows of the lake's tables, conforming to their schemas."""
    log = recording.log
    log_id = log.log_id
    tables: dict[str, pa.Table] = {}
    tables["logs"] = pa.Table.from_pylist(
        [
            {
                "log_id": log_id,
                "drive_id": recording.drive_id,
                "vehicle_id": recording.vehicle_id,
                "platform": recording.platform,
                "format": log.format,
                "name": log.name,
                "uri": log.uri,
                "fingerprint": log.fingerprint,
                "start_ns": recording.start_ns,
                "start_local": recording.start_local,
                "duration_ns": recording.duration_ns,
                "clock": recording.clock,
                "software": recording.software,
                "joint_names": list(recording.joints.names) if recording.joints else [],
            }
        ],
        schema=TABLES["logs"].schema,
    )
    if recording.videos:
        tables["videos"] = pa.Table.from_pylist(
            [
                {
                    "log_id": log_id,
                    "camera": video.camera,
                    "uri": video.uri,
                    "codec": video.codec,
                    "width": video.width,
                    "height": video.height,
                    "frames": len(video.t_ns),
                    "first_pts_ns": round(
                        int(video.pts[0]) * video.time_base[0] * 1_000_000_000 / video.time_base[1]
                    ),
                    "start_ns": int(video.t_ns[0]),
                    "duration_ns": video.duration_ns,
                    "time_base_num": video.time_base[0],
                    "time_base_den": video.time_base[1],
                    "variable_rate": video.variable_rate,
                }
                for video in recording.videos
            ],
            schema=TABLES["videos"].schema,
        )
        tables["frames"] = pa.concat_tables(
            [
                _frame_rows(log_id, video.camera, video.uri, len(video.t_ns))
                .append_column("t_ns", pa.array(video.t_ns))
                .append_column("pts", pa.array(video.pts))
                .append_column("is_keyframe", pa.array(video.is_keyframe))
                .append_column("byte_offset", pa.array(video.byte_offset))
                .append_column("byte_size", pa.array(video.byte_size))
                for video in recording.videos
            ]
        )
    if recording.signals:
        grid = align(recording.signals, recording.duration_ns)
        tables["signals"] = grid.add_column(0, "log_id", _same(log_id, grid.num_rows))
    if recording.joints is not None:
        joints = recording.joints
        tables["joints"] = pa.table(
            {
                "log_id": _same(log_id, len(joints.t_ns)),
                "t_ns": joints.t_ns,
                "position": _lists(joints.position),
                "velocity": _lists(joints.velocity, len(joints.t_ns)),
                "action": _lists(joints.action, len(joints.t_ns)),
            }
        )
    if recording.native:
        tables["channels"] = pa.concat_tables(
            [
                pa.table(
                    {
                        "log_id": _same(log_id, len(channel.t_ns)),
                        "channel": _same(channel.name, len(channel.t_ns)),
                        "t_ns": channel.t_ns,
                        "value": pa.array(channel.values.astype(np.float64)),
                    }
                )
                for channel in recording.native
            ]
        )
    if recording.annotations:
        tables["annotations"] = pa.Table.from_pylist(
            [
                {
                    "log_id": log_id,
                    "t_ns": annotation.t_ns,
                    "reason": annotation.reason,
                    "camera": annotation.camera,
                    "lat_deg": annotation.lat_deg,
                    "lon_deg": annotation.lon_deg,
                }
                for annotation in recording.annotations
            ],
            schema=TABLES["annotations"].schema,
        )
    return {name: TABLES[name].conform(rows) for name, rows in tables.items()}


def _same(text: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), rows)


def _frame_rows(log_id: str, camera: str, uri: str, rows: int) -> pa.Table:
    return pa.table(
        {
            "log_id": _same(log_id, rows),
            "camera": _same(camera, rows),
            "uri": _same(uri, rows),
            "frame_index": np.arange(rows, dtype=np.int64),
        }
    )


def _lists(values: Float32Array | None, rows: int = 0) -> pa.Array:
    if values is None:
        return pa.nulls(rows, pa.list_(pa.float32()))
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
    width = values.shape[1]
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, flat)


def _batches(logs: Sequence[LogRef]) -> list[tuple[LogRef, ...]]:
    batches: list[tuple[LogRef, ...]] = []
    batch: list[LogRef] = []
    for log in logs:
        full = len(batch) == TASK_LOGS or sum(b.size for b in batch) + log.size > TASK_BYTES
        if batch and full:
            batches.append(tuple(batch))
            batch = []
        batch.append(log)
    if batch:
        batches.append(tuple(batch))
    return batches


def _content(uri: str) -> str:
    """Digests a configuration file, so that editing it changes what depends on it."""
    try:
        with fsspec.open(uri, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise UsageError(f"--dbc {uri}: cannot be read: {error}") from error


def plan_ingest(lake: Lake, config: IngestConfig) -> Work:
    """Discovers the inputs and leaves out the logs that the lake already has.

    Raises:
        UsageError: an input does not exist, a format is unknown, a DBC cannot be read.
    """
    if not config.input:
        raise UsageError("[ingest] input: name at least one folder or file with --input")
    if config.format is not None and config.format not in FORMATS:
        raise UsageError(f"--format {config.format!r}: choose one of: {', '.join(FORMATS)}")
    databases = [_content(uri) for uri in config.dbc]
    found = discover(config.input, only=config.format)
    formats = sorted({log.format for log in found.logs})
    digests = {
        name: stage_digest(
            version=VERSION,
            reader=FORMATS.load(name).version,
            dbc=databases,
            channels=config.channels,
        )
        for name in formats
    }
    done = done_subjects(lake, "ingest")
    known = {subject: outcome for (subject, _), outcome in done.items()}
    stale = sum(
        log.log_id in known and (log.log_id, digests[log.format]) not in done for log in found.logs
    )
    fresh = [log for log in found.logs if log.log_id not in known]
    old = [known[log.log_id] for log in found.logs if log.log_id in known]
    tasks = [
        IngestTask(digest("ingest", [log.log_id for log in logs], digests), logs)
        for logs in _batches(fresh)
    ]
    rejected = sum(outcome == "rejected" for outcome in old)
    note = (
        f"{stale} logs are in the lake as an older reader or other options read them; "
        "they stay so. To read them again, ingest them into a new lake"
    )
    return Work(
        stage=IngestStage(
            ReadOptions(dbc=tuple(config.dbc), native=config.channels),
            digests,
            config.input_timeout_s,
        ),
        tasks=tasks,
        expected={("ingest", "logs"): len(found.logs)},
        known=(
            *found.counts,
            Count("ingest", "logs", filtered=len(old) - rejected, rejected=rejected),
        ),
        rejects=found.rejects,
        notes=(note,) if stale else (),
    )
