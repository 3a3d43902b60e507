"""Bags of ROS 1: their messages and index, against rosbags' own reader, and forged ones."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import pytest
from rosbags.rosbag1 import Reader

from schemas.errors import CorruptError, UnsupportedError
from schemas.records import Member
from tests.message_logs import drive, write_bag
from transforms.messages.bag_file import BagFile


def opened(path: Path) -> BagFile:
    return BagFile(Member(path.name, str(path), path.stat().st_size))


def read_all(bag: BagFile) -> list[tuple[str, int, bytes]]:
    found = []
    for chunk in bag.chunks:
        for topic, own in bag.read(chunk).items():
            places = zip(own.messages.starts, own.messages.ends, strict=True)
            contents = [own.messages.content[start:end].tobytes() for start, end in places]
            found += [(topic, *one) for one in zip(own.log_ns.tolist(), contents, strict=True)]
    return sorted(found)


@pytest.mark.parametrize("compression", ["", "bz2", "lz4"])
def test_the_messages_are_those_that_rosbags_reads(tmp_path: Path, compression: str) -> None:
    path = write_bag(tmp_path / "a.bag", drive(2.0, version=1), compression, 5000)
    bag = opened(path)
    with Reader(path) as reader:
        expected = sorted((c.topic, t, bytes(data)) for c, t, data in reader.messages())
    assert read_all(bag) == expected
    assert len(bag.chunks) > 5
    assert bag.broken == ""
    counts: Counter[str] = Counter()
    for chunk in bag.chunks:
        counts.update(chunk.counts)
        found = bag.read(chunk)
        assert chunk.counts == {topic: len(own.log_ns) for topic, own in found.items()}
        assert chunk.start_ns == min(own.log_ns.min() for own in found.values())
        assert chunk.end_ns == max(own.log_ns.max() for own in found.values())
    assert counts == Counter(topic for topic, _, _ in expected)


def test_a_scan_finds_what_the_index_says(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "a.bag", drive(2.0, version=1), chunk_bytes=5000)
    indexed = opened(path)
    content = path.read_bytes()
    at = content.index(b"index_pos=") + len(b"index_pos=")
    path.write_bytes(content[:at] + bytes(8) + content[at + 8 :])
    scanned = opened(path)
    assert scanned.chunks == indexed.chunks
    assert scanned.topics == indexed.topics
    assert scanned.broken == "it ends without an index"


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"compression=none", b"compression=zstd", UnsupportedError),
        (b"size=", b"sizf=", CorruptError),
    ],
)
def test_a_chunk_that_is_forged_is_named(
    tmp_path: Path, old: bytes, new: bytes, error: type[Exception]
) -> None:
    path = write_bag(tmp_path / "a.bag", drive(1.0, version=1), chunk_bytes=1 << 20)
    bag = opened(path)
    path.write_bytes(path.read_bytes().replace(old, new))
    (chunk,) = bag.chunks
    with pytest.raises(error):
        bag.read(chunk)


@pytest.mark.parametrize("off", [-1, 1, 1000])
def test_a_chunk_of_another_size_than_it_states_is_corrupt(tmp_path: Path, off: int) -> None:
    path = write_bag(tmp_path / "a.bag", drive(1.0, version=1), "lz4", 1 << 20)
    bag = opened(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"compression=lz4")
    at = content.index(b"size=", at) + len(b"size=")
    (size,) = struct.unpack_from("<I", content, at)
    struct.pack_into("<I", content, at, size + off)
    path.write_bytes(content)
    (chunk,) = bag.chunks
    with pytest.raises(CorruptError, match="does not have the"):
        bag.read(chunk)
