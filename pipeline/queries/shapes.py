"""What becomes of DuckDB's types in an answer: some have no equal in Arrow, Parquet or JSON.

Such a value is written by DuckDB itself, as text: intervals, unions, infinite dates, years that
Python has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import duckdb

from transforms.sandbox import identifier


class Shape(StrEnum):
    """What an answer is for."""

    ARROW = "arrow"
    """Arrow and Parquet."""
    JSON = "json"
    """JSON: as ARROW, but times and bytes are texts."""
    TEXT = "text"
    """Cells of a table: as JSON, but lists and the like are texts."""


_ANY = frozenset(
    {
        "bigint", "boolean", "decimal", "double", "float", "hugeint", "integer", "null",
        "smallint", "tinyint", "ubigint", "uinteger", "usmallint", "utinyint", "uuid", "varchar",
    }
)  # fmt: skip
_ARROW = _ANY | {
    "blob", "date", "time", "timestamp", "timestamp with time zone", "timestamp_ms",
    "timestamp_ns", "timestamp_s",
}  # fmt: skip
_TEXT = "VARCHAR"

Type = duckdb.sqltypes.DuckDBPyType


def target(type_: Type, shape: Shape) -> str:
    """Names the SQL type that a column is cast to; "" if it stays as it is."""
    return "" if _fits(type_, shape) else _named(type_, shape)


def _fits(type_: Type, shape: Shape) -> bool:
    if type_.id in ("list", "array", "struct", "map"):
        return shape is not Shape.TEXT and all(_fits(part, shape) for part in _parts(type_))
    return type_.id in (_ARROW if shape is Shape.ARROW else _ANY)


def _parts(type_: Type) -> list[Type]:
    """Returns the types in a type, without the names and sizes that stand beside them."""
    return [part for _, part in type_.children if isinstance(part, Type)]


def _named(type_: Type, shape: Shape) -> str:
    if _fits(type_, shape):
        return str(type_)
    if shape is Shape.TEXT or type_.id not in ("list", "array", "struct", "map"):
        return _TEXT
    parts = [_named(part, shape) for part in _parts(type_)]
    if type_.id == "struct":
        names = [identifier(name) for name, _ in type_.children]
        return f"STRUCT({', '.join(map(' '.join, zip(names, parts, strict=True)))})"
    if type_.id == "map":
        return f"MAP({', '.join(parts)})"
    size = type_.children[1][1] if type_.id == "array" else ""
    return f"{parts[0]}[{size}]"


def unique(names: Sequence[str]) -> list[str]:
    """Makes names different, as DuckDB does with the columns of a subquery.

    >>> unique(["a", "a", "a_1", "b"])
    ['a', 'a_1', 'a_1_1', 'b']
    """
    taken: set[str] = set()
    given: list[str] = []
    for name in names:
        number, new = 0, name
        while new in taken:
            number += 1
            new = f"{name}_{number}"
        taken.add(new)
        given.append(new)
    return given
