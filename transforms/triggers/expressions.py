"""Expressions of triggers: parsed and checked as DuckDB trees, and a sandbox to run them in.

Trigger files are untrusted. Each expression is parsed separately, as a value, by DuckDB's own
parser (json_serialize_sql). Its tree must be one expression of what transforms.triggers.allowed
lists, of bounded size; and SQL is generated from the trees, never from the texts. The SQL runs in
memory without access to files, extensions, the environment or Python variables, on a locked
configuration with bounded memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import duckdb

from schemas.errors import UsageError, one_line
from transforms import sandbox
from transforms.triggers import allowed
from transforms.triggers.allowed import Tree
from transforms.triggers.spec import Trigger
from transforms.triggers.windows import SHIFTED, WINDOWED

FUNCTIONS_OF_TIME = frozenset({*SHIFTED, *WINDOWED})

MEMORY = 2 * 10**9
"""DuckDB's limit of memory for one miner, in bytes."""

_MAX_DEPTH = 100


def connect(threads: int) -> duckdb.DuckDBPyConnection:
    """Opens a DuckDB that has access to nothing but the tables registered with it."""
    con = sandbox.connect(threads, MEMORY, max_depth=_MAX_DEPTH)
    sandbox.shut(con)
    sandbox.lock(con)
    return con


@dataclass(frozen=True, slots=True)
class Source:
    """The expression that is being compiled, for messages: which key of which trigger.

    `lambda_parameters` are the names that its lambdas bind; `in_lambda` is set for what is
    evaluated for each element of a list.
    """

    trigger: Trigger
    key: str
    lambda_parameters: frozenset[str] = frozenset()
    in_lambda: bool = False

    def error(self, message: str) -> UsageError:
        """Returns the error for this expression, in one line."""
        brief = one_line(message)[:300]
        return UsageError(f"trigger {self.trigger.name!r}, {self.key}: {brief}")


class Parser:
    """Converts between SQL texts and parse trees, and checks trees of expressions.

    Args:
        con: a connection of `connect`.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._select_from = self._parse("SELECT 1 FROM rows")
        self._select = self._parse("SELECT 1")

    def expression(self, source: Source, text: str) -> Tree:
        """Parses a text that must be exactly one expression.

        Raises:
            UsageError: the text is not SQL, is more than an expression, or is too large.
        """
        if allowed.brackets(text) > allowed.MAX_BRACKETS:
            raise source.error(f"nests brackets more than {allowed.MAX_BRACKETS} deep")
        try:
            node = self._parse(f"SELECT {text}")["node"]
        except (UsageError, duckdb.Error) as error:
            raise source.error(str(error)) from error
        plain = self._select["node"]
        clauses = {name for name in node if name not in ("select_list", "from_table")}
        if (
            len(node.get("select_list", ())) != 1
            or node.get("from_table", {}).get("type") != "EMPTY"
            or any(node[name] != plain.get(name) for name in clauses)
        ):
            raise source.error("must be one expression over the columns, and nothing after it")
        tree: Tree = node["select_list"][0]
        if too_large := allowed.oversize(tree, FUNCTIONS_OF_TIME):
            raise source.error(too_large)
        return tree

    def check(self, tree: Tree, columns: Set[str], source: Source) -> None:
        """Checks one node: its class, its function and its column.

        Raises:
            UsageError: the node is not allowed, or names an unknown column.
        """
        if refusal := allowed.refusal(tree, in_lambda=source.in_lambda):
            raise source.error(refusal)
        if tree["class"] == "COLUMN_REF":
            (name, *fields) = tree["column_names"]
            if fields or name not in columns | source.lambda_parameters:
                choices = ", ".join(sorted(columns))
                unknown = ".".join([name, *fields])
                raise source.error(f"unknown column {unknown!r}; choose one of: {choices}")

    def column(self, name: str) -> Tree:
        """Builds a reference to a column."""
        quoted = name.replace('"', '""')
        return self._tree(f'"{quoted}"')

    def number(self, value: float) -> Tree:
        """Builds a constant of type DOUBLE."""
        return self._tree(f"CAST('{value!r}' AS DOUBLE)")

    def cast(self, tree: Tree, type_: str) -> Tree:
        """Builds a cast."""
        return {**self._tree(f"CAST(1 AS {type_})"), "child": tree}

    def select(self, columns: Mapping[str, Tree]) -> str:
        """Writes `SELECT tree AS name, ... FROM rows`."""
        named = [{**tree, "alias": name} for name, tree in columns.items()]
        return self._text(self._select_from, named)

    def select_constant(self, tree: Tree) -> str:
        """Writes `SELECT tree`."""
        return self._text(self._select, [tree])

    def _tree(self, expression: str) -> Tree:
        tree: Tree = self._parse(f"SELECT {expression}")["node"]["select_list"][0]
        return tree

    def _parse(self, sql: str) -> Tree:
        answer = json.loads(self._fetch("SELECT json_serialize_sql(?)", sql))
        if answer["error"]:
            raise UsageError(answer["error_message"])
        if len(answer["statements"]) != 1:
            raise UsageError("must be one expression, without ;")
        statement: Tree = answer["statements"][0]
        statement.pop("named_param_map", None)
        return statement

    def _text(self, statement: Tree, select_list: Sequence[Tree]) -> str:
        """Writes a statement with another select list as SQL."""
        changed = {**statement, "node": {**statement["node"], "select_list": select_list}}
        tree = json.dumps({"error": False, "statements": [changed]})
        return str(self._fetch("SELECT json_deserialize_sql(?)", tree))

    def _fetch(self, sql: str, text: str) -> Any:
        row = self._con.execute(sql, [text]).fetchall()
        return row[0][0]


def lambda_parameters(tree: Any) -> frozenset[str]:
    """Collects the parameters of all lambdas in a tree."""
    if isinstance(tree, list):
        return frozenset().union(*map(lambda_parameters, tree))
    if not isinstance(tree, dict):
        return frozenset()
    names: frozenset[str] = frozenset().union(*map(lambda_parameters, tree.values()))
    return names | _column_names(tree["lhs"]) if tree.get("class") == "LAMBDA" else names


def _column_names(tree: Any) -> frozenset[str]:
    if isinstance(tree, list):
        return frozenset().union(*map(_column_names, tree))
    if not isinstance(tree, dict):
        return frozenset()
    if tree.get("class") == "COLUMN_REF":
        return frozenset(tree["column_names"])
    return frozenset().union(*map(_column_names, tree.values()))


def without_locations(tree: Any) -> Any:
    """Drops the positions in the text from a tree, so that equal expressions are equal trees."""
    if isinstance(tree, list):
        return [without_locations(part) for part in tree]
    if isinstance(tree, dict):
        return {
            key: without_locations(part)
            for key, part in tree.items()
            if not key.startswith("query_location")
        }
    return tree
