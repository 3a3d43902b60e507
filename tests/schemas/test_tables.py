"""Tables: casting to the schema, rejected columns, and the sort order."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from schemas.tables import TABLES


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_is_ordered_by_columns_that_are_never_null(name: str) -> None:
    table = TABLES[name]
    assert table.name == name
    assert table.order
    assert not any(table.schema.field(column).nullable for column in table.order)
    assert table.conform(table.empty()).schema == table.schema


def test_conform_fills_casts_and_sorts() -> None:
    rows = pa.table({"log_id": ["b", "a"], "t_ns": pa.array([1, 2], pa.int32())})
    out = TABLES["signals"].conform(rows)
    assert out["log_id"].to_pylist() == ["a", "b"]
    assert out.schema == TABLES["signals"].schema
    assert out["speed_mps"].null_count == 2


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"log_id": ["a"]}, "needs a column 't_ns'"),
        ({"log_id": ["a"], "t_ns": [1], "sped": [1.0]}, "no columns"),
        ({"log_id": [None], "t_ns": [1]}, "must not be null"),
    ],
)
def test_conform_refuses(rows: dict[str, list[object]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TABLES["signals"].conform(pa.table(rows))


@pytest.mark.parametrize("seed", range(30))
def test_conform_sorts_as_a_plain_sort_does(seed: int) -> None:
    """Rows that are in order already are left alone, and those that nearly are, are not."""
    dice = random.Random(seed)  # noqa: S311 - a test's choice
    rows = sorted((dice.choice("ab"), dice.choice("xy"), dice.randrange(9)) for _ in range(12))
    for _ in range(dice.randrange(3)):
        rows[dice.randrange(12)] = rows[dice.randrange(12)]
    names = ("log_id", "channel", "t_ns")
    whole = pa.table([pa.array(values) for values in zip(*rows, strict=True)], names)
    table = pa.concat_tables([whole.slice(0, 5), whole.slice(5)])
    out = TABLES["channels"].conform(table)
    keys = zip(*(out[name].to_pylist() for name in names), strict=True)
    assert list(keys) == sorted(rows)
