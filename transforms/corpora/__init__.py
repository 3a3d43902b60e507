"""Corpus formats: what a sample is made of, and how a shard is put together.

A new format is a new file here and a row in `CORPORA`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Protocol

import numpy as np

from schemas.arrays import AnyArray
from schemas.registry import Registry

CORPORA = Registry("corpus format", {"webdataset": "transforms.corpora.webdataset:WebDataset"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One event, encoded: the input of a corpus format.

    Args:
        key: names the sample: letters, digits, "_" and "-".
        clips: camera to an MP4.
        frames: camera to JPEG pictures (t_ns, bytes), in the order of time.
        metadata: what JSON can carry: the event and its labels.
        signals: name to an array of numbers or of fixed-length text.
    """

    key: str
    clips: Mapping[str, bytes] = field(default_factory=dict)
    frames: Mapping[str, Sequence[tuple[int, bytes]]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    signals: Mapping[str, AnyArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses frames out of order, which no loader could put right."""
        for camera, pictures in self.frames.items():
            times = np.array([t_ns for t_ns, _ in pictures], np.int64)
            if (np.diff(times) <= 0).any():
                raise ValueError(f"sample {self.key!r}: frames of {camera!r} are out of order")


@dataclass(frozen=True, slots=True)
class ShardDigest:
    """One written shard: its size in bytes, its SHA-256, and how many samples it holds."""

    bytes: int
    sha256: str
    samples: int


class Corpus(Protocol):
    """What a corpus format does: `name` is its row in `CORPORA`, `suffix` its shards'."""

    name: ClassVar[str]
    suffix: ClassVar[str]

    def members(self, sample: Sample) -> dict[str, bytes]:
        """Turns a sample into its files, by suffix: what `transforms.corpora.pack` takes."""
        ...

    def assemble(self, parts: Iterable[bytes | memoryview], out: BinaryIO) -> ShardDigest:
        """Writes a shard from the bytes of whole samples, one a part."""
        ...
