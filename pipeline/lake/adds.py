"""The files that a run adds to the lake, compressed by table.

A large run adds a hundred thousand files, each with statistics. As Python objects they are a
kilobyte each; compressed, in order, some tens of bytes.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter

from schemas.ids import canonical
from schemas.records import AddFile

_BLOCK = 1 << 16
_FIELDS = TypeAdapter(tuple[str, int, int, str])


@dataclass(frozen=True, slots=True)
class Adds(Iterable[AddFile]):
    """Files to add, in a fixed order within each table.

    `tables` has by table lines of JSON, deflated: path, size, rows and statistics of a file.
    """

    tables: Mapping[str, bytes]

    @classmethod
    def of(cls, adds: Iterable[AddFile]) -> Adds:
        """Takes distinct files, one at a time, in any order of their tables."""
        streams: dict[str, _Stream] = {}
        for add in adds:
            streams.setdefault(add.table, _Stream()).append(add)
        return cls({table: streams[table].content() for table in sorted(streams)})

    def of_table(self, table: str) -> Iterator[AddFile]:
        """Yields the files of one table.

        Raises:
            ValueError, zlib.error: the content is damaged.
        """
        for line in _lines(self.tables.get(table, b"")):
            yield AddFile(table, *_FIELDS.validate_json(line, strict=True))

    def __iter__(self) -> Iterator[AddFile]:
        """Yields the files of all tables."""
        for table in self.tables:
            yield from self.of_table(table)

    def __bool__(self) -> bool:
        """Tells whether there is a file."""
        return bool(self.tables)

    def to_json(self) -> dict[str, str]:
        """Makes the files part of a JSON document."""
        return {table: base64.b64encode(c).decode("ascii") for table, c in self.tables.items()}

    @classmethod
    def from_json(cls, tables: Mapping[str, str]) -> Adds:
        """Reads what `to_json` returned."""
        return cls({table: base64.b64decode(text, validate=True) for table, text in tables.items()})


class _Stream:
    def __init__(self) -> None:
        self._deflate = zlib.compressobj()
        self._written: list[bytes] = []

    def append(self, add: AddFile) -> None:
        line = canonical([add.path, add.size, add.rows, add.stats]) + b"\n"
        self._written.append(self._deflate.compress(line))

    def content(self) -> bytes:
        return b"".join([*self._written, self._deflate.flush()])


def _lines(content: bytes) -> Iterator[bytes]:
    """Inflates lines some at a time."""
    inflate = zlib.decompressobj()
    rest = b""
    for start in range(0, len(content), _BLOCK):
        *lines, rest = (rest + inflate.decompress(content[start : start + _BLOCK])).split(b"\n")
        yield from lines
    if rest or (content and not inflate.eof):
        raise ValueError("the list of files is cut")
