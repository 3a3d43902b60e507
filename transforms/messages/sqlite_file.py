"""ROS 2 bags in SQLite: what a .db3 file holds, and its messages by ranges of rows.

The table `topics` names the topics and their types, `messages` has a row for each message
(https://github.com/ros2/rosbag2). Recorders before Iron write no definitions of types: those of the
common types are taken from rosbags.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote

from fsspec.implementations.local import LocalFileSystem
from rosbags.typesys import Stores, get_typestore

from schemas.errors import CorruptError, EmptyError, TooLargeError, UnreadableError, excerpt
from schemas.records import Member
from transforms.messages.source import MAX_NS, Chunk, Found, Messages, Schema
from transforms.storage import filesystem

CHUNK_BYTES = 4 << 20
"""About how many bytes of messages a chunk has."""

MAX_MESSAGES = 50_000_000
MAX_MESSAGE_BYTES = 256 << 20
"""Bounds of what is held in memory at a time."""

_DEFINITIONS = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
_LISTED = "SELECT id, topic_id, timestamp, length(data) FROM messages ORDER BY id"
_READ = (
    "SELECT topic_id, timestamp, CAST(data AS BLOB) FROM messages "
    "WHERE id BETWEEN ? AND ? AND length(data) <= ? ORDER BY id"
)


class SqliteFile:
    """One .db3 file.

    Raises:
        DataError: it is none.
    """

    def __init__(self, member: Member) -> None:
        self._uri = member.uri
        self._names: dict[int, str] = {}
        self._rows: list[tuple[int, int]] = []
        self.topics: dict[str, Schema] = {}
        self.chunks: list[Chunk] = []
        self.software = "rosbag2"
        self.broken = ""
        if not member.size:
            raise EmptyError(f"{member.uri}: the file has no bytes; record or copy it again")
        with _opened(member.uri) as con:
            try:
                self._read_topics(con)
                self._list(con)
            except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
                if not self.chunks:
                    why = f"it cannot be read as SQLite ({excerpt(error)})"
                    raise CorruptError(f"{member.uri}: {why}; copy it again") from error
                self.broken = f"its messages cannot be listed to their end ({excerpt(error)})"

    def _read_topics(self, con: sqlite3.Connection) -> None:
        """Reads how the messages of each topic are written."""
        given: dict[str, tuple[str, str]] = {}
        tables = {name for (name,) in con.execute("SELECT name FROM sqlite_master")}
        if "message_definitions" in tables:
            for type_, encoding, text in con.execute(_DEFINITIONS):
                if text:
                    given[str(type_)] = (str(encoding), str(text))
        rows = con.execute("SELECT id, name, type, serialization_format FROM topics")
        for number, name, type_, encoding in rows:
            kind, text = given.get(str(type_)) or (
                "ros2msg",
                common_definitions().get(str(type_), ""),
            )
            self._names[int(number)] = str(name)
            self.topics[str(name)] = Schema(str(encoding), str(type_), kind, text.encode())

    def _list(self, con: sqlite3.Connection) -> None:
        """Lists the messages, and puts them into chunks."""
        first, size, number = 0, 0, 0
        counts: dict[str, int] = {}
        times: list[int] = []
        last = first

        def end() -> None:
            if times:
                chunk = Chunk(len(self._rows), min(times), max(times), size, dict(counts))
                self.chunks.append(chunk)
                self._rows.append((first, last))

        try:
            for id_, topic, timestamp, length in con.execute(_LISTED):
                number += 1
                at_ns, bytes_ = min(max(int(timestamp), 0), MAX_NS), int(length or 0)
                if number > MAX_MESSAGES:
                    raise TooLargeError(f"{self._uri}: over {MAX_MESSAGES:,} messages; split it")
                if size >= CHUNK_BYTES:
                    end()
                    first, size = id_, 0
                    counts.clear()
                    times.clear()
                if not times:
                    first = id_
                last = id_
                size += bytes_
                name = self._topic(topic)
                counts[name] = counts.get(name, 0) + 1
                times.append(at_ns)
        finally:
            end()

    def _topic(self, number: int) -> str:
        return self._names.get(number, f"topic {excerpt(number)}")

    def read(self, chunk: Chunk) -> dict[str, Found]:
        """Reads the messages of a chunk by topic."""
        found: dict[str, tuple[list[int], list[bytes]]] = {}
        with _opened(self._uri) as con:
            try:
                rows = con.execute(_READ, (*self._rows[chunk.place], MAX_MESSAGE_BYTES))
                for topic, timestamp, data in rows:
                    times, contents = found.setdefault(self._topic(topic), ([], []))
                    times.append(min(max(int(timestamp), 0), MAX_NS))
                    contents.append(bytes(data or b""))
            except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
                first, last = self._rows[chunk.place]
                raise CorruptError(
                    f"{self._uri}: the messages {first} to {last} cannot be read "
                    f"({excerpt(error)}); copy the file again"
                ) from error
        return {
            topic: Found.of(times, Messages.of(contents))
            for topic, (times, contents) in found.items()
        }


@cache
def common_definitions() -> Mapping[str, str]:
    """Returns the definitions of the common types of ROS 2 by name."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    return {name: store.generate_msgdef(name, ros_version=2)[0] for name in store.fielddefs}


@contextmanager
def _opened(uri: str) -> Iterator[sqlite3.Connection]:
    """Opens a database for reading; one that is not local is copied to the local disk first.

    Raises:
        UnreadableError: it cannot be opened.
    """
    try:
        fs, path = filesystem(uri)
        with tempfile.TemporaryDirectory(prefix="fleetmill-") as folder:
            if not isinstance(fs, LocalFileSystem):
                fs.get_file(path, f"{folder}/copy.db3")
                path = f"{folder}/copy.db3"
            # Immutable: nothing is written beside it, also no lock.
            where = f"file:{quote(str(Path(path).absolute()))}?mode=ro&immutable=1"
            with closing(sqlite3.connect(where, uri=True)) as con:
                con.text_factory = lambda content: content.decode("utf-8", "replace")
                yield con
    except (OSError, sqlite3.OperationalError) as error:
        raise UnreadableError(
            f"{uri}: cannot be opened ({excerpt(error)}); check that it exists, and its permissions"
        ) from error
