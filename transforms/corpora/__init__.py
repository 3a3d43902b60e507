"""Corpus formats: the contents of a sample, and how samples are written to shards.

A new format is a new module here and a row in `CORPORA`.
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
    """One encoded event, or a part of it: the input of a corpus format.

    Args:
        key: name of the sample: letters, digits, "_" and "-".
        clips: camera to MP4.
        frames: camera to JPEG pictures (t_ns, bytes), in temporal order.
        pictures: what is to be said of the clips or frames, of types that JSON can represent;
            None in a part without pictures.
        metadata: the event and its labels, likewise; None in a part without labels.
        signals: name to an array of numbers or of fixed-length strings; None in a part without
            signals.
    """

    key: str
    clips: Mapping[str, bytes] = field(default_factory=dict)
    frames: Mapping[str, Sequence[tuple[int, bytes]]] = field(default_factory=dict)
    pictures: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    signals: Mapping[str, AnyArray] | None = None

    def __post_init__(self) -> None:
        """Rejects frames that are not in temporal order."""
        for camera, pictures in self.frames.items():
            times = np.array([t_ns for t_ns, _ in pictures], np.int64)
            if (np.diff(times) <= 0).any():
                raise ValueError(f"sample {self.key!r}: frames of {camera!r} are out of order")


@dataclass(frozen=True, slots=True)
class ShardDigest:
    """One written shard: its size in bytes, its SHA-256, and its number of samples."""

    bytes: int
    sha256: str
    samples: int


class Corpus(Protocol):
    """A corpus format: `name` is its row in `CORPORA`, `suffix` that of its shards."""

    name: ClassVar[str]
    suffix: ClassVar[str]

    def members(self, sample: Sample) -> dict[str, bytes]:
        """Returns the files of a sample by suffix, as `transforms.corpora.pack` takes them."""
        ...

    def assemble(self, parts: Iterable[bytes | memoryview], out: BinaryIO) -> ShardDigest:
        """Writes a shard from the packed bytes of its samples, one sample per part."""
        ...
