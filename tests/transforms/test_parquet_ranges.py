"""Parquet files of remote stores: the rows that Arrow reads, and no more bytes than are needed."""

from __future__ import annotations

from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from transforms.parquet import ROW_GROUP_ROWS, encode, read_files
from transforms.parquet_ranges import TAIL_BYTES
from transforms.storage import put


class CountingFileSystem(MemoryFileSystem):  # type: ignore[misc] # fsspec is not typed
    """A store that counts the bytes and the requests that are read."""

    protocol = "counting"
    store: ClassVar[dict[str, Any]] = {}
    sizes: ClassVar[list[int]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.removeprefix("counting://")))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        content: bytes = super().cat_file(path, start=start, end=end)
        self.sizes.append(len(content))
        return content


fsspec.register_implementation("counting", CountingFileSystem, clobber=True)

ROWS = 3 * ROW_GROUP_ROWS + 1000


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    noise = np.random.default_rng(1)
    return pa.table(
        {
            "log_id": [f"log-{number // 50_000}" for number in range(ROWS)],
            "t_ns": np.arange(ROWS),
            "value": noise.random(ROWS),
            "position": pa.FixedSizeListArray.from_arrays(noise.random(2 * ROWS), 2),
            "other": noise.random(ROWS),
        }
    )


@pytest.fixture(scope="module")
def url(rows: pa.Table) -> str:
    content = encode(rows)
    assert len(content) > 8 * TAIL_BYTES
    put("counting://lake/rows.parquet", content)
    return "counting://lake/rows.parquet"


@pytest.mark.parametrize(
    ("columns", "condition", "most_bytes"),
    [
        (None, None, 20 << 20),
        (["t_ns", "value"], None, 9 << 20),
        (["position"], pc.field("t_ns") >= 3 * ROW_GROUP_ROWS + 10, 2 * TAIL_BYTES),
        (["value"], (pc.field("log_id") == "log-1") & (pc.field("other") < 0.5), 5 << 20),
        (["t_ns"], pc.field("log_id") == "no such log", TAIL_BYTES),
        (["t_ns"], pc.field("absent").is_valid(), TAIL_BYTES + (2 << 20)),
    ],
)
def test_of_a_large_file_only_what_is_needed_is_fetched(
    rows: pa.Table, url: str, columns: list[str] | None, condition: Any, most_bytes: int
) -> None:
    schema = rows.schema.append(pa.field("absent", pa.string()))
    CountingFileSystem.sizes.clear()
    found = read_files([url], schema, columns, condition)
    fetched = list(CountingFileSystem.sizes)
    expected = rows.append_column("absent", pa.nulls(ROWS, pa.string()))
    expected = expected if condition is None else expected.filter(condition)
    assert found.equals(expected.select(columns or schema.names))
    assert sum(fetched) <= most_bytes
    assert len(fetched) < 10


def test_small_files_are_one_request_each(rows: pa.Table) -> None:
    urls = [f"counting://lake/small/{number}.parquet" for number in range(70)]
    for number, each in enumerate(urls):
        put(each, encode(rows.slice(10 * number, 10)))
    CountingFileSystem.sizes.clear()
    found = read_files(urls, rows.schema, ["t_ns"])
    assert found["t_ns"].to_pylist() == list(range(700))
    assert len(CountingFileSystem.sizes) == 70
