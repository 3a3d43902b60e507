"""What an MCAP file holds and where: from its summary, or by a scan where it has none.

A file is a sequence of records, each an opcode, a length of eight bytes and its content
(https://mcap.dev/spec). Messages lie in chunks, which may be compressed; the summary at the end of
the file lists the chunks with their times, and how many messages of which channel each has. A
recorder that lost power leaves no summary: then the records are gone through one by one, up to
the last one that is whole.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import lz4.frame
import numpy as np
import zstandard
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode

from schemas.errors import CorruptError, EmptyError, TooLargeError, UnsupportedError, excerpt
from transforms.messages.source import Found, Messages, Schema

MAGIC = b"\x89MCAP0\r\n"
MAX_CHUNK_BYTES = 1 << 30
MAX_SUMMARY_BYTES = 256 << 20
MAX_CHANNELS = 10_000
"""Bounds of what is held in memory at a time; the records of recorders are far below."""

_LOOSE_BYTES = 4 << 20
"""Messages outside of chunks are taken together up to so many bytes."""

_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_MESSAGE_RECORD = struct.Struct("<BQHIQ")
_CHUNK = struct.Struct("<QQQI")
_FOOTER_BYTES = _RECORD.size + 20 + len(MAGIC)
_INDEX_HEADER = _RECORD.size + 2 + 4
_INDEX_ENTRY = 16


@dataclass(frozen=True, slots=True)
class Topic:
    """A channel of the file: its topic and how its messages are written."""

    name: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """A chunk: the bytes [offset, offset + size) of the file, and what is in it.

    `start_ns` and `end_ns` are the times of its first and last message by the recorder's clock,
    `counts` the number of messages by channel. Loose messages, which are in no chunk, are taken
    together as a chunk whose bytes begin with their first record: `loose`.
    """

    offset: int
    size: int
    start_ns: int
    end_ns: int
    counts: Mapping[int, int]
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """The channels by id, and the chunks in the order of their first messages.

    `library` is what the recorder calls itself. `broken` says where and why a scan ended early,
    "" if the file is whole.
    """

    topics: Mapping[int, Topic]
    chunks: tuple[ChunkRef, ...]
    library: str
    broken: str = ""


def read_index(file: BinaryIO, uri: str, size: int) -> Index:
    """Reads what a file holds.

    Args:
        file: the file, open for reading at any place.
        uri: its name in messages.
        size: its size in bytes.

    Raises:
        EmptyError: it has no bytes.
        CorruptError: it is no MCAP file.
        UnsupportedError, TooLargeError: it is one that is not read.
    """
    if not size:
        raise EmptyError(f"{uri}: the file has no bytes; record or copy it again")
    head = file.read(len(MAGIC))
    if head != MAGIC:
        raise CorruptError(f"{uri}: it does not begin as an MCAP file; copy it again")
    try:
        found = _summary(file, uri, size)
    except (McapError, struct.error, ValueError, CorruptError):
        found = None  # A summary that is damaged is as good as none.
    return found or _Scan(file, uri, size).index()


def _summary(file: BinaryIO, uri: str, size: int) -> Index | None:
    """Reads the index from the summary; None if it does not tell all that is needed."""
    if size < len(MAGIC) + _FOOTER_BYTES:
        return None
    file.seek(size - _FOOTER_BYTES)
    tail = file.read(_FOOTER_BYTES)
    opcode, length = _RECORD.unpack_from(tail)
    start = int.from_bytes(tail[_RECORD.size : _RECORD.size + 8], "little")
    if not tail.endswith(MAGIC) or (opcode, length) != (Opcode.FOOTER, 20) or not start:
        return None
    if not len(MAGIC) <= start <= size - _FOOTER_BYTES:
        return None
    if size - _FOOTER_BYTES - start > MAX_SUMMARY_BYTES:
        raise TooLargeError(f"{uri}: its summary has {size - start:,} bytes; split the recording")
    file.seek(start)
    summary = file.read(size - _FOOTER_BYTES - start)
    gathered = _Gathered()
    statistics = None
    for code, content in _records(summary):
        if code == Opcode.STATISTICS:
            statistics = records.Statistics.read(_stream(content))
        elif code == Opcode.CHUNK_INDEX:
            gathered.add_chunk(records.ChunkIndex.read(_stream(content)), size)
        else:
            gathered.add(code, content)
    told = sum(sum(chunk.counts.values()) for chunk in gathered.chunks)
    if statistics is None or told != statistics.message_count:
        return None  # Not all messages are in chunks, or not all chunks are indexed.
    if any(channel not in gathered.channels for c in gathered.chunks for channel in c.counts):
        return None
    file.seek(len(MAGIC))
    return gathered.index(_library(file.read(1024)))


def _library(head: bytes) -> str:
    for code, content in _records(head):
        if code == Opcode.HEADER:
            return str(records.Header.read(_stream(content)).library)
        break
    return ""


class _Gathered:
    """Schemas, channels and chunks as their records come."""

    def __init__(self) -> None:
        self.schemas: dict[int, records.Schema] = {}
        self.channels: dict[int, records.Channel] = {}
        self.chunks: list[ChunkRef] = []

    def add(self, code: int, content: bytes) -> None:
        """Takes a record, if it is a schema or a channel."""
        if code == Opcode.SCHEMA:
            schema = records.Schema.read(_stream(content))
            self.schemas[schema.id] = schema
        elif code == Opcode.CHANNEL:
            channel = records.Channel.read(_stream(content))
            self.channels[channel.id] = channel
            if len(self.channels) > MAX_CHANNELS:
                raise TooLargeError(f"more than {MAX_CHANNELS:,} channels; split the recording")

    def add_chunk(self, chunk: records.ChunkIndex, size: int) -> None:
        """Takes the index of a chunk; the lengths of its message indexes tell their entries."""
        starts = sorted(
            (offset, channel) for channel, offset in chunk.message_index_offsets.items()
        )
        after = chunk.chunk_start_offset + chunk.chunk_length + chunk.message_index_length
        ends = [offset for offset, _ in starts[1:]] + [after]
        counts = {}
        for (offset, channel), end in zip(starts, ends, strict=True):
            counts[channel], rest = divmod(end - offset - _INDEX_HEADER, _INDEX_ENTRY)
            if rest or counts[channel] < 0:
                raise CorruptError("the lengths of its message indexes are none")
        if not 0 < chunk.chunk_start_offset < after <= size:
            raise CorruptError("a chunk is not in the file")
        self.chunks.append(
            ChunkRef(
                chunk.chunk_start_offset,
                chunk.chunk_length,
                chunk.message_start_time,
                chunk.message_end_time,
                counts,
            )
        )

    def index(self, library: str, broken: str = "") -> Index:
        """Returns the index."""
        topics = {}
        for channel in self.channels.values():
            schema = self.schemas.get(channel.schema_id)
            topics[channel.id] = Topic(
                channel.topic,
                Schema(
                    channel.message_encoding,
                    schema.name if schema else "",
                    schema.encoding if schema else "",
                    schema.data if schema else b"",
                ),
            )
        chunks = sorted(self.chunks, key=lambda chunk: (chunk.start_ns, chunk.offset))
        return Index(topics, tuple(chunks), library, broken)


@dataclass(slots=True)
class _Scan:
    """Goes through the records of a file that has no usable summary."""

    file: BinaryIO
    uri: str
    size: int
    _gathered: _Gathered = field(default_factory=_Gathered)
    _loose: ChunkRef | None = None
    _library: str = ""
    _damage: str = ""

    def index(self) -> Index:
        """Returns the index of all records that are whole."""
        at, broken = len(MAGIC), "it ends without a footer"
        while at + _RECORD.size <= self.size:
            self.file.seek(at)
            code, length = _RECORD.unpack(self.file.read(_RECORD.size))
            end = at + _RECORD.size + length
            if end > self.size:
                broken = f"the record at byte {at} is cut off"
                break
            try:
                self._take(code, at, length)
            except (McapError, struct.error, ValueError, CorruptError) as error:
                self._damage = self._damage or (
                    f"the record at byte {at} is damaged ({excerpt(error)})"
                )
            at = end
            if code == Opcode.FOOTER:
                broken = ""
                break
        self._end_loose()
        return self._gathered.index(self._library, self._damage or broken)

    def _take(self, code: int, at: int, length: int) -> None:
        if code == Opcode.MESSAGE:
            channel, _, log_ns, _ = _MESSAGE.unpack(self.file.read(_MESSAGE.size))
            self._add_loose(at, _RECORD.size + length, channel, log_ns)
            return
        if code not in {Opcode.SCHEMA, Opcode.CHANNEL}:
            self._end_loose()
        if code == Opcode.CHUNK:
            self._add_chunk(at, _RECORD.size + length)
        elif code in {Opcode.SCHEMA, Opcode.CHANNEL, Opcode.HEADER}:
            content = self.file.read(length)
            if code == Opcode.HEADER:
                self._library = records.Header.read(_stream(content)).library
            self._gathered.add(code, content)

    def _add_chunk(self, at: int, size: int) -> None:
        ref = ChunkRef(at, size, 0, 0, {})
        content = read_chunk(self.file, self.uri, ref)
        counts: dict[int, int] = {}
        times = []
        for code, start, end in _places(content):
            if code == Opcode.MESSAGE:
                channel, _, log_ns, _ = _MESSAGE.unpack_from(content, start)
                counts[channel] = counts.get(channel, 0) + 1
                times.append(log_ns)
            else:
                self._gathered.add(code, bytes(content[start:end]))
        if times:
            self._gathered.chunks.append(
                replace(ref, start_ns=min(times), end_ns=max(times), counts=counts)
            )

    def _add_loose(self, at: int, size: int, channel: int, log_ns: int) -> None:
        loose = self._loose
        if loose is not None and loose.size > _LOOSE_BYTES:
            self._end_loose()
            loose = None
        if loose is None:
            self._loose = ChunkRef(at, size, log_ns, log_ns, {channel: 1}, loose=True)
            return
        self._loose = ChunkRef(
            loose.offset,
            at + size - loose.offset,
            min(loose.start_ns, log_ns),
            max(loose.end_ns, log_ns),
            {**loose.counts, channel: loose.counts.get(channel, 0) + 1},
            loose=True,
        )

    def _end_loose(self) -> None:
        if self._loose is not None:
            self._gathered.chunks.append(self._loose)
            self._loose = None


def read_chunk(file: BinaryIO, uri: str, chunk: ChunkRef) -> memoryview:
    """Reads the records of a chunk.

    Raises:
        CorruptError: it is damaged; names the place.
        UnsupportedError: its compression is unknown.
        TooLargeError: it would take too much memory.
    """
    where = f"{uri}: the chunk at byte {chunk.offset}"
    if chunk.size > MAX_CHUNK_BYTES:
        raise TooLargeError(f"{where} has {chunk.size:,} bytes; write smaller chunks")
    file.seek(chunk.offset)
    content = file.read(chunk.size)
    if len(content) < chunk.size:
        raise CorruptError(f"{where} is cut off; copy the file again")
    if chunk.loose:
        return memoryview(content)
    try:
        body = _RECORD.size
        _, _, unpacked, crc = _CHUNK.unpack_from(content, body)
        body += _CHUNK.size
        (length,) = struct.unpack_from("<I", content, body)
        compression = content[body + 4 : body + 4 + length].decode("ascii")
        body += 4 + length
        (packed,) = struct.unpack_from("<Q", content, body)
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptError(
            f"{where} has no header that can be read; copy the file again"
        ) from error
    if unpacked > MAX_CHUNK_BYTES:
        raise TooLargeError(f"{where} unfolds to {unpacked:,} bytes; write smaller chunks")
    data = memoryview(content)[body + 8 : body + 8 + packed]
    try:
        opened = _decompressed(compression, data, unpacked)
    except (RuntimeError, zstandard.ZstdError, EOFError) as error:
        raise CorruptError(f"{where} cannot be decompressed ({excerpt(error)})") from error
    if len(opened) != unpacked or (crc and zlib.crc32(opened) != crc):
        raise CorruptError(f"{where} does not have the content that its checksum names")
    return memoryview(opened)


def _decompressed(compression: str, data: memoryview, size: int) -> bytes:
    """Decompresses no more than a byte beyond the size that the chunk states."""
    if compression == "":
        return bytes(data)
    if compression == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            return bytes(reader.read(size + 1))
    if compression == "lz4":
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1))
    raise UnsupportedError(f"chunks compressed by {excerpt(compression)} are not read")


def messages_of(
    content: memoryview, names: Callable[[int], str] = lambda channel: f"channel {channel}"
) -> dict[str, Found]:
    """Returns the messages among the records of a chunk by topic.

    Args:
        content: the records.
        names: the topics of channels, of which several may have the same.

    Raises:
        CorruptError: a record is longer than the chunk.
    """
    topics: dict[str, tuple[list[int], list[int], list[int]]] = {}
    channels: dict[int, tuple[list[int], list[int], list[int]]] = {}
    at, last, head = 0, len(content), _RECORD.size + _MESSAGE.size
    unpack, record, message = _MESSAGE_RECORD.unpack_from, _RECORD.unpack_from, Opcode.MESSAGE.value
    while at + _RECORD.size <= last:
        if at + head <= last:
            code, length, channel, _, log_ns = unpack(content, at)
        else:
            code, length = record(content, at)
        end = at + _RECORD.size + length
        if end > last:
            raise CorruptError(f"a record of {length:,} bytes in a chunk of {last:,} bytes")
        if code == message and end - at >= head:
            own = channels.get(channel)
            if own is None:
                own = channels[channel] = topics.setdefault(names(channel), ([], [], []))
            own[0].append(log_ns)
            own[1].append(at + head)
            own[2].append(end)
        at = end
    buffer = np.frombuffer(content, np.uint8)
    return {
        topic: Found.of(times, Messages(buffer, np.array(starts), np.array(ends)))
        for topic, (times, starts, ends) in topics.items()
    }


def _places(content: memoryview) -> Iterator[tuple[int, int, int]]:
    """Yields the opcode of each record, and where its content is."""
    at, last, unpack, size = 0, len(content), _RECORD.unpack_from, _RECORD.size
    while at + size <= last:
        code, length = unpack(content, at)
        start = at + size
        at = start + length
        if at > last:
            raise CorruptError(f"a record of {length:,} bytes in a chunk of {last:,} bytes")
        yield code, start, at


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the opcode and the content of each record that is whole."""
    view = memoryview(content)
    at = 0
    while at + _RECORD.size <= len(view):
        code, length = _RECORD.unpack_from(view, at)
        at += _RECORD.size + length
        if at > len(view):
            return
        yield code, bytes(view[at - length : at])


def _stream(content: bytes) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(content))
