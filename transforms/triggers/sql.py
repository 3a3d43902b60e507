"""The SQL of triggers: expressions of strangers, compiled to one SELECT and two guards.

What an expression may say: DuckDB's scalar functions and operators over the columns of its
table, `$name` for a parameter, and functions of time,

    past(x, s), ahead(x, s)         x of s seconds ago, or later; of any type
    mean(x, from_s, to_s)           over the window [t + from_s, t + to_s]; also `lowest`,
    total(x, from_s, to_s)          `highest`; of a boolean x, `total` counts, `highest` is any

in which x is an expression (it may hold functions of time itself) and the times are
constants or parameters. They stay within a *run*: rows of one log (and camera) without a
gap. Mining is offline, so the future is as good as the past. A window function of SQL works
too, always within one log (and camera): `min(x) OVER (PARTITION BY floor(...))`; it is
slower than a function of time by an order of magnitude.

What keeps a stranger out: each text is parsed alone, as data, by DuckDB's own parser
(json_serialize_sql); it must come to the tree of one bare expression, of allowed nodes, free
of subqueries, stars and functions that are not constant for equal arguments; and the trees,
not the texts, become the SELECT. It runs in memory without files, extensions, environment or
replacement scans, on a locked configuration with bounded memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from schemas.errors import UsageError
from schemas.times import ns
from transforms.triggers.spec import MAX_SECONDS, Trigger
from transforms.triggers.windows import SHIFTED, WINDOWED, Rows

SERIES = "#series"
"""The column that numbers the series: what SQL windows are partitioned by."""

_ROW = "#row"
"""The column that numbers the rows: SQL windows do not keep their order."""

_CONFIG = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
    "allow_community_extensions": "false",
    "max_expression_depth": "100",
    "memory_limit": "2GB",
    "temp_directory": "",
}

_NODES = frozenset(
    {
        "BETWEEN",
        "CASE",
        "CAST",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "LAMBDA",
        "OPERATOR",
        "PARAMETER",
        "WINDOW",
    }
)

_MACROS = frozenset(
    {"list_avg", "list_max", "list_median", "list_min", "list_product", "list_sum", "nullif"}
)
"""Of DuckDB's macros, those of use here."""

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A function of time to compute: of column `source`, into column `name`."""

    name: str
    function: str
    source: str
    times_ns: tuple[int, ...]

    def values(self, rows: Rows, table: pa.Table) -> pa.Array:
        """Computes the column."""
        source = table.column(self.source).combine_chunks()
        if self.function in SHIFTED:
            return SHIFTED[self.function](rows, source, *self.times_ns)
        return WINDOWED[self.function](rows, source, *self.times_ns)


@dataclass(slots=True)
class Step:
    """One round: `select` computes arguments (name to tree), then `calls` use them."""

    select: dict[str, Tree] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)


def connect(threads: int) -> duckdb.DuckDBPyConnection:
    """Opens a DuckDB that can reach nothing but the tables that it is given."""
    con = duckdb.connect(":memory:", config={**_CONFIG, "threads": str(threads)})
    con.execute("SET lock_configuration = true")
    return con


class Query:
    """The expressions of many triggers over one table, as few SELECTs as they allow.

    Args:
        schema: the columns that expressions may name.
        threads: of DuckDB.
    """

    def __init__(self, schema: pa.Schema, threads: int) -> None:
        self._con = connect(threads)
        self._columns = set(schema.names)
        self._empty = schema.append(pa.field(SERIES, pa.int64())).empty_table()
        self._steps: list[Step] = []
        self._names: dict[str, str] = {}
        self._outputs: dict[str, Tree] = {}
        self._texts: list[str] = []
        self._windowed = False
        self._select_from = self._parse("SELECT 1 FROM rows")
        self._bare = self._parse("SELECT 1")
        self._functions = self._allowed_functions()
        self.columns: set[str] = set()

    def add(self, trigger: Trigger, key: str, text: str) -> str:
        """Adds one expression of a trigger; returns the name of its column in `run`.

        Raises:
            UsageError: names the trigger, the key and what DuckDB says.
        """
        tree = self._expression(trigger, key, text)
        where = _Where(trigger, key, frozenset(_lambda_names(tree)))
        tree, _ = self._compile(tree, where)
        kind = self._type(tree, where)
        if key != "score" and kind != pa.bool_():
            raise where.error(f"must be a condition, is of type {kind}")
        if key == "score" and not (_is_number(kind) or pa.types.is_boolean(kind)):
            raise where.error(f"must be a number, is of type {kind}")
        if key == "score":
            tree = _cast(tree, "DOUBLE", self._parse)
        name = self._named(tree)
        self._outputs[name] = tree
        self._texts = []
        return name

    def run(self, table: pa.Table, rows: Rows) -> pa.Table:
        """Evaluates every expression on every row; the order of rows is kept."""
        if not self._texts:
            selects = [step.select for step in self._steps] + [self._outputs]
            self._texts = [self._sql(select) if select else "" for select in selects]
        for step, text in zip(self._steps, self._texts, strict=False):
            if text:
                arguments = self._run(text, table)
                for name in step.select:
                    table = table.append_column(name, arguments.column(name))
            for call in step.calls:
                table = table.append_column(call.name, call.values(rows, table))
        return self._run(self._texts[-1], table)

    def _run(self, text: str, table: pa.Table) -> pa.Table:
        if self._windowed:
            table = table.append_column(_ROW, pa.array(range(table.num_rows), pa.int64()))
        self._con.register("rows", table)
        try:
            answer = self._con.sql(text).to_arrow_table()
        finally:
            self._con.unregister("rows")
        return answer.sort_by(_ROW).drop_columns(_ROW) if self._windowed else answer

    def _sql(self, select: Mapping[str, Tree]) -> str:
        """Writes SELECT tree AS name, ... FROM rows."""
        columns = [{**tree, "alias": name} for name, tree in select.items()]
        if self._windowed:
            columns.append(_column(_ROW, self._parse))
        return self._text(self._select_from, columns)

    def _text(self, statement: Tree, select_list: list[Tree]) -> str:
        """Writes a statement's text with another select list."""
        whole = {**statement, "node": {**statement["node"], "select_list": select_list}}
        tree = json.dumps({"error": False, "statements": [whole]})
        return str(self._fetch("SELECT json_deserialize_sql(?)", tree))

    def _fetch(self, sql: str, text: str) -> Any:
        row = self._con.execute(sql, [text]).fetchall()
        return row[0][0]

    def _parse(self, sql: str) -> Tree:
        answer = json.loads(self._fetch("SELECT json_serialize_sql(?)", sql))
        if answer["error"]:
            raise UsageError(answer["error_message"])
        if len(answer["statements"]) != 1:
            raise UsageError("must be one expression, without ;")
        statement: Tree = answer["statements"][0]
        statement.pop("named_param_map", None)
        return statement

    def _expression(self, trigger: Trigger, key: str, text: str) -> Tree:
        """Parses a text that must be one bare expression."""
        where = _Where(trigger, key)
        try:
            node = self._parse(f"SELECT {text}")["node"]
        except (UsageError, duckdb.Error) as error:
            raise where.error(str(error)) from error
        bare = self._bare["node"]
        rest = {name for name in node if name not in ("select_list", "from_table")}
        if (
            len(node.get("select_list", ())) != 1
            or node.get("from_table", {}).get("type") != "EMPTY"
            or any(node[name] != bare.get(name) for name in rest)
        ):
            raise where.error("must be one expression over the columns, and nothing after it")
        tree: Tree = node["select_list"][0]
        return tree

    def _compile(self, tree: Any, where: _Where) -> tuple[Any, int]:
        """Puts columns in place of functions of time, numbers in place of parameters.

        Returns:
            The tree, and the round of steps after which it can be evaluated.
        """
        if isinstance(tree, list):
            parts = [self._compile(part, where) for part in tree]
            return [part for part, _ in parts], max((depth for _, depth in parts), default=0)
        if not isinstance(tree, dict):
            return tree, 0
        node = tree.get("class")
        timed = node == "FUNCTION" and tree["function_name"] in {*SHIFTED, *WINDOWED}
        if node is not None and not timed:
            self._check(tree, where)
        if node == "PARAMETER":
            return self._number(tree["identifier"], where), 0
        if timed:
            return self._call(tree, where)
        if node == "COLUMN_REF":
            self.columns |= self._columns & set(tree["column_names"])
            return tree, 0
        done: Tree = {}
        depth = 0
        for name, part in tree.items():
            done[name], here = self._compile(part, where)
            depth = max(depth, here)
        if node == "WINDOW":
            self._windowed = True
            done["partitions"] = [_column(SERIES, self._parse), *done["partitions"]]
        return done, depth

    def _check(self, tree: Tree, where: _Where) -> None:
        """Refuses nodes that are no part of an expression over the rows."""
        if tree["class"] not in _NODES:
            raise where.error(f"{str(tree['class']).lower()} is not allowed in a trigger")
        if tree["class"] == "FUNCTION" and tree["function_name"].lower() not in self._functions:
            raise where.error(
                f"function {tree['function_name']!r} is not allowed: it is no scalar function of "
                "DuckDB that gives equal values for equal arguments"
            )
        if tree["class"] == "COLUMN_REF":
            (name, *fields) = tree["column_names"]
            if fields or name not in self._columns | where.locals:
                choices = ", ".join(sorted(self._columns))
                raise where.error(f"no column {'.'.join([name, *fields])!r}; there are: {choices}")

    def _call(self, tree: Tree, where: _Where) -> tuple[Tree, int]:
        function = tree["function_name"]
        arguments = [argument["expression"] for argument in tree["arguments"]]
        wanted = 2 if function in SHIFTED else 3
        if len(arguments) != wanted:
            form = "(x, s)" if wanted == 2 else "(x, from_s, to_s)"
            raise where.error(f"{function} is written {function}{form}")
        times = tuple(self._seconds(argument, function, where) for argument in arguments[1:])
        if wanted == 3 and times[0] > times[1]:
            raise where.error(f"{function}: from_s is after to_s")
        source, depth = self._compile(arguments[0], where)
        kind = self._type(source, where)
        if wanted == 3 and not (_is_number(kind) or pa.types.is_boolean(kind)):
            raise where.error(f"{function} needs numbers or conditions, not {kind}")
        while len(self._steps) <= depth:
            self._steps.append(Step())
        step = self._steps[depth]
        if source["class"] == "COLUMN_REF":
            name = source["column_names"][0]
        else:
            name = self._named(source)
            if name not in self._empty.column_names:
                step.select[name] = source
                self._append(name, kind)
        key = json.dumps([function, name, times])
        if key not in self._names:
            call = Call(f"#{len(self._names)}", function, name, times)
            self._names[key] = call.name
            step.calls.append(call)
            self._append(call.name, kind if wanted == 2 else pa.float64())
        return _column(self._names[key], self._parse), depth + 1

    def _append(self, name: str, kind: pa.DataType) -> None:
        self._empty = self._empty.append_column(name, pa.nulls(0, kind))

    def _named(self, tree: Tree) -> str:
        key = json.dumps(_essence(tree), sort_keys=True)
        return self._names.setdefault(key, f"#{len(self._names)}")

    def _number(self, name: str, where: _Where) -> Tree:
        params = where.trigger.params
        if name not in params:
            choices = ", ".join(f"${key}" for key in sorted(params)) or "none"
            raise where.error(f"no parameter ${name}; [params] has: {choices}")
        tree: Tree = self._parse(f"SELECT CAST('{params[name]!r}' AS DOUBLE)")["node"][
            "select_list"
        ][0]
        return tree

    def _seconds(self, tree: Tree, function: str, where: _Where) -> int:
        """Evaluates a constant expression of seconds to nanoseconds."""
        tree, _ = self._compile(tree, where)
        try:
            row = self._con.execute(self._text(self._bare, [tree])).fetchall()
            value = float(row[0][0])
        except (duckdb.Error, TypeError, ValueError) as error:
            raise where.error(f"{function}: its times must be constants, in s: {error}") from error
        if not (math.isfinite(value) and abs(value) <= MAX_SECONDS):
            raise where.error(f"{function}: {value:g} s is beyond {MAX_SECONDS:g} s")
        return ns(value)

    def _type(self, tree: Tree, where: _Where) -> pa.DataType:
        """Binds an expression against no rows; returns the type of its values."""
        try:
            return self._run(self._sql({"x": tree}), self._empty).schema.field(0).type
        except duckdb.Error as error:
            raise where.error(str(error)) from error

    def _allowed_functions(self) -> frozenset[str]:
        """Lists the scalar functions that are constant for equal arguments."""
        rows = self._con.execute(
            "SELECT lower(function_name) FROM duckdb_functions() GROUP BY 1 "
            "HAVING bool_or(function_type = 'scalar') AND bool_and(function_type = 'table' "
            "OR function_type = 'scalar' AND stability = 'CONSISTENT')"
        ).fetchall()
        return frozenset(name for (name,) in rows) | _MACROS


@dataclass(frozen=True, slots=True)
class _Where:
    """Which text of which trigger, for messages."""

    trigger: Trigger
    key: str
    locals: frozenset[str] = frozenset()
    """The parameters of its lambdas."""

    def error(self, message: str) -> UsageError:
        brief = " ".join(message.split())[:300]
        return UsageError(f"trigger {self.trigger.name!r}, {self.key}: {brief}")


def _lambda_names(tree: Any) -> set[str]:
    """Collects the parameters of all lambdas in a tree."""
    if isinstance(tree, list):
        return set().union(*map(_lambda_names, tree))
    if not isinstance(tree, dict):
        return set()
    names = set().union(*map(_lambda_names, tree.values()))
    return names | _column_names(tree["lhs"]) if tree.get("class") == "LAMBDA" else names


def _column_names(tree: Any) -> set[str]:
    if isinstance(tree, list):
        return set().union(*map(_column_names, tree))
    if not isinstance(tree, dict):
        return set()
    if tree.get("class") == "COLUMN_REF":
        return set(tree["column_names"])
    return set().union(*map(_column_names, tree.values()))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _essence(tree: Any) -> Any:
    """Drops from a tree where in the text its nodes stood."""
    if isinstance(tree, list):
        return [_essence(part) for part in tree]
    if isinstance(tree, dict):
        return {k: _essence(v) for k, v in tree.items() if not k.startswith("query_location")}
    return tree


def _column(name: str, parse: Any) -> Tree:
    quoted = name.replace('"', '""')
    tree: Tree = parse(f'SELECT "{quoted}"')["node"]["select_list"][0]
    return tree


def _cast(tree: Tree, kind: str, parse: Any) -> Tree:
    outer: Tree = parse(f"SELECT CAST(1 AS {kind})")["node"]["select_list"][0]
    return {**outer, "child": tree}
