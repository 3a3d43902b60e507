"""What a container of messages offers, whatever its format: topics, and chunks in order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Schema:
    """How the messages of a topic are written: the encoding, the type's name, its definition."""

    encoding: str
    name: str
    definition_encoding: str
    definition: bytes


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


@dataclass(slots=True)
class Found:
    """Messages of one topic, in order: the recorder's times, and their bytes."""

    log_ns: list[int] = field(default_factory=list)
    payloads: list[memoryview] = field(default_factory=list)

    def extend(self, other: Found) -> None:
        """Adds messages.

        >>> found = Found([1], [memoryview(b"a")])
        >>> found.extend(Found([2], [memoryview(b"b")]))
        >>> found.log_ns
        [1, 2]
        """
        self.log_ns += other.log_ns
        self.payloads += other.payloads


class Source(Protocol):
    """A container of messages, of one file or several."""

    @property
    def topics(self) -> Mapping[str, Schema]:
        """How the messages of each topic are written."""
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
