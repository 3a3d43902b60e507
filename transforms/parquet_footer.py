"""What the footer of a stranger's Parquet file says, without Arrow.

Arrow ends the process where the numbers of a column chunk contradict each other, as soon as one
asks for that chunk's metadata. The footer is a struct of thrift's compact protocol
(github.com/apache/thrift, doc/specs/thrift-compact-protocol.md); its fields are in
github.com/apache/parquet-format, parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

_TAIL_BYTES = 8
_NUMBER_BITS = 64
_ROW_GROUPS, _COLUMNS, _META, _PATH, _VALUES = 4, 1, 3, 3, 5
"""Numbers of fields: of the file, a row group, a column chunk, and twice of its metadata."""


def count_values(file: BinaryIO, columns: Sequence[str]) -> int:
    """Counts the values of columns, those in lists one by one, as the footer states them.

    Args:
        file: a Parquet file, seekable.
        columns: names of top-level columns.

    Raises:
        ValueError: the footer is none.
    """
    wanted = {name.encode() for name in columns}
    try:
        return sum(values for name, values in _chunks(_footer(file)) if name in wanted)
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError) as error:
        raise ValueError("its footer ends early, or lacks what it must have") from error


def _footer(file: BinaryIO) -> bytes:
    end = file.seek(-_TAIL_BYTES, 2)
    size = int.from_bytes(file.read(4), "little")
    if size > end:
        raise ValueError(f"its footer has {size} bytes, the file {end}")
    file.seek(end - size)
    return file.read(size)


def _chunks(footer: bytes) -> Iterator[tuple[bytes, int]]:
    """Yields the top-level column and the number of values of every column chunk."""
    for group in _Reader(footer).struct().get(_ROW_GROUPS, ()):
        for chunk in group[_COLUMNS]:
            said = chunk[_META]
            if said[_VALUES] < 0:
                raise ValueError(f"a column has {said[_VALUES]} values")
            yield said[_PATH][0], said[_VALUES]


class _Reader:
    """Reads thrift's compact protocol: a struct as a dictionary by the numbers of its fields."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def struct(self) -> dict[int, Any]:
        """Reads the fields of a struct, to the byte that ends it."""
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step = head >> 4
            number = number + step if step else self._signed()
            kind = head & 15
            fields[number] = kind == 1 if kind in {1, 2} else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind not in _READ:
            raise ValueError(f"its footer holds a value of the kind {kind}")
        return _READ[kind](self)

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._content):
            raise IndexError
        return self._content[self._at - size : self._at]

    def _unsigned(self) -> int:
        number = 0
        for shift in range(0, _NUMBER_BITS, 7):
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError("its footer holds a number of more than 64 bits")

    def _signed(self) -> int:
        number = self._unsigned()
        return number >> 1 ^ -(number & 1)

    def _list(self) -> list[Any]:
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._unsigned()
        if size > len(self._content):
            raise IndexError
        return [self._value(head & 15) for _ in range(size)]

    def _map(self) -> list[Any]:
        size = self._unsigned()
        if size > len(self._content):
            raise IndexError
        kinds = self._byte() if size else 0
        return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(size)]

    def _double(self) -> bytes:
        return self._bytes(8)

    def _text(self) -> bytes:
        return self._bytes(self._unsigned())


_READ: dict[int, Callable[[_Reader], Any]] = {
    1: _Reader._byte,
    2: _Reader._byte,
    3: _Reader._byte,
    4: _Reader._signed,
    5: _Reader._signed,
    6: _Reader._signed,
    7: _Reader._double,
    8: _Reader._text,
    9: _Reader._list,
    10: _Reader._list,
    11: _Reader._map,
    12: _Reader.struct,
}
"""What reads a value of each kind."""
