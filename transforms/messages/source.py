"""What a container of messages offers, whatever its format: topics, and chunks in order of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from schemas.arrays import ByteArray, IntArray

MAX_NS = 1 << 62
"""Times are cut off here: none is so late, and differences of two fit in 64 bits."""


@dataclass(frozen=True, slots=True)
class Schema:
    """How the messages of a topic are written: the encoding, the type's name, its definition."""

    encoding: str
    name: str
    definition_encoding: str
    definition: bytes


UNKNOWN = Schema("", "", "", b"")
"""That of a topic of which nothing is said, because its record is damaged."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages that are read together.

    `place` tells the source where they are. `start_ns` and `end_ns` are the times of the first
    and the last of them by the recorder's clock, `size` their bytes in the file, and `counts`
    their numbers by topic.
    """

    place: int
    start_ns: int
    end_ns: int
    size: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Messages:
    """The bytes of n messages of one type: in `content`, at [starts, ends), int64[n]."""

    content: ByteArray
    starts: IntArray
    ends: IntArray

    @classmethod
    def of(cls, payloads: Iterable[bytes | memoryview]) -> Messages:
        """Joins messages.

        >>> Messages.of([b"ab", b"c"]).ends.tolist()
        [2, 3]
        """
        parts = list(payloads)
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(parts)]
        return cls(np.frombuffer(b"".join(parts), np.uint8), starts, ends)


@dataclass(frozen=True, slots=True)
class Found:
    """Messages of one topic in a chunk, in order: log_ns int64[n] by the recorder's clock."""

    log_ns: IntArray
    messages: Messages

    @classmethod
    def of(cls, times: Sequence[int], messages: Messages) -> Found:
        """Makes it of times that a file states, which may be any number of 64 bits."""
        return cls(np.minimum(np.array(times, np.uint64), MAX_NS).astype(np.int64), messages)


class Source(Protocol):
    """A container of messages, of one file or several."""

    @property
    def topics(self) -> Mapping[str, Schema]:
        """How the messages of each topic are written, as far as it is known."""
        ...

    @property
    def chunks(self) -> Sequence[Chunk]:
        """The chunks, in the order of their first messages; at least one."""
        ...

    @property
    def software(self) -> str:
        """What the recorder calls itself, or ""."""
        ...

    @property
    def broken(self) -> Sequence[str]:
        """Where and why files end early: a line each, with the file's name."""
        ...

    def read(self, chunk: Chunk) -> dict[str, Found]:
        """Reads the messages of a chunk by topic.

        Raises:
            DataError: they cannot be read.
        """
        ...
