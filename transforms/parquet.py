"""Rows as Parquet: one encoding for every file, Delta's statistics, and the readers.

Native Arrow threads must never own a Python object: one that releases it while the
interpreter shuts down aborts the process. So single files and those of remote stores are
fetched as bytes and parsed in the calling thread, and the local files of a table are opened by
Arrow itself.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from schemas.ids import canonical
from transforms.parquet_ranges import read_remote
from transforms.storage import get, is_local
from transforms.timing import step

ROW_GROUP_ROWS = 1 << 17
STATS_CHARS = 32


def encode(rows: pa.Table) -> bytes:
    """Encodes rows as one Parquet file; equal rows give equal bytes.

    zstd, dictionaries, and row groups of one size.
    """
    with step("encode_rows"):
        out = io.BytesIO()
        # How the rows were gathered decides on chunks, which must not decide on pages.
        rows = rows.combine_chunks()
        pq.write_table(rows, out, compression="zstd", row_group_size=ROW_GROUP_ROWS)
        return out.getvalue()


def decode(
    content: bytes,
    columns: Sequence[str] | None = None,
    filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's own word for it
) -> pa.Table:
    """Decodes a Parquet file in the calling thread.

    Args:
        content: the file.
        columns: the columns wanted, all by default.
        filter: keeps the rows for which it is true; importing what evaluates it is slow.

    Raises:
        pyarrow.ArrowException, OSError: it is not Parquet, or damaged.
    """
    with step("read"):
        file = pq.ParquetFile(pa.BufferReader(content))
        if filter is None:
            return file.read(None if columns is None else list(columns), use_threads=False)
        rows = file.read(use_threads=False).filter(filter)
        return rows if columns is None else rows.select(list(columns))


def read(
    url: str,
    columns: Sequence[str] | None = None,
    filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's own word for it
) -> pa.Table:
    """Reads one Parquet file, which is fetched whole; see `decode` for the arguments.

    To read a few rows of a large file use `read_files`, which skips row groups.

    Raises:
        FileNotFoundError: there is no such file.
        pyarrow.ArrowException, OSError: it cannot be read, is not Parquet, or is damaged.
    """
    return decode(get(url), columns, filter)


def read_files(
    urls: Sequence[str],
    schema: pa.Schema | None = None,
    columns: Sequence[str] | None = None,
    filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's own word for it
) -> pa.Table:
    """Reads files of one table, in their order; statistics and columns limit what is read.

    A file of a remote store may be read from memory, once it was read: under one name a file
    of a lake has one content.

    Args:
        urls: at least one file, all on one file system.
        schema: the table's, by default the first file's; a column that a file lacks is null.
        columns: the columns wanted, all by default.
        filter: keeps the rows for which it is true.

    Raises:
        pyarrow.ArrowInvalid, OSError: a file is gone or damaged.
    """
    names = None if columns is None else list(columns)
    with step("read"):
        if not is_local(urls[0]):
            return read_remote(urls, schema, names, filter)
        import pyarrow.dataset as ds  # noqa: PLC0415 - it imports pandas, which is slow

        place = pyarrow.fs.LocalFileSystem(use_mmap=True)
        files = ds.dataset(list(urls), schema=schema, format="parquet", filesystem=place)
        return files.to_table(columns=names, filter=filter)


def statistics(rows: pa.Table) -> str:
    """Computes Delta's per-column statistics, by which readers skip files, as JSON.

    Minimum and maximum of top-level numbers and strings; strings are cut to STATS_CHARS
    characters, the minimum rounded down and the maximum up. See "Per-file Statistics" in
    the Delta transaction log protocol.
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
    """Shortens a maximum to a string that is not smaller; None if there is no such string.

    >>> _cut_up("a" * 40) == "a" * 31 + "b"
    True
    """
    if len(text) <= STATS_CHARS:
        return text
    for end in range(STATS_CHARS, 0, -1):
        following = ord(text[end - 1]) + 1
        # Neither a surrogate nor past the last code point.
        if following < 0xD800 or 0xE000 <= following <= 0x10FFFF:
            return text[: end - 1] + chr(following)
    return None
