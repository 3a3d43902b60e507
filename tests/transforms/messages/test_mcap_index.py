"""The index of an MCAP file: from its summary and by a scan, against the mcap library."""

from __future__ import annotations

import io
import struct
from collections import Counter
from pathlib import Path

import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType

from schemas.errors import CorruptError, EmptyError, TooLargeError, UnsupportedError
from tests.message_logs import COMPRESSIONS, drive, without_summary, write_mcap
from transforms.messages.mcap_index import Index, messages_of, read_chunk, read_index


def index_of(content: bytes) -> Index:
    return read_index(io.BytesIO(content), "a.mcap", len(content))


def read_all(content: bytes) -> list[tuple[str, int, bytes]]:
    """Every message of a file, through its index."""
    index = index_of(content)
    file = io.BytesIO(content)
    found = []
    for chunk in index.chunks:
        opened = messages_of(
            read_chunk(file, "a.mcap", chunk), lambda channel: index.topics[channel].name
        )
        for topic, own in opened.items():
            places = zip(own.messages.starts, own.messages.ends, strict=True)
            contents = [own.messages.content[start:end].tobytes() for start, end in places]
            found += [(topic, *one) for one in zip(own.log_ns.tolist(), contents, strict=True)]
    return found


def by_library(content: bytes) -> list[tuple[str, int, bytes]]:
    return [
        (c.topic, m.log_time, m.data)
        for _, c, m in make_reader(io.BytesIO(content)).iter_messages()
    ]


@pytest.fixture(params=COMPRESSIONS, ids=lambda c: c.name)
def content(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    """A file of several chunks."""
    path = write_mcap(tmp_path / "a.mcap", drive(2.0), chunk_bytes=5000, compression=request.param)
    return path.read_bytes()


def test_the_messages_are_those_that_the_library_reads(content: bytes) -> None:
    assert sorted(read_all(content)) == sorted(by_library(content))
    index = index_of(content)
    assert len(index.chunks) > 5
    assert (index.library, index.broken) == ("recorder 1", "")
    counts: Counter[str] = Counter()
    for chunk in index.chunks:
        for channel, number in chunk.counts.items():
            counts[index.topics[channel].name] += number
    assert counts == Counter(topic for topic, _, _ in by_library(content))


def test_a_scan_finds_what_the_summary_says(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "b.mcap"
    path.write_bytes(content)
    scanned = index_of(without_summary(path))
    index = index_of(content)
    assert scanned.topics == index.topics
    assert scanned.chunks == index.chunks
    assert scanned.broken == "it ends without a footer"


def test_a_summary_that_says_too_little_is_not_believed(content: bytes) -> None:
    """As where the statistics count other messages than the chunks do."""
    at = content.rindex(struct.pack("<Q", len(by_library(content))))
    forged = content[:at] + struct.pack("<Q", 7) + content[at + 8 :]
    index = index_of(forged)
    assert index.chunks == index_of(content).chunks
    assert index.broken == "", "the scan came to the footer"


def test_loose_messages_are_taken_together(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", drive(2.0), use_chunking=False)
    content = path.read_bytes()
    (chunk,) = index_of(content).chunks
    assert chunk.loose
    assert sum(chunk.counts.values()) == 360
    assert sorted(read_all(content)) == sorted(by_library(content))


def one_chunk(folder: Path, compression: CompressionType) -> Path:
    return write_mcap(folder / "a.mcap", drive(1.0), chunk_bytes=1 << 20, compression=compression)


def test_a_chunk_that_unfolds_to_more_than_it_states_is_corrupt(tmp_path: Path) -> None:
    for compression in (CompressionType.LZ4, CompressionType.ZSTD):
        path = write_mcap(
            tmp_path / "a.mcap", drive(1.0), chunk_bytes=1 << 20, compression=compression
        )
        content = bytearray(path.read_bytes())
        (chunk,) = index_of(bytes(content)).chunks
        at = chunk.offset + 9 + 16
        (size,) = struct.unpack_from("<Q", content, at)
        for stated, error in ((size - 1, CorruptError), (1 << 40, TooLargeError)):
            struct.pack_into("<Q", content, at, stated)
            with pytest.raises(error, match=r"a\.mcap: the chunk at byte"):
                read_chunk(io.BytesIO(content), "a.mcap", chunk)


def test_a_compression_that_is_unknown_is_named(tmp_path: Path) -> None:
    path = write_mcap(
        tmp_path / "a.mcap", drive(1.0), chunk_bytes=1 << 20, compression=CompressionType.ZSTD
    )
    content = path.read_bytes()
    (chunk,) = index_of(content).chunks
    forged = content.replace(b"\x04\0\0\0zstd", b"\x04\0\0\0lzma", 1)
    with pytest.raises(UnsupportedError, match="lzma"):
        read_chunk(io.BytesIO(forged), "a.mcap", chunk)


def test_what_is_no_mcap_file_is_refused() -> None:
    with pytest.raises(EmptyError):
        index_of(b"")
    with pytest.raises(CorruptError, match="does not begin as an MCAP file"):
        index_of(b"#ROSBAG V2.0\n")
