"""Reads Parquet files of remote stores: a small file in one request, of a large one what is needed.

Everything is fetched and parsed in the calling thread, so that no thread of Arrow's holds a
Python object.
"""

from __future__ import annotations

import io
import re
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.storage import FileSystem, filesystem

TAIL_BYTES = 1 << 20
"""Bytes from the end of a file that are fetched at first: the footer, or all of a small file."""

_GAP_BYTES = 1 << 20
"""Ranges that are no further apart are fetched as one."""

_FILES = 64
"""Files whose ends are held at a time."""

_SMALL_FILES, _SMALL_BYTES = 256, 1 << 16
"""How many small files are kept, and what is small: jobs read the tables again and again."""

_small: dict[str, bytes] = {}
_lock = threading.Lock()


def read_remote(
    urls: Sequence[str],
    schema: pa.Schema | None = None,
    columns: Sequence[str] | None = None,
    filter: pc.Expression | None = None,  # noqa: A002 - pyarrow's own word for it
) -> pa.Table:
    """Reads files of one table, in their order; the arguments are those of `read_files`."""
    fs, _ = filesystem(urls[0])
    tables: list[pa.Table] = []
    for first in range(0, len(urls), _FILES):
        batch = urls[first : first + _FILES]
        for url, tail in zip(batch, _tails(fs, batch), strict=True):
            source = _open(fs, filesystem(url)[1], tail)
            if schema is None:
                schema = pq.ParquetFile(source).schema_arrow.remove_metadata()
            tables.append(_rows(source, schema, columns, filter))
    return pa.concat_tables(tables)


def _tails(fs: FileSystem, urls: Sequence[str]) -> list[bytes]:
    """Returns the ends of files; those of the last small ones are kept, as files never change."""
    held = {url: tail for url in urls if (tail := _small.get(url)) is not None}
    paths = [filesystem(url)[1] for url in urls if url not in held]
    starts, ends = [-TAIL_BYTES] * len(paths), [None] * len(paths)
    fetched = iter(fs.cat_ranges(paths, starts=starts, ends=[*ends], on_error="raise"))
    tails = [held[url] if url in held else next(fetched) for url in urls]
    with _lock:
        for url, tail in zip(urls, tails, strict=True):
            if len(tail) <= _SMALL_BYTES:
                _small[url] = tail
        while len(_small) > _SMALL_FILES:
            del _small[next(iter(_small))]
    return tails


class _Ranges(io.RawIOBase):
    """A file of which some ranges were fetched; others are when they are read."""

    def __init__(self, fs: FileSystem, path: str, size: int, tail: bytes) -> None:
        super().__init__()
        self._fs, self._path, self._size = fs, path, size
        self._parts = [(size - len(tail), tail)]
        self._at = 0

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetches ranges [start, end), side by side; nearby ones in one request."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(ranges):
            if merged and start - merged[-1][1] <= _GAP_BYTES:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        wanted = [(start, end) for start, end in merged if self._within(start, end) is None]
        starts, ends = [start for start, _ in wanted], [end for _, end in wanted]
        paths = [self._path] * len(wanted)
        parts = self._fs.cat_ranges(paths, starts=starts, ends=[*ends], on_error="raise")
        self._parts = sorted([*self._parts, *zip(starts, parts, strict=True)])

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._at + size, self._size)
        start, self._at = self._at, max(self._at, end)
        if end <= start:
            return b""
        found = self._within(start, end)
        return self._fs.cat_file(self._path, start=start, end=end) if found is None else found

    def _within(self, start: int, end: int) -> bytes | None:
        at = bisect_right(self._parts, start, key=lambda part: part[0]) - 1
        first, part = self._parts[at] if at >= 0 else (0, b"")
        return part[start - first : end - first] if end <= first + len(part) else None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _open(fs: FileSystem, path: str, tail: bytes) -> pa.BufferReader | _Ranges:
    """Returns a small file's content, or a large file by ranges."""
    if len(tail) < TAIL_BYTES:
        return pa.BufferReader(tail)
    return _Ranges(fs, path, int(fs.size(path) or 0), tail)


def _rows(
    source: Any,
    schema: pa.Schema,
    columns: Sequence[str] | None,
    filter: pc.Expression | None,  # noqa: A002 - pyarrow's own word for it
) -> pa.Table:
    """Reads the columns and row groups that are needed; a column that is absent is null."""
    file = pq.ParquetFile(source)
    wanted = list(schema.names if columns is None else columns)
    # The text of a condition names the columns that it asks for, and perhaps others.
    named = set(re.findall(r"\w+", str(filter))) if filter is not None else set()
    needed = [name for name in schema.names if name in wanted or name in named]
    present = [name for name in needed if name in file.schema_arrow.names]
    groups = list(range(file.metadata.num_row_groups))
    if isinstance(source, _Ranges):
        if filter is not None:
            groups = _matching(source, schema, filter)
        source.fetch([*_chunks(file.metadata, groups, set(present))])
    rows = file.read_row_groups(groups, present, use_threads=False)
    arrays = [
        rows[name].cast(schema.field(name).type)
        if name in present
        else pa.nulls(rows.num_rows, schema.field(name).type)
        for name in needed
    ]
    rows = pa.table(arrays, schema=pa.schema([schema.field(name) for name in needed]))
    return (rows if filter is None else rows.filter(filter)).select(wanted)


def _matching(source: _Ranges, schema: pa.Schema, filter: pc.Expression) -> list[int]:  # noqa: A002
    """Lists the row groups that may hold rows for which the condition is true."""
    import pyarrow.dataset as ds  # noqa: PLC0415 - it imports pandas, which is slow

    fragment = ds.ParquetFileFormat().make_fragment(pa.PythonFile(source, mode="r"))
    parts = fragment.split_by_row_group(filter, schema)
    return [group.id for part in parts for group in part.row_groups]


def _chunks(
    metadata: pq.FileMetaData, groups: Sequence[int], columns: set[str]
) -> Iterator[tuple[int, int]]:
    """Yields the byte ranges of columns in row groups."""
    for group in groups:
        row_group = metadata.row_group(group)
        for number in range(row_group.num_columns):
            column = row_group.column(number)
            if column.path_in_schema.partition(".")[0] in columns:
                start = column.dictionary_page_offset or column.data_page_offset
                yield start, start + column.total_compressed_size
