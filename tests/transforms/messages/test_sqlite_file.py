"""Bags of ROS 2 in SQLite: their chunks and definitions, on a local disk and elsewhere."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from schemas.errors import CorruptError, UnreadableError
from schemas.records import Member
from tests.message_logs import Written, drive, ros_schema, write_db3
from transforms.messages import sqlite_file
from transforms.messages.ros_types import parse_types, short_name
from transforms.messages.sqlite_file import SqliteFile, common_definitions


def opened(path: Path) -> SqliteFile:
    return SqliteFile(Member(path.name, str(path), path.stat().st_size))


def read_all(file: SqliteFile) -> list[tuple[str, int, bytes]]:
    found = []
    for chunk in file.chunks:
        for topic, own in file.read(chunk).items():
            places = zip(own.messages.starts, own.messages.ends, strict=True)
            contents = [own.messages.content[start:end].tobytes() for start, end in places]
            found += [(topic, *one) for one in zip(own.log_ns.tolist(), contents, strict=True)]
    return sorted(found)


def told(messages: list[Written]) -> list[tuple[str, int, bytes]]:
    return sorted((message.topic, message.log_ns, message.content) for message in messages)


def test_the_messages_are_read_by_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "CHUNK_BYTES", 5000)
    messages = drive(2.0)
    file = opened(write_db3(tmp_path / "a.db3", messages))
    assert len(file.chunks) > 5
    assert read_all(file) == told(messages)
    for chunk in file.chunks:
        found = file.read(chunk)
        assert chunk.counts == {topic: len(own.log_ns) for topic, own in found.items()}
        assert chunk.start_ns == min(own.log_ns.min() for own in found.values())
        assert chunk.end_ns == max(own.log_ns.max() for own in found.values())


def test_a_file_elsewhere_is_copied_first(tmp_path: Path) -> None:
    messages = drive(1.0)
    content = write_db3(tmp_path / "a.db3", messages).read_bytes()
    fsspec.filesystem("memory").pipe_file("/bags/a.db3", content)
    file = SqliteFile(Member("a.db3", "memory://bags/a.db3", len(content)))
    assert read_all(file) == told(messages)


def test_definitions_are_those_of_the_file_or_the_common_ones(tmp_path: Path) -> None:
    messages = drive(1.0)
    with_ = opened(write_db3(tmp_path / "a.db3", messages))
    without = opened(write_db3(tmp_path / "b.db3", messages, definitions=False))
    assert with_.topics["/imu"] == ros_schema("sensor_msgs/Imu")
    for topic, schema in with_.topics.items():
        other = without.topics[topic]
        name = short_name(schema.name)
        types = [parse_types(one.name, one.definition.decode()) for one in (schema, other)]
        assert types[0][name] == types[1][name]
    assert "nav_msgs/msg/Odometry" in common_definitions()


def test_rows_that_are_none_cost_their_file_or_chunk(tmp_path: Path) -> None:
    path = write_db3(tmp_path / "a.db3", drive(1.0))
    with closing(sqlite3.connect(path)) as con:
        con.execute("UPDATE messages SET topic_id = 99, timestamp = -5 WHERE id = 7")
        con.commit()
    file = opened(path)
    assert [one[:2] for one in read_all(file) if one[0] == "topic 99"] == [("topic 99", 0)]
    with closing(sqlite3.connect(path)) as con:
        con.execute("UPDATE messages SET timestamp = 'noon' WHERE id = 100")
        con.commit()
    file = opened(path)
    assert "cannot be listed to their end" in file.broken
    assert sum(sum(chunk.counts.values()) for chunk in file.chunks) == 99
    with closing(sqlite3.connect(path)) as con:
        con.execute("DROP TABLE messages")
        con.commit()
    with pytest.raises(CorruptError, match="no such table"):
        opened(path)


def test_a_file_that_went_away_is_read_again_by_the_next_run(tmp_path: Path) -> None:
    path = write_db3(tmp_path / "a.db3", drive(1.0))
    file = opened(path)
    path.unlink()
    with pytest.raises(UnreadableError):
        file.read(file.chunks[0])
