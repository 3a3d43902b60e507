"""Every type of DuckDB in every shape: a value, and one that Arrow, Parquet or JSON can hold."""

from __future__ import annotations

import io
import json

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.queries.shapes import Shape, target, unique

LITERALS = {
    "true": "True",
    "1::TINYINT": "1",
    "-9223372036854775808": "-9223372036854775808",
    "170141183460469231731687303715884105727::HUGEINT": "170141183460469231731687303715884105727",
    "340282366920938463463374607431768211455::UHUGEINT": "340282366920938463463374607431768211455",
    "123456789012345678901234567890123456789012345::BIGNUM": (
        "123456789012345678901234567890123456789012345"
    ),
    "1.50": "1.50",
    "'nan'::DOUBLE": "nan",
    "'a' || chr(27)": "a\x1b",
    "'\\x00\\xFF'::BLOB": "\\x00\\xFF",
    "'0101'::BIT": "0101",
    "'c9a0f0b2-2f3a-4b7f-9d0e-1f2e3d4c5b6a'::UUID": "c9a0f0b2-2f3a-4b7f-9d0e-1f2e3d4c5b6a",
    "'{\"a\": 1}'::JSON": '{"a": 1}',
    "'{\"a\": 1}'::JSON::VARIANT": "{'a': 1}",
    "'POINT (1 2)'::GEOMETRY": "POINT (1 2)",
    "'b'::ENUM('a', 'b')": "b",
    "union_value(k := 1)": "1",
    "INTERVAL '1 year 2 days'": "1 year 2 days",
    "'infinity'::DATE": "infinity",
    "DATE '0001-01-01 (BC)'": "0001-01-01 (BC)",
    "DATE '290000-01-01'": "290000-01-01",
    "'-infinity'::TIMESTAMP": "-infinity",
    "'infinity'::TIMESTAMPTZ": "infinity",
    "TIMESTAMP_NS '2020-01-01 00:00:00.000000001'": "2020-01-01 00:00:00.000000001",
    "TIME '24:00:00'": "24:00:00",
    "'12:00:00+02'::TIMETZ": "12:00:00+02",
    "[1, NULL]": "[1, NULL]",
    "[INTERVAL 1 DAY]": "[1 day]",
    "array_value(DATE '290000-01-01', NULL)": "[290000-01-01, NULL]",
    "{'a b': 'nan'::DOUBLE, 'c': [{'d': 'infinity'::DATE}]}": (
        "{'a b': nan, 'c': [{'d': infinity}]}"
    ),
    "MAP {'k': INTERVAL 1 DAY}": "{k=1 day}",
    "row(1, INTERVAL 1 DAY)": "(1, 1 day)",
    "NULL": None,
    "[]": "[]",
}


def answer(literal: str, shape: Shape) -> pa.Table:
    """Selects a literal, cast for a shape."""
    rows = duckdb.connect().sql(f"SELECT {literal} AS x")
    cast = target(rows.types[0], shape)
    return (rows.project(f"CAST(#1 AS {cast}) AS x") if cast else rows).to_arrow_table()


@pytest.mark.parametrize("literal", LITERALS)
def test_every_value_comes_through(literal: str) -> None:
    text = answer(literal, Shape.TEXT)["x"].to_pylist()[0]
    assert (text if text is None else str(text)) == LITERALS[literal]
    plain = answer(literal, Shape.JSON).to_pylist()
    json.dumps(plain, default=str)
    sink = io.BytesIO()
    arrow = answer(literal, Shape.ARROW)
    pq.write_table(arrow, sink)
    assert pq.read_table(io.BytesIO(sink.getvalue())).num_rows == arrow.num_rows == 1


def test_what_arrow_holds_is_left_alone() -> None:
    sql = "SELECT 1, 1.5, 'a', DATE '2020-01-01', now(), [1], {'a': [now()]}, 'a'::BLOB, 1::HUGEINT"
    assert [target(t, Shape.ARROW) for t in duckdb.connect().sql(sql).types] == [""] * 9


def test_nested_parts_are_cast_where_they_are() -> None:
    sql = "SELECT {'when': [now()], 'n': 1, 'a\"b': MAP {1: INTERVAL 1 DAY}}, [[DATE '2020-01-01']]"
    types = duckdb.connect().sql(sql).types
    assert [target(t, Shape.JSON) for t in types] == [
        'STRUCT("when" VARCHAR[], "n" INTEGER, "a""b" MAP(INTEGER, VARCHAR))',
        "VARCHAR[][]",
    ]


def test_equal_names_become_different() -> None:
    assert unique(["a", "a", "b", "a", "a_1"]) == ["a", "a_1", "b", "a_2", "a_1_1"]
    assert unique([]) == []
