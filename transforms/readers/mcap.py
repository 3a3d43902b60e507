"""MCAP: messages of robots and vehicles, in files that a recorder may have split.

A log is one file, or the files `<name>_0.mcap`, `<name>_1.mcap`, … of one folder. Its messages are
ROS 1, ROS 2, protobuf or JSON; transforms.messages says which of their fields are our signals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from schemas.errors import CorruptError, UnreadableError
from schemas.records import LogRef, Member
from transforms.messages.log import MessageLog
from transforms.messages.mcap_index import ChunkRef, Index, messages_of, read_chunk, read_index
from transforms.messages.source import Chunk, Found, Schema
from transforms.readers import Claim, ReadOptions, Tree
from transforms.storage import filesystem

SUFFIX = ".mcap"
SPLIT = re.compile(r"(?P<stem>.+)_(?P<number>\d{1,9})\.mcap", re.I)
_BLOCK_BYTES = 1 << 20


class Mcap:
    """The reader of MCAP files."""

    name: ClassVar[str] = "mcap"
    version: ClassVar[int] = 1

    def claim(self, tree: Tree) -> list[Claim]:
        """Claims files by suffix, so that damaged ones are rejected with their damage."""
        logs: dict[str, list[tuple[int, str]]] = {}
        for path in tree.paths:
            if path.lower().endswith(SUFFIX):
                split = SPLIT.fullmatch(path)
                name, number = (split["stem"], int(split["number"])) if split else (path, 0)
                logs.setdefault(name, []).append((number, path))
        claims = []
        for name, numbered in sorted(logs.items()):
            paths = tuple(path for _, path in sorted(numbered))
            base = paths[0][: paths[0].rfind("/") + 1]
            if len(paths) == 1:
                claims.append(Claim(paths[0], tree.uri(paths[0]), paths, base))
            else:
                claims.append(Claim(name, tree.uri(base.rstrip("/")), paths, base))
        return claims

    def open(self, log: LogRef, options: ReadOptions) -> MessageLog:
        """Reads the index of each file, and the first messages.

        Raises:
            DataError: a file is none, or nothing in it is read.
        """
        indexes = []
        for member in log.members:
            with _opened(member.uri) as file:
                indexes.append(read_index(file, member.uri, member.size))
        return MessageLog(log, _Files.of(log.members, indexes), options)


@dataclass(frozen=True, slots=True)
class _Files:
    """The chunks of a log's files, each with its file and its place in it."""

    topics: Mapping[str, Schema]
    chunks: Sequence[Chunk]
    software: str
    broken: Sequence[str]
    places: Sequence[tuple[Member, ChunkRef]]
    names: Mapping[str, Mapping[int, str]]

    @classmethod
    def of(cls, members: Sequence[Member], indexes: Sequence[Index]) -> _Files:
        """Joins the indexes of a log's files.

        Raises:
            CorruptError: a file has no message.
        """
        topics: dict[str, Schema] = {}
        places: list[tuple[Member, ChunkRef]] = []
        chunks = []
        for member, index in zip(members, indexes, strict=True):
            if not index.chunks:
                why = index.broken or "it holds no message"
                raise CorruptError(f"{member.uri}: {why}; record or copy it again")
            for topic in index.topics.values():
                topics.setdefault(topic.name, topic.schema)
            for ref in index.chunks:
                counts: dict[str, int] = {}
                for channel, number in ref.counts.items():
                    name = index.topics[channel].name
                    counts[name] = counts.get(name, 0) + number
                chunks.append(Chunk(len(places), ref.start_ns, ref.end_ns, ref.size, counts))
                places.append((member, ref))
        return cls(
            topics,
            sorted(chunks, key=lambda chunk: (chunk.start_ns, chunk.place)),
            indexes[0].library,
            [f"{m.uri}: {i.broken}" for m, i in zip(members, indexes, strict=True) if i.broken],
            places,
            {
                member.uri: {number: topic.name for number, topic in index.topics.items()}
                for member, index in zip(members, indexes, strict=True)
            },
        )

    def read(self, chunk: Chunk) -> dict[str, Found]:
        """Reads the messages of a chunk by topic; channels may share one."""
        member, ref = self.places[chunk.place]
        with _opened(member.uri) as file:
            content = read_chunk(file, member.uri, ref)
        names = self.names[member.uri]
        return messages_of(content, lambda channel: names.get(channel, f"channel {channel}"))


@contextmanager
def _opened(uri: str) -> Iterator[BinaryIO]:
    """Opens a file for reads at any place, in the block and with it.

    Raises:
        UnreadableError: it cannot be opened, or a read in the block fails.
    """
    try:
        fs, path = filesystem(uri)
        with fs.open(path, mode="rb", block_size=_BLOCK_BYTES, cache_type="readahead") as file:
            yield file
    except OSError as error:
        raise UnreadableError(
            f"{uri}: reading failed ({error.strerror or error}); try again, or copy the file again"
        ) from error
