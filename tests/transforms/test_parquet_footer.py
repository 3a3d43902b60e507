"""The footer of a Parquet file: counts of values as Arrow reads them, and damage is an error."""

from __future__ import annotations

import io
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fuzz.mutations import mutated
from tests.fuzz.structures import parquet
from transforms.parquet_footer import count_values


def written(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, row_group_size=2)
    return out.getvalue()


WHOLE = written(
    a=[1, 2, 3], b=[[1.0, 2.0], [3.0], None], c=[{"x": 1, "y": [1, 2, 3]}] * 3, d=["x", None, "y"]
)


def count(content: bytes, *columns: str) -> int:
    return count_values(io.BytesIO(content), columns)


def test_values_are_those_that_arrow_counts() -> None:
    metadata = pq.ParquetFile(io.BytesIO(WHOLE)).metadata
    expected: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            name = chunk.path_in_schema.partition(".")[0]
            expected[name] = expected.get(name, 0) + chunk.num_values
    assert {name: count(WHOLE, name) for name in "abcd"} == expected
    assert expected["b"] == 4
    assert count(WHOLE, "a", "c") == expected["a"] + expected["c"]
    assert count(WHOLE, "missing") == 0


@pytest.mark.parametrize("damage", [mutated, parquet])
def test_a_damaged_footer_is_counted_or_refused(damage: Any) -> None:
    refused = 0
    for case in range(500):
        content = damage(WHOLE, random.Random(case))  # noqa: S311 - to be repeated
        if len(content) < 8:
            continue
        try:
            assert count(content, "a", "b") >= 0
        except ValueError:
            refused += 1
    assert 0 < refused < 500


def test_lists_of_lists_end() -> None:
    deep = b"\x19" * 100_000
    with pytest.raises(ValueError, match="ends early"):
        count(b"PAR1" + deep + len(deep).to_bytes(4, "little") + b"PAR1", "a")
