"""A log of messages, whatever contains them: signals, joints and native channels by segments.

A message is placed by the stamp in its header, which is the sensor's time, if that is within
STAMP_LAG_NS of the time at which it was recorded; else by that time. So the messages of a span of
time are in the chunks that were recorded not long before and after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from schemas.arrays import AnyArray, BoolArray, IntArray
from schemas.errors import CorruptError, DataError, UnsupportedError, excerpt
from schemas.recording import Channel, Joints, LogHeader, Segment
from schemas.records import Count, LogRef, Reject
from schemas.times import NS_PER_S, Span
from transforms.messages.cdr import Columns
from transforms.messages.decoders import Decoder, decoder
from transforms.messages.maps import Row, numbers, rows_of
from transforms.messages.ros_types import short_name
from transforms.messages.source import UNKNOWN, Chunk, Found, Source
from transforms.readers import ReadOptions

STAMP_LAG_NS = 2 * NS_PER_S
SEGMENT_BYTES = 64 << 20
"""About how many bytes of a file a segment has."""

FIRST_UTC_NS = 946_684_800 * NS_PER_S
"""The year 2000: a recorder's clock that is earlier counts from its own start."""

STAMPS = (
    ("header.stamp.sec", "header.stamp.nanosec"),
    ("timestamp.seconds", "timestamp.nanos"),
    ("timestamp.sec", "timestamp.nsec"),
    ("timestamp.sec", "timestamp.nanosec"),
)
"""Fields of the sensor's time: of ROS, and of Foxglove's messages in protobuf, JSON and ROS."""

JOINTS = "sensor_msgs/JointState"
_JOINT_FIELDS = ("name", "position", "velocity")
_ROS = ("cdr", "ros1")


@dataclass(frozen=True, slots=True)
class _Topic:
    """A topic of which something is read.

    `rows` are the rows of maps that it is read for, `stamps` the fields that may hold its own time.
    """

    decoder: Decoder
    rows: tuple[Row, ...]
    stamps: tuple[tuple[str, str], ...]
    joints: bool
    native: tuple[str, ...]

    @property
    def wanted(self) -> tuple[str, ...]:
        """The fields to decode."""
        fields = [name for row in self.rows for name in row.fields]
        fields += [name for stamp in self.stamps for name in stamp]
        fields += [*self.native, *(_JOINT_FIELDS if self.joints else ())]
        return tuple(dict.fromkeys(fields))


@dataclass(frozen=True, slots=True)
class _Samples:
    """Messages of one topic: t_ns int64[n] from the log's start, and columns of their fields."""

    t_ns: IntArray
    columns: Columns

    def channel(self, row: Row) -> Channel:
        """Makes the samples of a signal that can be used."""
        values, valid = self.columns.values, self.columns.valid
        made = row.values([values[name] for name in row.terms])
        usable = row.counts(values, valid) & _usable(made)
        return Channel(row.signal, self.t_ns[usable], made[usable])

    @classmethod
    def joined(cls, parts: Sequence[_Samples]) -> _Samples:
        """Joins messages of one topic."""
        t_ns = np.concatenate([part.t_ns for part in parts])
        return cls(t_ns, Columns.joined([part.columns for part in parts]))

    def inside(self, span: Span) -> BoolArray:
        """Tells which messages are valid and of a span: bool[n]."""
        return self.columns.valid & (self.t_ns >= span.start_ns) & (self.t_ns < span.end_ns)


_Far = dict[tuple[str, int], _Samples | None]


class MessageLog:
    """An open log of messages.

    Args:
        log: the log.
        source: its messages.
        options: how to read them.

    Raises:
        UnsupportedError: no topic is read.
    """

    def __init__(self, log: LogRef, source: Source, options: ReadOptions) -> None:
        self._log = log
        self._source = source
        self._numbers: dict[str, int] = {}
        for chunk in source.chunks:
            for topic, number in chunk.counts.items():
                self._numbers[topic] = self._numbers.get(topic, 0) + number
        self._topics = self._chosen(options)
        if not self._topics:
            raise UnsupportedError(
                f"{log.uri}: none of its topics is read: {excerpt(', '.join(self._numbers))}"
            )

    @cached_property
    def header(self) -> LogHeader:
        """What is said of the log as a whole."""
        end_ns = max(chunk.end_ns for chunk in self._source.chunks) + 1
        utc = self._origin_ns >= FIRST_UTC_NS
        names = self._joint_names
        return LogHeader(
            log=self._log,
            drive_id=self._log.name,
            vehicle_id="unknown",
            platform="robot" if names else "vehicle",
            duration_ns=end_ns - self._origin_ns,
            clock="utc" if utc else "boot",
            start_ns=self._origin_ns if utc else None,
            software=self._source.software or None,
            joint_names=names,
        )

    @cached_property
    def segments(self) -> tuple[Span, ...]:
        """Spans of about SEGMENT_BYTES each."""
        cuts, size = [0], 0
        for chunk in self._source.chunks:
            start_ns = chunk.start_ns - self._origin_ns
            if size >= SEGMENT_BYTES and start_ns > cuts[-1]:
                cuts.append(start_ns)
                size = 0
            size += chunk.size
        ends = [*cuts[1:], self.header.duration_ns]
        return tuple(Span(start, end) for start, end in zip(cuts, ends, strict=True))

    def read(self, span: Span) -> Segment:
        """Reads the messages of a span, and of each signal the nearest sample on either side."""
        near = [chunk for chunk in self._source.chunks if self._may_hold(chunk, span)]
        samples, counted, rejects = self._gather(near, span)
        far: _Far = {}
        signals = [
            self._signal(topic, row, samples.get(topic), span, far)
            for topic, how in self._topics.items()
            for row in how.rows
        ]
        if span.end_ns == self.header.duration_ns:
            rejects += [
                self._rejected(CorruptError(self._broken(line))) for line in self._source.broken
            ]
        return Segment(
            span,
            signals=tuple(channel for channel in signals if len(channel.t_ns)),
            native=tuple(self._native(samples, span)),
            joints=self._joints(samples, span),
            rejects=tuple(rejects),
            counts=(counted,),
        )

    def _chosen(self, options: ReadOptions) -> dict[str, _Topic]:
        """Chooses what is read of which topic."""
        known = self._source.topics
        schemas = {topic: known.get(topic, UNKNOWN) for topic in sorted(self._numbers)}
        decoders: dict[str, Decoder] = {}
        for topic, schema in schemas.items():
            try:
                decoders[topic] = decoder(schema)
            except UnsupportedError:
                continue  # Its messages are counted as filtered.
        rows: dict[str, list[Row]] = {}
        taken: set[str] = set()
        for row in rows_of(options.topic_maps):
            fitting = [
                topic
                for topic, own in decoders.items()
                if row.fits(topic, schemas[topic].name)
                and all(own.has(name) for name in row.fields)
            ]
            if fitting and row.signal not in taken:
                taken.add(row.signal)
                rows.setdefault(max(fitting, key=self._numbers.__getitem__), []).append(row)
        named = {topic: short_name(schemas[topic].name) for topic in decoders}
        joints = [
            topic
            for topic, name in named.items()
            if name == JOINTS
            and schemas[topic].encoding in _ROS
            and all(map(decoders[topic].has, _JOINT_FIELDS))
        ]
        joint = max(joints, key=self._numbers.__getitem__) if joints else ""
        chosen = {}
        for topic, own in decoders.items():
            native = own.numbers() if options.native else ()
            if topic in rows or topic == joint or native:
                stamps = tuple(pair for pair in STAMPS if all(map(own.has, pair)))
                chosen[topic] = _Topic(
                    own, tuple(rows.get(topic, ())), stamps, topic == joint, native
                )
        return chosen

    @cached_property
    def _origin_ns(self) -> int:
        """The earliest time: of the recorder, or of a stamp, which may be a little before it."""
        first_ns = min(chunk.start_ns for chunk in self._source.chunks)
        early = [c for c in self._source.chunks if c.start_ns <= first_ns + STAMP_LAG_NS]
        for found in self._chunks(early, []):
            for topic in found.keys() & self._topics.keys():
                t_ns, columns = self._decoded(topic, found[topic])
                first_ns = min(first_ns, int(t_ns[columns.valid].min(initial=first_ns)))
        return first_ns

    @cached_property
    def _joint_names(self) -> tuple[str, ...]:
        """The names in the first message that has some."""
        for topic, how in self._topics.items():
            holding = [c for c in self._source.chunks if how.joints and topic in c.counts]
            for found in self._chunks(holding, []):
                if topic in found:
                    _, columns = self._decoded(topic, found[topic])
                    for names in columns.values["name"][columns.valid]:
                        return tuple(names)
        return ()

    def _may_hold(self, chunk: Chunk, span: Span) -> bool:
        """Tells whether messages of a span may be in a chunk."""
        start_ns = chunk.start_ns - self._origin_ns - STAMP_LAG_NS
        end_ns = chunk.end_ns - self._origin_ns + STAMP_LAG_NS
        return start_ns < span.end_ns and end_ns >= span.start_ns

    def _gather(
        self, chunks: Iterable[Chunk], span: Span
    ) -> tuple[dict[str, _Samples], Count, list[Reject]]:
        """Reads chunks.

        Returns:
            The messages of topics that are read; the count of all that were recorded in the span,
            those of other topics as filtered and those that cannot be decoded as rejected; and a
            reject for each chunk that cannot be read, if it begins in the span.
        """
        parts: dict[str, list[_Samples]] = {}
        kept = filtered = rejected = 0
        damaged: list[tuple[Chunk, DataError]] = []
        for found in self._chunks(chunks, damaged):
            for topic, own in found.items():
                log_ns = own.log_ns - self._origin_ns
                inside = (log_ns >= span.start_ns) & (log_ns < span.end_ns)
                if topic in self._topics:
                    samples = self._samples(topic, own)
                    parts.setdefault(topic, []).append(samples)
                    kept += int(np.sum(inside & samples.columns.valid))
                    rejected += int(np.sum(inside & ~samples.columns.valid))
                else:
                    filtered += int(np.sum(inside))
        rejects = [
            self._rejected(error)
            for chunk, error in damaged
            if span.start_ns <= chunk.start_ns - self._origin_ns < span.end_ns
        ]
        count = Count("ingest", "messages", kept=kept, filtered=filtered, rejected=rejected)
        return {topic: _Samples.joined(own) for topic, own in parts.items()}, count, rejects

    def _chunks(
        self, chunks: Iterable[Chunk], damaged: list[tuple[Chunk, DataError]]
    ) -> Iterator[dict[str, Found]]:
        """Yields what each chunk holds; those that are damaged are added to `damaged`.

        Raises:
            UnreadableError: a chunk cannot be read for now. Without it times would be others.
        """
        for chunk in chunks:
            try:
                found = self._source.read(chunk)
            except DataError as error:
                if not error.final:
                    raise
                damaged.append((chunk, error))
            else:
                yield found

    def _broken(self, line: str) -> str:
        seconds = self.header.duration_ns / NS_PER_S
        return (
            f"{line}; what is whole is kept, and the last message is {seconds:.3f} s into the log"
        )

    def _rejected(self, error: DataError) -> Reject:
        log = self._log
        return Reject.of(error, uri=log.uri, stage="ingest", subject=log.log_id)

    def _decoded(self, topic: str, found: Found) -> tuple[IntArray, Columns]:
        """Decodes messages; returns their times, int64[n], and columns."""
        how = self._topics[topic]
        try:
            columns = how.decoder.columns(found.messages, how.wanted)
        except UnsupportedError:  # of another encoding than those of before
            nothing = np.full(len(found.log_ns), None, object)
            columns = Columns(dict.fromkeys(how.wanted, nothing), np.zeros(len(nothing), np.bool_))
        t_ns = log_ns = found.log_ns
        for stamp in how.stamps:
            seconds, nanoseconds = (numbers(columns.values[name]) for name in stamp)
            with np.errstate(invalid="ignore"):
                off_ns = np.abs(seconds * NS_PER_S + nanoseconds - log_ns)
                own = (off_ns <= STAMP_LAG_NS) & (t_ns == log_ns)  # false for NaN
            # Exactly: a float has not enough digits for nanoseconds since 1970.
            whole_ns = np.where(own, seconds, 0).astype(np.int64) * NS_PER_S
            t_ns = np.where(own, whole_ns + np.where(own, nanoseconds, 0).astype(np.int64), t_ns)
        return t_ns, columns

    def _samples(self, topic: str, found: Found) -> _Samples:
        t_ns, columns = self._decoded(topic, found)
        return _Samples(t_ns - self._origin_ns, columns)

    def _signal(
        self, topic: str, row: Row, near: _Samples | None, span: Span, far: _Far
    ) -> Channel:
        """Returns the samples near a span, and the nearest on either side wherever it is."""
        parts = [near.channel(row)] if near is not None else []
        for samples in self._beyond(parts, topic, span.start_ns, -1, far):
            parts.append(samples.channel(row))
        for samples in self._beyond(parts, topic, span.end_ns, 1, far):
            parts.append(samples.channel(row))
        return _joined(row.signal, parts)

    def _beyond(
        self, parts: Sequence[Channel], topic: str, edge_ns: int, way: int, far: _Far
    ) -> Iterator[_Samples]:
        """Reads chunks ever further away, until none can hold a nearer sample to an edge.

        Args:
            parts: the samples so far, to which the caller adds what is yielded.
            topic: the topic.
            edge_ns: the edge, from the log's start.
            way: 1 to go forward from it, -1 to go back.
            far: what was read already, by topic and chunk.
        """

        def distance(chunk: Chunk) -> int:
            recorded_ns = chunk.start_ns if way > 0 else chunk.end_ns
            return way * (recorded_ns - self._origin_ns - edge_ns) - STAMP_LAG_NS

        further = [c for c in self._source.chunks if topic in c.counts and distance(c) >= 0]
        for chunk in sorted(further, key=distance):
            away_ns = np.concatenate([way * (part.t_ns - edge_ns) for part in parts] or [_NONE])
            # The span has its start, and not its end.
            away_ns = away_ns[away_ns >= (way < 0)]
            if len(away_ns) and away_ns.min() <= distance(chunk):
                return
            key = (topic, chunk.place)
            if key not in far:
                held = [found for found in self._chunks([chunk], []) if topic in found]
                far[key] = self._samples(topic, held[0][topic]) if held else None
            if (samples := far[key]) is not None:
                yield samples

    def _native(self, samples: Mapping[str, _Samples], span: Span) -> Iterator[Channel]:
        for topic, own in samples.items():
            inside = own.inside(span)
            for name in self._topics[topic].native:
                values = numbers(own.columns.values[name])[inside]
                if len(values):
                    yield Channel(f"{topic}.{name}", own.t_ns[inside], values)

    def _joints(self, samples: Mapping[str, _Samples], span: Span) -> Joints | None:
        for topic, own in samples.items():
            if self._topics[topic].joints and self._joint_names:
                return _joints(own, own.inside(span), self._joint_names)
        return None


_NONE = np.zeros(0, np.int64)


def _usable(values: AnyArray) -> BoolArray:
    """Tells which values of a signal align would keep: bool[n]."""
    if values.dtype == object:
        return np.array([isinstance(value, str) and value != "" for value in values], np.bool_)
    usable: BoolArray = np.isfinite(values)
    return usable


def _joined(signal: str, parts: Sequence[Channel]) -> Channel:
    if not parts:
        return Channel(signal, _NONE, np.zeros(0))
    return Channel(
        signal,
        np.concatenate([part.t_ns for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def _joints(samples: _Samples, inside: BoolArray, names: Sequence[str]) -> Joints | None:
    """Sorts the joints of messages, which may name them in any order, into columns."""
    rows = np.flatnonzero(inside)
    place = {name: column for column, name in enumerate(names)}
    table = {
        name: np.full((len(rows), len(names)), np.nan, np.float32)
        for name in ("position", "velocity")
    }
    columns = samples.columns.values
    for at, row in enumerate(rows):
        own = [place.get(name) for name in columns["name"][row]]
        for name, values in table.items():
            for column, value in zip(own, columns[name][row], strict=False):
                if column is not None:
                    values[at, column] = value
    if not len(rows):
        return None
    velocity = table["velocity"]
    return Joints(
        samples.t_ns[rows],
        table["position"],
        None if np.isnan(velocity).all() else velocity,
        None,
    )
