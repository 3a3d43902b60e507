"""Ingest: logs to the tables logs, videos, frames, signals, joints, channels and annotations.

Videos are demuxed for their packet index, never decoded; signals are resampled to 50 Hz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, ClassVar

import pyarrow as pa

from pipeline.config import IngestConfig
from pipeline.graph.execute import Work
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done, stage_digest
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import recognised, standing
from pipeline.stages.recording_rows import LogRows, begin_log, read_log, read_segment
from schemas.errors import DataError, UsageError
from schemas.ids import digest
from schemas.records import Count, LogRef, Outcome, Reject
from schemas.times import Span
from transforms.bounded import read_configuration
from transforms.can.dbc import MAX_DBC_BYTES, Database
from transforms.can.maps import car_map, load_can_maps
from transforms.isolation import Call, Limits, isolated
from transforms.messages.maps import load_topic_maps
from transforms.readers import FORMATS, ReadOptions
from transforms.readers.discover import discover

VERSION = 1
"""Version; raised when the same recording gives different rows."""

TASK_BYTES = 256 << 20
TASK_LOGS = 16
"""Limits of a task: large enough to amortise one file per table, small enough to retry. A larger
log is a task of its own, and so is each of its segments."""


@dataclass(frozen=True, slots=True)
class IngestTask:
    """Logs that are read together, into one file per table."""

    key: str
    logs: tuple[LogRef, ...]


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """A segment of a long log: the span [start_ns, end_ns) of its time."""

    key: str
    log: LogRef
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class SegmentStage(Stage):
    """Reads the segments of long logs."""

    options: ReadOptions
    limits: Limits
    name: str = "ingest"
    task: ClassVar[type] = SegmentTask

    def process(self, task: SegmentTask) -> Output:
        """Reads a segment. One that cannot be used is a reject, and the rest of its log is kept."""
        call = Call(read_segment, (task.log, self.options, Span(task.start_ns, task.end_ns)))
        try:
            read = isolated(call, self.limits, task.log.uri)
        except DataError as error:
            reject = Reject.of(error, uri=task.log.uri, stage=self.name, subject=task.log.log_id)
            return Output(rejects=[reject], counts=[Count(self.name, "segments", rejected=1)])
        return Output(
            tables=read.tables,
            rejects=list(read.rejects),
            counts=[Count(self.name, "segments", kept=1), *read.counts],
        )


@dataclass(slots=True)
class IngestStage(Stage):
    """Reads logs. `digests` are the stage digests for the ledger, by format.

    Of a long log it reads what is said of it as a whole, and leaves its segments to other tasks.
    If one of these cannot be read for now, the commit drops the whole log.
    """

    options: ReadOptions
    digests: dict[str, str]
    limits: Limits
    name: str = "ingest"
    task: ClassVar[type] = IngestTask
    once: ClassVar[bool] = True

    @property
    def following(self) -> SegmentStage:
        """The stage that reads segments."""
        return SegmentStage(self.options, self.limits)

    def process(self, task: IngestTask) -> Output:
        """Reads the task's logs one after the other; a log that cannot be used is a reject."""
        output = Output()
        parts: dict[str, list[pa.Table]] = {}
        for log in task.logs:
            read = self._read(log, output)
            if read is None:
                continue
            for table, rows in read.tables.items():
                parts.setdefault(table, []).append(rows)
            output.rejects.extend(read.rejects)
            self._done(log, "kept", output)
            output.counts.append(Count(self.name, "logs", kept=1))
            output.counts.extend(read.counts)
        output.tables = {table: pa.concat_tables(rows) for table, rows in parts.items()}
        return output

    def _read(self, log: LogRef, output: Output) -> LogRows | None:
        """Reads a log; if it cannot be used, adds a reject to `output` and returns None."""
        spans: tuple[Span, ...] = ()
        try:
            if log.size > TASK_BYTES:
                call = Call(begin_log, (log, self.options))
                read, spans = isolated(call, self.limits, log.uri)
            else:
                read = isolated(Call(read_log, (log, self.options)), self.limits, log.uri)
        except DataError as error:
            reject = Reject.of(error, uri=log.uri, stage=self.name, subject=log.log_id)
            self._reject(log, (reject,), output)
            return None
        if not all(reject.final for reject in read.rejects):
            # A part was not readable: the next run reads the log as a whole.
            self._reject(log, read.rejects, output)
            return None
        output.next += [self._segment(log, span) for span in spans]
        return read

    def _segment(self, log: LogRef, span: Span) -> SegmentTask:
        key = digest("segment", log.log_id, self.digests[log.format], span.start_ns, span.end_ns)
        return SegmentTask(key, log, span.start_ns, span.end_ns)

    def _reject(self, log: LogRef, rejects: Sequence[Reject], output: Output) -> None:
        """Rejects a log; if the environment is at fault, the next run tries it again."""
        output.rejects.extend(rejects)
        if all(reject.final for reject in rejects):
            self._done(log, "rejected", output)
        output.counts.append(Count(self.name, "logs", rejected=1))

    def _done(self, log: LogRef, outcome: Outcome, output: Output) -> None:
        """Notes that a log is done with, by its id and by its listing."""
        output.done.append(Done(log.log_id, self.digests[log.format], outcome))
        if log.listing:
            output.done.append(Done(log.listing, log.log_id, outcome, stage="discover"))


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
    """Returns the SHA-256 of a file that is part of the configuration."""
    return sha256(read_configuration("--dbc", uri, MAX_DBC_BYTES)).hexdigest()


@dataclass(frozen=True, slots=True)
class Reading:
    """How logs are read: the options, their part of the stage digest, and notes."""

    options: ReadOptions
    identity: dict[str, Any]
    notes: tuple[str, ...] = ()


def reading(config: IngestConfig) -> Reading:
    """Reads and checks the files that the configuration names.

    Raises:
        UsageError: a format is unknown, or a CAN database or map cannot be used.
    """
    if config.format is not None and config.format not in FORMATS:
        raise UsageError(f"--format {config.format!r}: choose one of: {', '.join(FORMATS)}")
    identity: dict[str, Any] = {
        "dbc": [_content(uri) for uri in config.dbc],
        "channels": config.channels,
    }
    maps = load_can_maps(config.can_maps)
    topic_maps = load_topic_maps(config.topic_maps)
    if topic_maps:
        identity["topic_maps"] = [one.digest for one in topic_maps]
    database = Database.load(config.dbc)
    options = ReadOptions(
        dbc=tuple(config.dbc),
        can_maps=maps,
        topic_maps=topic_maps,
        native=config.channels,
        memory_bytes=config.limits.memory_bytes,
    )
    if not config.can_maps:
        return Reading(options, identity)
    if not config.dbc:
        raise UsageError("[ingest] can_maps: name the CAN databases that they are for with --dbc")
    used = car_map(database, maps)
    if used in maps:
        identity["can_map"] = used.digest
        return Reading(options, identity)
    other = f"; the CAN map {used.name} does" if used else ""
    return Reading(options, identity, (f"no map of --can-maps fits the databases best{other}",))


def plan_ingest(lake: Lake, config: IngestConfig) -> Work:
    """Discovers the inputs and plans the logs that the lake does not have yet.

    Raises:
        UsageError: an input does not exist, or see `reading`.
    """
    if not config.input:
        raise UsageError("[ingest] input: name at least one folder or file with --input")
    how = reading(config)
    known = partial(recognised, lake)
    found = discover(config.input, config.format, known, follow_links=config.follow_links)
    logs = [(log.log_id, log.format) for log in found.logs]
    logs += [(log.log_id, log.format) for log in found.known]
    formats = sorted({name for _, name in logs})
    digests = {
        name: stage_digest(version=VERSION, reader=FORMATS.load(name).version, **how.identity)
        for name in formats
    }
    wanted = pa.table(
        {
            "subject": pa.array([log_id for log_id, _ in logs], pa.string()),
            "stage_digest": pa.array([digests[name] for _, name in logs], pa.string()),
        }
    )
    stand = standing(lake, "ingest", wanted)
    new = set(stand.new)
    fresh = [log for log in found.logs if log.log_id in new]
    tasks = [
        IngestTask(digest("ingest", [log.log_id for log in batch], digests), batch)
        for batch in _batches(fresh)
    ]
    note = (
        f"{stand.stale} logs are in the lake as an older reader or other options read them, and "
        "are not read again; to do so, ingest them into a new lake"
    )
    return Work(
        stage=IngestStage(how.options, digests, config.limits),
        tasks=tasks,
        expected={("ingest", "logs"): len(logs)},
        known=(*found.counts, stand.known("ingest", "logs")),
        rejects=found.rejects,
        notes=(*how.notes, *found.notes, *([note] if stand.stale else [])),
    )
