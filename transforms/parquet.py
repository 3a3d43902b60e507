"""Rows as the lake's Parquet: equal rows give equal bytes, and Delta's statistics of them."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.ids import canonical

ROW_GROUP_ROWS = 1 << 17
STATS_CHARS = 32


def encode(rows: pa.Table) -> bytes:
    """Returns the rows as one Parquet file: zstd, dictionaries, row groups of one size."""
    out = io.BytesIO()
    # Chunks come from how the rows were gathered; pages must not.
    rows = rows.combine_chunks()
    pq.write_table(rows, out, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return out.getvalue()


def statistics(rows: pa.Table) -> str:
    """Describes the columns as Delta does, so that readers can skip the file.

    Minimum and maximum of top-level numbers and strings; strings are cut to STATS_CHARS
    characters, the minimum down and the maximum up. See "Per-file Statistics" in the
    Delta transaction log protocol.
    """
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for field in rows.schema:
        if pa.types.is_nested(field.type):
            continue
        column = rows.column(field.name)
        nulls[field.name] = column.null_count
        is_float = pa.types.is_floating(field.type)
        if pa.types.is_boolean(field.type) or (
            is_float and not pc.all(pc.is_finite(column)).as_py()
        ):
            continue
        extremes = pc.min_max(column).as_py()
        low, high = extremes["min"], extremes["max"]
        if low is None:
            continue
        if isinstance(low, str):
            low, high = low[:STATS_CHARS], _cut_up(high)
        least[field.name] = low
        if high is not None:
            most[field.name] = high
    return canonical(
        {"numRecords": rows.num_rows, "minValues": least, "maxValues": most, "nullCount": nulls}
    ).decode()


def _cut_up(text: str) -> str | None:
    """Cuts a maximum to a short string that is no smaller, or None where there is none.

    >>> _cut_up("a" * 40) == "a" * 31 + "b"
    True
    """
    if len(text) <= STATS_CHARS:
        return text
    for end in range(STATS_CHARS, 0, -1):
        following = ord(text[end - 1]) + 1
        # Not into the surrogates, nor past the last code point.
        if following < 0xD800 or 0xE000 <= following <= 0x10FFFF:
            return text[: end - 1] + chr(following)
    return None
