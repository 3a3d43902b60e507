"""Parse trees of expressions, and the sandbox that they run in."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from schemas.errors import UsageError
from transforms.triggers.expressions import (
    Parser,
    Source,
    connect,
    lambda_parameters,
    without_locations,
)
from transforms.triggers.spec import Trigger

TRIGGER = Trigger(
    name="t",
    version=1,
    description="a test's",
    table="signals",
    when="true",
    score="1",
    for_s=0,
    merge_s=0,
    pre_s=1,
    post_s=1,
)
SOURCE = Source(TRIGGER, "when")


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    """The sandbox, with a table."""
    con = connect(1)
    con.register("rows", pa.table({"x": [1.0, 2.0], 'odd "name': [3, 4]}))
    return con


@pytest.fixture(scope="module")
def parser(con: duckdb.DuckDBPyConnection) -> Parser:
    """A parser in the sandbox."""
    return Parser(con)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x + 1 > 2", [False, True]),
        ("CASE WHEN x BETWEEN 0 AND 1 THEN 'a' ELSE 'b' END", ["a", "b"]),
        ("x::INT % 2 = 0 AND NOT x IS NULL", [False, True]),
        ("list_sum(list_transform([x, 1], lambda v: v * 2))", [4.0, 6.0]),
        ("max(x) OVER ()", [2.0, 2.0]),
    ],
)
def test_an_expression_keeps_its_meaning_through_its_tree(
    con: duckdb.DuckDBPyConnection, parser: Parser, text: str, values: list[object]
) -> None:
    tree = parser.expression(SOURCE, text)
    found = con.sql(parser.select({"value": tree})).fetchall()
    assert [value for (value,) in found] == values


def test_trees_are_built_for_columns_numbers_and_casts(
    con: duckdb.DuckDBPyConnection, parser: Parser
) -> None:
    columns = {
        "a": parser.column('odd "name'),
        "b": parser.cast(parser.column("x"), "VARCHAR"),
        "c": parser.number(-1.7976931348623157e308),
        "d": parser.number(5e-324),
    }
    assert con.sql(parser.select(columns)).fetchall() == [
        (3, "1.0", -1.7976931348623157e308, 5e-324),
        (4, "2.0", -1.7976931348623157e308, 5e-324),
    ]
    (row,) = con.execute(parser.select_constant(parser.number(0.1))).fetchall()
    assert row == (0.1,)


@pytest.mark.parametrize(
    "text", ["", "1; SELECT 2", "1, 2", "1 FROM x", "1 WHERE true", "DISTINCT 1"]
)
def test_more_or_less_than_an_expression_is_an_error(parser: Parser, text: str) -> None:
    with pytest.raises(UsageError, match=r"^trigger 't', when: [^\n]+$"):
        parser.expression(SOURCE, text)


def test_checks_name_the_node_the_function_or_the_columns(parser: Parser) -> None:
    for text, message in (
        ("(SELECT 1)", "subquery is not allowed"),
        ("random()", "function 'random' is not allowed"),
        ("y", r"unknown column 'y'; choose one of: x, z"),
        ("x.y", r"unknown column 'x\.y'"),
    ):
        with pytest.raises(UsageError, match=message):
            parser.check(parser.expression(SOURCE, text), {"z", "x"}, SOURCE)
    for text in ("x", "z", "abs(x)", "x > 1", "NULL"):
        parser.check(parser.expression(SOURCE, text), {"z", "x"}, SOURCE)


def test_lambda_parameters_are_found_at_any_depth(parser: Parser) -> None:
    inner = "list_max(list_transform([i], lambda b: b))"
    tree = parser.expression(SOURCE, f"list_sum(list_transform([x], lambda a, i: a + {inner}))")
    assert lambda_parameters(tree) == {"a", "i", "b"}
    assert lambda_parameters(parser.expression(SOURCE, "x > 1")) == set()


def test_equal_expressions_have_equal_trees_without_locations(parser: Parser) -> None:
    one, two = (parser.expression(SOURCE, text) for text in ("x+abs( x )", "x  +  abs(x)"))
    assert one != two
    assert without_locations(one) == without_locations(two)
    assert without_locations(one) != without_locations(parser.expression(SOURCE, "x - abs(x)"))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "COPY (SELECT 1) TO '{file}.out'",
        "ATTACH '{file}.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '1TB'",
        "SELECT getenv('HOME')",
        "SELECT * FROM local_variable",
    ],
)
def test_the_sandbox_has_no_access_to_anything(statement: str, tmp_path: Path) -> None:
    """Statements, which no trigger can contain, fail and write no file."""
    local_variable = pa.table({"x": [1]})
    path = tmp_path / "secret.csv"
    path.write_text("x\n1\n")
    with pytest.raises(duckdb.Error):
        connect(1).sql(statement.format(file=path)).fetchall()
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"], local_variable.num_rows
