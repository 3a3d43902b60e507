"""Boxes of ISO base media files (MP4, MOV): finding `moov`, and parsing what is in it.

Box layouts: ISO/IEC 14496-12. Every size and count is checked against the bytes that are
there before anything is read or allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from schemas.arrays import AnyArray
from schemas.errors import CorruptError, TruncatedError, UnsupportedError

MAX_MOOV_BYTES = 512 << 20
MAX_BOXES = 4096
"""Limit on sibling boxes, so that a forged file cannot keep the parser busy."""

_FIRST_BOXES = frozenset(
    {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"styp"}
)


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its type, and the range [start, end) of its payload in the parsed bytes."""

    type: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BoxParser:
    """Parses boxes in memory, and names the file in its errors.

    Args:
        content: the bytes, such as the payload of `moov`.
        uri: the name of the file in messages.
        file_size: bytes of the whole file.
    """

    content: bytes
    uri: str
    file_size: int

    def corrupt(self, problem: str) -> CorruptError:
        """Returns the error for boxes that contradict each other or the standard."""
        return CorruptError(f"{self.uri}: {problem}; the index is damaged, copy the file again")

    def boxes(self, start: int, end: int) -> Iterator[Box]:
        """Yields the boxes side by side in [start, end).

        Raises:
            CorruptError: a box exceeds the range, or there are over MAX_BOXES.
        """
        count = 0
        while start + 8 <= end:
            type_, size, header = _parse_header(self.content, start, end - start)
            if size < header or start + size > end:
                raise self.corrupt(
                    f"box {type_!r} at byte {start} of moov claims {size} bytes, "
                    f"{end - start} are left"
                )
            yield Box(type_, start + header, start + size)
            start += size
            count += 1
            if count > MAX_BOXES:
                raise self.corrupt(f"more than {MAX_BOXES} boxes side by side")

    def children(self, box: Box) -> dict[bytes, Box]:
        """Returns the first child of each type."""
        found: dict[bytes, Box] = {}
        for child in self.boxes(box.start, box.end):
            found.setdefault(child.type, child)
        return found

    def unpack(self, layout: str, box: Box, at: int = 0) -> tuple[int, ...]:
        """Unpacks a struct `layout` at an offset in a payload.

        Raises:
            CorruptError: the box is too short.
        """
        if box.start + at + struct.calcsize(layout) > box.end:
            raise self.corrupt(f"box {box.type!r} is too short")
        return struct.unpack_from(layout, self.content, box.start + at)

    def rows(self, box: Box, columns: str, at: int = 4) -> AnyArray:
        """Reads a counted table: uint32 n, then n rows of big-endian `columns`.

        Returns:
            A structured array[n] with the fields f0, f1, ...

        Raises:
            CorruptError: the box is too short for n rows.
        """
        (count,) = self.unpack(">I", box, at)
        dtype = np.dtype([(f"f{k}", f">{c}") for k, c in enumerate(columns.split())])
        if count * dtype.itemsize > box.end - box.start - at - 4:
            raise self.corrupt(f"box {box.type!r} claims {count} rows, more than it has bytes for")
        return np.frombuffer(self.content, dtype, count, box.start + at + 4)


def read_moov(file: BinaryIO, uri: str, file_size: int) -> bytes:
    """Reads the payload of `moov`, and of other top-level boxes only the headers.

    Raises:
        CorruptError: not an MP4, or a box with an impossible size.
        TruncatedError: `moov` is missing or cut off.
        UnsupportedError: `moov` is larger than MAX_MOOV_BYTES.
    """
    at, count = 0, 0
    while at + 8 <= file_size:
        file.seek(at)
        head = file.read(16)
        type_, size, header = _parse_header(head, 0, file_size - at)
        if count == 0 and type_ not in _FIRST_BOXES:
            raise CorruptError(
                f"{uri}: not an MP4, it begins with {head[:8]!r}; check what wrote the file"
            )
        if size < header:
            raise CorruptError(
                f"{uri}: box {type_!r} at byte {at} claims {size} bytes; copy the file again"
            )
        if type_ == b"moov":
            return _read_payload(file, uri, Box(type_, at + header, at + size), file_size)
        at += size
        count += 1
        if count > MAX_BOXES:
            raise CorruptError(
                f"{uri}: more than {MAX_BOXES} boxes before the index (moov); copy the file again"
            )
    raise TruncatedError(
        f"{uri}: no index (moov) in {file_size} bytes, the recording was cut off; "
        "salvage it with an MP4 repair tool"
    )


def _read_payload(file: BinaryIO, uri: str, moov: Box, file_size: int) -> bytes:
    size = moov.end - moov.start
    if moov.end > file_size:
        raise TruncatedError(
            f"{uri}: the index (moov) needs {size} bytes from byte {moov.start} on, "
            f"{file_size - moov.start} are left; copy the file again"
        )
    if size > MAX_MOOV_BYTES:
        raise UnsupportedError(f"{uri}: its index has {size} bytes; split the file")
    file.seek(moov.start)
    content = file.read(size)
    if len(content) < size:
        raise TruncatedError(f"{uri}: the index (moov) ends early; copy the file again")
    return content


def _parse_header(content: bytes, at: int, available: int) -> tuple[bytes, int, int]:
    """Parses a box header.

    Args:
        content: the bytes.
        at: where the header starts in them.
        available: bytes from there to the end of the container or file.

    Returns:
        Type, size of the whole box (as claimed), size of the header.
    """
    size, type_ = struct.unpack_from(">I4s", content, at)
    if size == 1 and available >= 16:
        (size,) = struct.unpack_from(">Q", content, at + 8)
        return type_, size, 16
    # Size 0: the box extends to the end of its container.
    return type_, size or available, 8
