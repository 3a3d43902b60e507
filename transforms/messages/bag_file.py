"""ROS 1 bags: what a .bag file holds and where, from its index or by a scan.

A file is a line of magic and then records, each a header of named fields and data
(https://wiki.ros.org/Bags/Format/2.0). Messages lie in chunks, which may be compressed. Behind the
last chunk are the connections and, for each chunk, its times and how many messages of which
connection it has; the first record says where. A recorder that lost power leaves none of that: then
the records are gone through one by one, up to the last one that is whole.
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import lz4.frame
import numpy as np

from schemas.errors import CorruptError, EmptyError, TooLargeError, UnsupportedError, excerpt
from schemas.records import Member
from schemas.times import NS_PER_S
from transforms.messages.files import opened_file
from transforms.messages.source import Chunk, Found, Messages, Schema

MAGIC = b"#ROSBAG V2.0\n"
MAX_CHUNK_BYTES = 1 << 30
MAX_RECORD_BYTES = 64 << 20
"""Bounds of what is held in memory at a time; the records of recorders are far below."""

_MESSAGE, _BAG, _CHUNK, _CHUNK_INFO, _CONNECTION = 2, 3, 5, 6, 7
_LENGTH = struct.Struct("<I")
_TIME = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class _Record:
    """A record of a file: its fields, and the bytes [start, end) of its data."""

    fields: dict[bytes, bytes]
    start: int
    end: int

    @property
    def kind(self) -> int:
        """What it is, by the field `op`; -1 if it has none."""
        op = self.fields.get(b"op", b"")
        return op[0] if len(op) == 1 else -1


class BagFile:
    """One .bag file and its index.

    Raises:
        DataError: it is none.
    """

    software = ""

    def __init__(self, member: Member) -> None:
        self._uri, self._size = member.uri, member.size
        self._connections: dict[int, tuple[str, Schema]] = {}
        self._places: list[tuple[int, int]] = []
        self.chunks: list[Chunk] = []
        self.broken = ""
        if not member.size:
            raise EmptyError(f"{member.uri}: the file has no bytes; record or copy it again")
        with opened_file(member.uri) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise CorruptError(
                    f"{member.uri}: it does not begin as a bag of ROS 1; copy it again"
                )
            try:
                whole = self._read_index(file)
            except (CorruptError, struct.error):
                whole = False  # An index that is damaged is as good as none.
            if not whole:
                self._connections, self._places, self.chunks = {}, [], []
                self._scan(file)

    @property
    def topics(self) -> dict[str, Schema]:
        """How the messages of each topic are written."""
        return dict(reversed(list(self._connections.values())))

    def read(self, chunk: Chunk) -> dict[str, Found]:
        """Reads the messages of a chunk by topic."""
        with opened_file(self._uri) as file:
            content = self._chunk(file, *self._places[chunk.place])
        return self._messages(content)

    def _read_index(self, file: BinaryIO) -> bool:
        """Reads the index; returns whether there is one that tells all chunks."""
        head = self._record(file, len(MAGIC))
        if head is None or head.kind != _BAG:
            return False
        at, number = _number(head, b"index_pos", "<Q"), _number(head, b"chunk_count", "<I")
        if not head.end <= at < self._size:
            return False
        while (record := self._record(file, at)) is not None:
            at = record.end
            if record.kind == _CONNECTION:
                self._connect(record.fields, self._data(file, record))
            elif record.kind == _CHUNK_INFO:
                self._add_chunk(file, record)
        return at == self._size and len(self.chunks) == number

    def _add_chunk(self, file: BinaryIO, record: _Record) -> None:
        content = self._data(file, record)
        pairs = struct.iter_unpack("<II", content[: len(content) // 8 * 8])
        counts: dict[str, int] = {}
        for connection, number in pairs:
            topic = self._topic(connection)
            counts[topic] = counts.get(topic, 0) + number
        at = _number(record, b"chunk_pos", "<Q")
        chunk = self._record(file, at)
        if chunk is None or chunk.kind != _CHUNK:
            raise CorruptError("its index names a chunk that is none")
        start_ns, end_ns = (
            _ns(record.fields.get(name, b"")) for name in (b"start_time", b"end_time")
        )
        self.chunks.append(Chunk(len(self._places), start_ns, end_ns, chunk.end - at, counts))
        self._places.append((at, chunk.end))

    def _scan(self, file: BinaryIO) -> None:
        at = len(MAGIC)
        self.broken = "it ends without an index"
        damage = ""
        while at < self._size:
            try:
                record = self._record(file, at)
            except CorruptError as error:
                damage = damage or f"the record at byte {at} is damaged ({excerpt(error)})"
                break
            if record is None:
                self.broken = f"the record at byte {at} is cut off"
                break
            if record.kind == _CHUNK:
                try:
                    self._scan_chunk(file, at, record.end)
                except (CorruptError, UnsupportedError) as error:
                    damage = damage or excerpt(error)
            elif record.kind == _CONNECTION:
                self._connect(record.fields, self._data(file, record))
            at = record.end
        self.broken = damage or self.broken

    def _scan_chunk(self, file: BinaryIO, at: int, end: int) -> None:
        found = self._messages(self._chunk(file, at, end))
        times = [own.log_ns for own in found.values() if len(own.log_ns)]
        if times:
            first, last = (int(min(t.min() for t in times)), int(max(t.max() for t in times)))
            counts = {topic: len(own.log_ns) for topic, own in found.items()}
            self.chunks.append(Chunk(len(self._places), first, last, end - at, counts))
            self._places.append((at, end))

    def _record(self, file: BinaryIO, at: int) -> _Record | None:
        """Reads the header of the record at a byte; None if it is not whole."""
        file.seek(at)
        head = file.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        if at + length + 2 * _LENGTH.size > self._size:
            return None
        if length > MAX_RECORD_BYTES:
            raise CorruptError(f"a header of {length:,} bytes")
        content = file.read(length + _LENGTH.size)
        if len(content) < length + _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(content, length)
        start = at + length + 2 * _LENGTH.size
        if start + size > self._size:
            return None
        return _Record(_fields(content[:length]), start, start + size)

    def _data(self, file: BinaryIO, record: _Record) -> bytes:
        if record.end - record.start > MAX_RECORD_BYTES:
            raise CorruptError(f"a record of {record.end - record.start:,} bytes")
        file.seek(record.start)
        return file.read(record.end - record.start)

    def _connect(self, fields: dict[bytes, bytes], content: bytes) -> None:
        """Takes a connection: its topic, and how its messages are written."""
        own = _fields(content)
        topic = fields.get(b"topic", b"").decode("utf-8", "replace")
        name = own.get(b"type", b"").decode("utf-8", "replace")
        definition = own.get(b"message_definition", b"")
        number = fields.get(b"conn", b"")
        if len(number) != _LENGTH.size or not topic:
            raise CorruptError("a connection without a number or a topic")
        schema = Schema("ros1", name, "ros1msg", definition)
        self._connections[_LENGTH.unpack(number)[0]] = (topic, schema)

    def _topic(self, connection: int) -> str:
        known = self._connections.get(connection)
        return known[0] if known else f"connection {connection}"

    def _chunk(self, file: BinaryIO, at: int, end: int) -> bytes:
        """Reads the records of the chunk that is the record [at, end)."""
        where = f"{self._uri}: the chunk at byte {at}"
        record = self._record(file, at)
        if record is None or record.kind != _CHUNK or record.end != end:
            raise CorruptError(f"{where} is none; copy the file again")
        size = _number(record, b"size", "<I")
        if max(size, end - at) > MAX_CHUNK_BYTES:
            raise TooLargeError(f"{where} unfolds to {size:,} bytes; write smaller chunks")
        file.seek(record.start)
        content = file.read(record.end - record.start)
        compression = record.fields.get(b"compression", b"")
        try:
            if compression == b"bz2":
                content = bz2.BZ2Decompressor().decompress(content, size + 1)
            elif compression == b"lz4":
                content = lz4.frame.LZ4FrameDecompressor().decompress(content, max_length=size + 1)
            elif compression != b"none":
                raise UnsupportedError(
                    f"{where} is compressed by {excerpt(compression)}, which is not read"
                )
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            raise CorruptError(f"{where} cannot be decompressed ({excerpt(error)})") from error
        if len(content) != size:
            raise CorruptError(f"{where} does not have the {size:,} bytes that it states")
        return content

    def _messages(self, content: bytes) -> dict[str, Found]:
        """Returns the messages of a chunk; takes the connections that it holds."""
        lists: dict[int, _Lists] = {}
        for fields, start, end in _records(content):
            op = fields.get(b"op")
            if op == b"\x02":
                connection, time = fields.get(b"conn", b""), fields.get(b"time", b"")
                if len(connection) == _LENGTH.size and len(time) == _TIME.size:
                    own = lists.setdefault(_LENGTH.unpack(connection)[0], _Lists())
                    own.log_ns.append(_ns(time))
                    own.starts.append(start)
                    own.ends.append(end)
            elif op == b"\x07":
                self._connect(fields, content[start:end])
        topics: dict[str, _Lists] = {}
        for number, own in lists.items():
            topics.setdefault(self._topic(number), _Lists()).extend(own)
        buffer = np.frombuffer(content, np.uint8)
        return {
            topic: Found.of(own.log_ns, Messages(buffer, np.array(own.starts), np.array(own.ends)))
            for topic, own in topics.items()
        }


@dataclass(slots=True)
class _Lists:
    log_ns: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def extend(self, other: _Lists) -> None:
        self.log_ns += other.log_ns
        self.starts += other.starts
        self.ends += other.ends


def _records(content: bytes) -> Iterator[tuple[dict[bytes, bytes], int, int]]:
    """Yields the fields of each record of a chunk, and where its data is.

    Raises:
        CorruptError: a record is longer than the chunk.
    """
    at, last, unpack = 0, len(content), _LENGTH.unpack_from
    while at + 2 * _LENGTH.size <= last:
        (length,) = unpack(content, at)
        middle = at + _LENGTH.size + length
        if middle + _LENGTH.size > last:
            raise CorruptError(f"a header of {length:,} bytes in a chunk of {last:,} bytes")
        (size,) = unpack(content, middle)
        start = middle + _LENGTH.size
        if start + size > last:
            raise CorruptError(f"a record of {size:,} bytes in a chunk of {last:,} bytes")
        yield _fields(content[at + _LENGTH.size : middle]), start, start + size
        at = start + size


def _fields(content: bytes) -> dict[bytes, bytes]:
    r"""Parses named fields.

    Raises:
        CorruptError: a field is longer than its header, or has no name.

    >>> _fields(b"\x04\0\0\0op=\x02")
    {b'op': b'\x02'}
    """
    fields = {}
    at = 0
    while at < len(content):
        (length,) = _LENGTH.unpack(content[at : at + 4].ljust(4, b"\xff"))
        at += 4 + length
        name, equals, value = content[at - length : at].partition(b"=")
        if at > len(content) or not equals:
            raise CorruptError("a header whose fields are none")
        fields[name] = value
    return fields


def _number(record: _Record, name: bytes, layout: str) -> int:
    value = record.fields.get(name, b"")
    if len(value) != struct.calcsize(layout):
        raise CorruptError(f"a record without the number {name.decode()}")
    return int(struct.unpack(layout, value)[0])


def _ns(time: bytes) -> int:
    """Converts seconds and nanoseconds of 32 bits each.

    >>> _ns(bytes([1, 0, 0, 0, 2, 0, 0, 0]))
    1000000002
    """
    if len(time) != _TIME.size:
        raise CorruptError("a time that is none")
    seconds, nanoseconds = _TIME.unpack(time)
    return int(seconds) * NS_PER_S + int(nanoseconds)
