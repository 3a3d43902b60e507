"""Triggers in SQL: the expressions of all triggers of a table, in as few SELECTs as possible.

An expression may use DuckDB's operators and many of its scalar functions over the columns of its
table (transforms.triggers.allowed lists them), `$name` for a parameter, and functions of time:

    past(x, s), ahead(x, s)         x at t - s, or at t + s; of any type
    mean(x, from_s, to_s)           over the window [t + from_s, t + to_s]; also `lowest`,
    total(x, from_s, to_s)          `highest`; of a boolean x, `total` counts, `highest` is any

where x is an expression (which may contain functions of time) and the times are constants or
parameters. They are evaluated within a *run*: rows of one log (and camera) without a gap.
Mining is offline, so that `ahead` is as good as `past`. SQL window functions work too, always
within one log (and camera): `min(x) OVER (PARTITION BY floor(...))`; they are slower than
functions of time by an order of magnitude.

What an expression may not do, and how that is enforced: transforms.triggers.expressions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import pyarrow as pa

from schemas.errors import UsageError
from schemas.times import ns
from transforms.sandbox import TimeLimit
from transforms.triggers.allowed import ELEMENTS, LENGTHS, MAPPING, TEXTS, Tree, name_of
from transforms.triggers.expressions import (
    FUNCTIONS_OF_TIME,
    Parser,
    Source,
    connect,
    lambda_parameters,
    without_locations,
)
from transforms.triggers.spec import MAX_SECONDS, Trigger
from transforms.triggers.windows import SHIFTED, WINDOWED, Rows

COMPILE_S = 10.0
"""Limit of time for checking one expression."""

SERIES = "#series"
"""The column with the number of the series: SQL windows are partitioned by it."""

_ROW = "#row"
"""The column with the number of the row: SQL windows do not preserve the order of rows."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function of time on the column `source`, with its result in column `name`."""

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
    """One step of evaluation: `select` computes arguments (name to tree) for the `calls`."""

    select: dict[str, Tree] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)


class Query:
    """The expressions of many triggers over one table.

    Args:
        schema: the columns that expressions may use.
        threads: threads of DuckDB.
    """

    def __init__(self, schema: pa.Schema, threads: int) -> None:
        self._threads = threads
        self._con = connect(threads)
        self._parser = Parser(self._con)
        self._columns = frozenset(schema.names)
        self._empty = schema.append(pa.field(SERIES, pa.int64())).empty_table()
        self._steps: list[Step] = []
        self._names: dict[str, str] = {}
        self._outputs: dict[str, Tree] = {}
        self._texts: list[str] = []
        self._windowed = False
        self.columns: set[str] = set()

    def add(self, trigger: Trigger, key: str, text: str) -> str:
        """Adds one expression of a trigger; returns the name of its column in `run`.

        Raises:
            UsageError: names the trigger, the key and DuckDB's message.
        """
        source = Source(trigger, key)
        with TimeLimit(self._con, COMPILE_S) as limit:
            try:
                tree = self._checked(source, text)
            except UsageError as error:
                if limit.struck:
                    raise source.error(f"not checked after {COMPILE_S:g} s: simplify it") from error
                raise
        name = self._name_of(tree)
        self._outputs[name] = tree
        self._texts = []
        return name

    def _checked(self, source: Source, text: str) -> Tree:
        """Parses, compiles and checks one expression."""
        tree = self._parser.expression(source, text)
        source = replace(source, lambda_parameters=lambda_parameters(tree))
        tree, _ = self._compile(tree, source)
        type_ = self._type(tree, source)
        if source.key != "score" and type_ != pa.bool_():
            raise source.error(f"must be a condition, is of type {type_}")
        if source.key == "score" and not _is_numeric(type_):
            raise source.error(f"must be a number, is of type {type_}")
        return self._parser.cast(tree, "DOUBLE") if source.key == "score" else tree

    def limited(self, seconds: float) -> TimeLimit:
        """Limits the time of what is done in a `with` block."""
        return TimeLimit(self._con, seconds)

    def row_bytes(self, table: pa.Table) -> float:
        """Estimates the memory that a row takes with everything that is computed from it."""
        given: float = table.nbytes / max(table.num_rows, 1)
        whole = given
        for column in self._empty.schema:
            if column.name not in self._columns:
                whole += 8 if pa.types.is_primitive(column.type) else given
        return whole

    def run(
        self, table: pa.Table, rows: Rows, check: Callable[[], None] = lambda: None
    ) -> pa.Table:
        """Evaluates every expression on every row; preserves the order of rows.

        Args:
            table: the rows.
            rows: their runs.
            check: called between steps; raises to stop.

        Raises:
            duckdb.Error: an expression fails on these values.
        """
        if not self._texts:
            selects = [step.select for step in self._steps] + [self._outputs]
            self._texts = [self._sql(select) if select else "" for select in selects]
        for step, text in zip(self._steps, self._texts, strict=False):
            if text:
                arguments = self._run(text, table)
                for name in step.select:
                    table = table.append_column(name, arguments.column(name))
            for call in step.calls:
                check()
                table = table.append_column(call.name, call.values(rows, table))
        return self._run(self._texts[-1], table)

    def _run(self, text: str, table: pa.Table) -> pa.Table:
        if self._windowed:
            table = table.append_column(_ROW, pa.array(range(table.num_rows), pa.int64()))
        self._con.register("rows", table)
        try:
            answer = self._con.sql(text).to_arrow_table()
        except (duckdb.InternalError, duckdb.FatalException):
            self._con = connect(self._threads)  # the old one refuses all statements
            raise
        finally:
            self._con.unregister("rows")
        return answer.sort_by(_ROW).drop_columns(_ROW) if self._windowed else answer

    def _sql(self, select: Mapping[str, Tree]) -> str:
        row = {_ROW: self._parser.column(_ROW)} if self._windowed else {}
        return self._parser.select({**select, **row})

    def _compile(self, tree: Any, source: Source) -> tuple[Any, int]:
        """Replaces functions of time by columns, and parameters by numbers.

        Returns:
            The tree, and the number of steps after which it can be evaluated.
        """
        if isinstance(tree, list):
            parts = [self._compile(part, source) for part in tree]
            return [part for part, _ in parts], max((depth for _, depth in parts), default=0)
        if not isinstance(tree, dict):
            return tree, 0
        node = tree.get("class")
        if node == "FUNCTION" and name_of(tree) in FUNCTIONS_OF_TIME:
            return self._call(tree, source)
        if node is not None:
            self._parser.check(tree, self._columns, source)
        special = {
            "PARAMETER": self._parameter,
            "COLUMN_REF": self._column,
            "CAST": self._cast,
            "LAMBDA": self._lambda,
        }
        if node in special:
            return special[node](tree, source)
        compiled: Tree = {}
        depth = 0
        for name, part in tree.items():
            compiled[name], part_depth = self._compile(part, source)
            depth = max(depth, part_depth)
        if node == "WINDOW":
            self._windowed = True
            compiled["partitions"] = [self._parser.column(SERIES), *compiled["partitions"]]
        if source.in_lambda:
            self._check_in_lambda(compiled, source)
        elif node == "FUNCTION" and name_of(tree) in MAPPING | {"list_value"}:
            self._check_made(compiled, source)
        return compiled, depth

    def _parameter(self, tree: Tree, source: Source) -> tuple[Tree, int]:
        name, params = tree["identifier"], source.trigger.params
        if name not in params:
            choices = ", ".join(f"${key}" for key in sorted(params)) or "none"
            raise source.error(f"no parameter ${name}; [params] has: {choices}")
        return self._parser.number(params[name]), 0

    def _column(self, tree: Tree, source: Source) -> tuple[Tree, int]:  # noqa: ARG002 - as others
        self.columns |= self._columns & set(tree["column_names"])
        return tree, 0

    def _cast(self, tree: Tree, source: Source) -> tuple[Tree, int]:
        child, depth = self._compile(tree["child"], source)
        if tree["type_expr"]["type_name"].lower() in TEXTS and not source.in_lambda:
            type_ = self._type(child, source)
            if pa.types.is_nested(type_):
                raise source.error(f"a cast to text is for numbers and times, not {type_}")
        return {**tree, "child": child}, depth

    def _lambda(self, tree: Tree, source: Source) -> tuple[Tree, int]:
        body, depth = self._compile(tree["expr"], replace(source, in_lambda=True))
        return {**tree, "expr": body}, depth

    def _check_in_lambda(self, tree: Tree, source: Source) -> None:
        """Refuses whole lists in a lambda, which runs for each element of one."""
        element = name_of(tree) in ELEMENTS | LENGTHS or tree.get("type") == "ARRAY_EXTRACT"
        for part in [] if element else _operands(tree):
            names = part.get("column_names", [""])
            at = self._empty.schema.get_field_index(names[0])
            if names[0] not in source.lambda_parameters and at >= 0:
                type_ = self._empty.schema.field(at).type
                if pa.types.is_nested(type_):
                    raise source.error("a lambda may use a whole list only as list[i] or len(list)")

    def _check_made(self, tree: Tree, source: Source) -> None:
        """Refuses lists of lists, and lambdas that return texts: they could double at each."""
        type_ = self._type(tree, source)
        made = type_.value_type if pa.types.is_list(type_) else type_
        if pa.types.is_nested(made) or (
            name_of(tree) in MAPPING and (pa.types.is_string(made) or pa.types.is_binary(made))
        ):
            raise source.error(f"{name_of(tree)} must make numbers or conditions, not {made}")

    def _call(self, tree: Tree, source: Source) -> tuple[Tree, int]:
        """Compiles a call of a function of time to a column of a step."""
        function = name_of(tree)
        if tree.get("schema"):
            raise source.error(f"write {function}(...) with its argument between the brackets")
        arguments = [argument["expression"] for argument in tree["arguments"]]
        windowed = function in WINDOWED
        if len(arguments) != (3 if windowed else 2):
            form = "(x, from_s, to_s)" if windowed else "(x, s)"
            raise source.error(f"{function} has other arguments; write {function}{form}")
        times = tuple(self._seconds(argument, function, source) for argument in arguments[1:])
        if windowed and times[0] > times[1]:
            raise source.error(f"{function}: from_s is after to_s")
        # It is computed for the rows, also where it is used in a lambda.
        argument, depth = self._compile(arguments[0], replace(source, in_lambda=False))
        type_ = self._type(argument, source)
        if windowed and not _is_numeric(type_):
            raise source.error(f"{function} needs numbers or conditions, not {type_}")
        while len(self._steps) <= depth:
            self._steps.append(Step())
        step = self._steps[depth]
        if argument["class"] == "COLUMN_REF":
            name = argument["column_names"][0]
        else:
            name = self._name_of(argument)
            if name not in self._empty.column_names:
                step.select[name] = argument
                self._append(name, type_)
        key = json.dumps([function, name, times])
        if key not in self._names:
            call = Call(f"#{len(self._names)}", function, name, times)
            self._names[key] = call.name
            step.calls.append(call)
            self._append(call.name, pa.float64() if windowed else type_)
        return self._parser.column(self._names[key]), depth + 1

    def _append(self, name: str, type_: pa.DataType) -> None:
        self._empty = self._empty.append_column(name, pa.nulls(0, type_))

    def _name_of(self, tree: Tree) -> str:
        """Returns the column of an expression; equal expressions share one."""
        key = json.dumps(without_locations(tree), sort_keys=True)
        return self._names.setdefault(key, f"#{len(self._names)}")

    def _seconds(self, tree: Tree, function: str, source: Source) -> int:
        """Evaluates a constant expression in seconds to nanoseconds."""
        tree, _ = self._compile(tree, source)
        try:
            row = self._con.execute(self._parser.select_constant(tree)).fetchall()
            value = float(row[0][0])
        except (duckdb.Error, TypeError, ValueError) as error:
            raise source.error(f"{function}: its times must be constants, in s: {error}") from error
        if not (math.isfinite(value) and abs(value) <= MAX_SECONDS):
            raise source.error(f"{function}: {value:g} s is beyond {MAX_SECONDS:g} s")
        return ns(value)

    def _type(self, tree: Tree, source: Source) -> pa.DataType:
        """Returns the type of an expression by evaluating it on no rows."""
        try:
            return self._run(self._sql({"x": tree}), self._empty).schema.field(0).type
        except duckdb.Error as error:
            raise source.error(str(error)) from error


def _operands(tree: Any) -> Iterator[Tree]:
    """Yields the nodes directly below a node."""
    for part in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(part, dict) and "class" in part:
            yield part
        elif isinstance(part, dict | list):
            yield from _operands(part)


def _is_numeric(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_boolean(type_)
    )
