"""Logs of messages in files: how files that a recorder split are joined, and read by chunks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from schemas.errors import CorruptError, UnreadableError
from schemas.records import LogRef, Member
from transforms.messages.log import MessageLog
from transforms.messages.source import Chunk, Found, Schema
from transforms.readers import Claim, ReadOptions, Tree
from transforms.storage import filesystem

_SPLIT = re.compile(r"(?P<stem>.+)_(?P<number>\d{1,9})")
_BLOCK_BYTES = 1 << 20


class Container(Protocol):
    """What a file holds: topics, and chunks that can be read."""

    @property
    def topics(self) -> Mapping[str, Schema]:
        """How the messages of each topic are written."""
        ...

    @property
    def chunks(self) -> Sequence[Chunk]:
        """The chunks; `Chunk.place` is a number of the container's own."""
        ...

    @property
    def software(self) -> str:
        """What the recorder calls itself, or ""."""
        ...

    @property
    def broken(self) -> str:
        """Where and why the file ends early, or ""."""
        ...

    def read(self, chunk: Chunk) -> dict[str, Found]:
        """Reads the messages of a chunk by topic.

        Raises:
            DataError: they cannot be read.
        """
        ...


def split_claims(tree: Tree, suffix: str) -> list[Claim]:
    """Claims files by suffix; `<name>_0`, `<name>_1`, … of one folder are one log.

    So damaged files are rejected with their damage.
    """
    logs: dict[str, list[tuple[int, str]]] = {}
    for path in tree.paths:
        if path.lower().endswith(suffix):
            split = _SPLIT.fullmatch(path[: -len(suffix)])
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


def open_files(log: LogRef, containers: Sequence[Container], options: ReadOptions) -> MessageLog:
    """Opens a log of files.

    Raises:
        CorruptError: a file has no message.
        UnsupportedError: no topic is read.
    """
    return MessageLog(log, _Files.of(log.members, containers), options)


@dataclass(frozen=True, slots=True)
class _Files:
    """The chunks of a log's files, each with its container and the chunk there."""

    topics: Mapping[str, Schema]
    chunks: Sequence[Chunk]
    software: str
    broken: Sequence[str]
    places: Sequence[tuple[Container, Chunk]]

    @classmethod
    def of(cls, members: Sequence[Member], containers: Sequence[Container]) -> _Files:
        topics: dict[str, Schema] = {}
        places: list[tuple[Container, Chunk]] = []
        chunks, broken = [], []
        for member, container in zip(members, containers, strict=True):
            if not container.chunks:
                why = container.broken or "it holds no message"
                raise CorruptError(f"{member.uri}: {why}; record or copy it again")
            if container.broken:
                broken.append(f"{member.uri}: {container.broken}")
            topics = {**container.topics, **topics}
            for one in container.chunks:
                chunks.append(Chunk(len(places), one.start_ns, one.end_ns, one.size, one.counts))
                places.append((container, one))
        chunks.sort(key=lambda chunk: (chunk.start_ns, chunk.place))
        return cls(topics, chunks, containers[0].software, broken, places)

    def read(self, chunk: Chunk) -> dict[str, Found]:
        """Reads the messages of a chunk by topic."""
        container, own = self.places[chunk.place]
        return container.read(own)


@contextmanager
def opened_file(uri: str) -> Iterator[BinaryIO]:
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
