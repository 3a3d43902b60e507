"""Decodes ROS messages in whole columns: each step reads one field of all messages at once.

ROS 2 messages are CDR as of DDS (OMG DDSI-RTPS 10.2: four bytes that tell the byte order, then
fields that are aligned to their size); ROS 1 messages are the same without alignment, without the
four bytes, and with strings that do not end in a zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.arrays import AnyArray, BoolArray, IntArray
from schemas.errors import UnsupportedError
from transforms.messages.ros_types import SIZES, Field, Types, find_field
from transforms.messages.source import Messages

_HEADER_BYTES = 4
_PLAIN_CDR = (0, 1)
"""Kinds of CDR by the second byte of a message: big and little endian."""

MAX_STEPS = 200_000
"""Fields that are read of messages of one type, with those of the structures in lists."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What was asked for of n messages.

    `values` are by path: a number is an array [n] of its own type, a list of numbers an object
    array of arrays, a text or a list of texts an object array. `valid` is bool[n]: whether the
    message held all that comes before and in the fields. Values of others mean nothing.
    """

    values: Mapping[str, AnyArray]
    valid: BoolArray

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Joins the columns of messages, of the same fields."""
        values = {
            path: np.concatenate([part.values[path] for part in parts]) for path in parts[0].values
        }
        return cls(values, np.concatenate([part.valid for part in parts]))


def ros_columns(
    types: Types, name: str, messages: Messages, wanted: Sequence[str], *, ros1: bool = False
) -> Columns:
    """Decodes fields of messages.

    Args:
        types: the types that the messages are made of.
        name: the short name of their own type.
        messages: the messages.
        wanted: paths of fields, such as `header.stamp.sec`. Structures in lists have none.
        ros1: whether they are of ROS 1.

    Raises:
        UnsupportedError: the type has no such field, or the messages are of another encoding.
    """
    for path in wanted:
        if find_field(types, name, path) is None:
            raise UnsupportedError(f"{name} has no number or text {path}")
    order = "<" if ros1 else _byte_order(messages)
    walk = _Walk(types, messages, set(wanted), order, ros1=ros1)
    walk.structure(name, "", np.flatnonzero(walk.valid))
    return Columns(walk.found, walk.valid)


def _byte_order(messages: Messages) -> str:
    whole = messages.starts + _HEADER_BYTES <= messages.ends
    kinds = messages.content[messages.starts[whole] + 1]
    first = messages.content[messages.starts[whole]]
    if not len(kinds):
        return "<"
    if first.any() or (kinds != kinds[0]).any() or kinds[0] not in _PLAIN_CDR:
        raise UnsupportedError(
            f"messages of the encodings {sorted(set(kinds.tolist()))[:5]}; only plain CDR is read"
        )
    return "<" if kinds[0] else ">"


class _Walk:
    """A cursor in each message; those of the given rows go from field to field together.

    A field within a list has the path None, and is passed over.
    """

    def __init__(
        self, types: Types, messages: Messages, wanted: set[str], order: str, *, ros1: bool
    ) -> None:
        self._types = types
        self._content = messages.content
        self._ends = messages.ends
        self._wanted = wanted
        self._order = order
        self._ros1 = ros1
        self._origin = messages.starts + (0 if ros1 else _HEADER_BYTES)
        self._at = self._origin.copy()
        self._steps = 0
        self.valid: BoolArray = self._at <= self._ends
        self.found: dict[str, AnyArray] = {}

    def structure(self, name: str, prefix: str | None, rows: IntArray) -> None:
        """Goes through the fields of a structure, until all that is wanted is found."""
        fields = self._types[name]
        if not fields and not self._ros1:
            self._number("uint8", None, rows)  # CDR has no structure without a member
        for one in fields:
            if prefix is None:
                self._field(one, None, rows)
            elif len(self.found) < len(self._wanted):
                self._field(one, prefix + one.name, rows)

    def _field(self, one: Field, path: str | None, rows: IntArray) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise UnsupportedError(f"messages of more than {MAX_STEPS:,} fields")
        rows = rows[self.valid[rows]]
        if one.length is not None:
            self._list(one, path, rows)
        elif one.type in SIZES:
            self._number(one.type, path, rows)
        elif one.type == "string":
            self._text(path, rows)
        else:
            self.structure(one.type, None if path is None else f"{path}.", rows)

    def _number(self, type_: str, path: str | None, rows: IntArray) -> None:
        code = np.dtype(self._order + SIZES[type_])
        self._align(rows, code.itemsize)
        rows, at = self._take(rows, np.full(len(rows), code.itemsize))
        if path in self._wanted:
            values = np.zeros(len(self.valid), code)
            values[rows] = self._gathered(at, code)
            self.found[str(path)] = values

    def _text(self, path: str | None, rows: IntArray) -> None:
        rows, lengths = self._lengths(rows)
        rows, at = self._take(rows, lengths)
        if path in self._wanted:
            values = np.full(len(self.valid), "", object)
            for row, start, end in zip(rows, at, self._at[rows], strict=True):
                values[row] = self._decoded(start, end)
            self.found[str(path)] = values

    def _list(self, one: Field, path: str | None, rows: IntArray) -> None:
        if one.length == -1:
            rows, lengths = self._lengths(rows)
        else:
            lengths = np.full(len(rows), one.length, np.int64)
        if one.type in SIZES:
            self._numbers(one.type, path, rows, lengths)
        elif one.type == "string" and path in self._wanted:
            self._texts(str(path), rows, lengths)
        else:
            single = Field(one.name, one.type)
            for place in range(int(lengths.max(initial=0))):
                self._field(single, None, rows[lengths > place])

    def _numbers(self, type_: str, path: str | None, rows: IntArray, lengths: IntArray) -> None:
        code = np.dtype(self._order + SIZES[type_])
        self._align(rows[lengths > 0], code.itemsize)
        rows, at = self._take(rows, lengths * code.itemsize)
        if path in self._wanted:
            values = np.full(len(self.valid), None, object)
            for row, start, end in zip(rows, at, self._at[rows], strict=True):
                values[row] = self._content[start:end].view(code)
            self.found[str(path)] = values

    def _texts(self, path: str, rows: IntArray, lengths: IntArray) -> None:
        values = np.full(len(self.valid), None, object)
        for row in rows:
            values[row] = []
        for place in range(int(lengths.max(initial=0))):
            own, sizes = self._lengths(rows[(lengths > place) & self.valid[rows]])
            own, at = self._take(own, sizes)
            for row, start, end in zip(own, at, self._at[own], strict=True):
                values[row].append(self._decoded(start, end))
        self.found[path] = values

    def _lengths(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Reads the length of a list or text."""
        code = np.dtype(f"{self._order}u4")
        self._align(rows, code.itemsize)
        rows, at = self._take(rows, np.full(len(rows), code.itemsize))
        lengths = self._gathered(at, code).astype(np.int64)
        # No element is smaller than a byte: a longer list is none.
        sound = lengths <= self._ends[rows] - self._at[rows]
        self.valid[rows[~sound]] = False
        return rows[sound], lengths[sound]

    def _align(self, rows: IntArray, size: int) -> None:
        if not self._ros1 and size > 1:
            self._at[rows] += (self._origin[rows] - self._at[rows]) % size

    def _take(self, rows: IntArray, sizes: IntArray) -> tuple[IntArray, IntArray]:
        """Moves the cursors on; returns the rows that have so many bytes, and where they begin."""
        at = self._at[rows]
        sound = at + sizes <= self._ends[rows]
        self.valid[rows[~sound]] = False
        rows, at = rows[sound], at[sound]
        self._at[rows] = at + sizes[sound]
        return rows, at

    def _gathered(self, at: IntArray, code: np.dtype[Any]) -> AnyArray:
        places = at[:, np.newaxis] + np.arange(code.itemsize)
        return self._content[places].view(code)[:, 0]

    def _decoded(self, start: int, end: int) -> str:
        # A text of ROS 2 ends in a zero.
        return self._content[start:end].tobytes().rstrip(b"\0").decode("utf-8", "replace")
