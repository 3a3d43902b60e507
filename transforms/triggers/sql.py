"""Triggers in SQL: the expressions of all triggers of a table, in as few SELECTs as possible.

An expression may use DuckDB's scalar functions and operators over the columns of its table,
`$name` for a parameter, and functions of time:

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
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from schemas.times import ns
from transforms.triggers.expressions import (
    Parser,
    Source,
    Tree,
    connect,
    lambda_parameters,
    without_locations,
)
from transforms.triggers.spec import MAX_SECONDS, Trigger
from transforms.triggers.windows import SHIFTED, WINDOWED, Rows

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
        tree = self._parser.expression(Source(trigger, key), text)
        source = Source(trigger, key, lambda_parameters(tree))
        tree, _ = self._compile(tree, source)
        type_ = self._type(tree, source)
        if key != "score" and type_ != pa.bool_():
            raise source.error(f"must be a condition, is of type {type_}")
        if key == "score" and not _is_numeric(type_):
            raise source.error(f"must be a number, is of type {type_}")
        if key == "score":
            tree = self._parser.cast(tree, "DOUBLE")
        name = self._name_of(tree)
        self._outputs[name] = tree
        self._texts = []
        return name

    def run(self, table: pa.Table, rows: Rows) -> pa.Table:
        """Evaluates every expression on every row; preserves the order of rows."""
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
        timed = node == "FUNCTION" and tree["function_name"] in {*SHIFTED, *WINDOWED}
        if node is not None and not timed:
            self._parser.check(tree, self._columns, source)
        if node == "PARAMETER":
            return self._parameter(tree["identifier"], source), 0
        if timed:
            return self._call(tree, source)
        if node == "COLUMN_REF":
            self.columns |= self._columns & set(tree["column_names"])
            return tree, 0
        compiled: Tree = {}
        depth = 0
        for name, part in tree.items():
            compiled[name], part_depth = self._compile(part, source)
            depth = max(depth, part_depth)
        if node == "WINDOW":
            self._windowed = True
            compiled["partitions"] = [self._parser.column(SERIES), *compiled["partitions"]]
        return compiled, depth

    def _call(self, tree: Tree, source: Source) -> tuple[Tree, int]:
        """Compiles a call of a function of time to a column of a step."""
        function = tree["function_name"]
        arguments = [argument["expression"] for argument in tree["arguments"]]
        windowed = function in WINDOWED
        if len(arguments) != (3 if windowed else 2):
            form = "(x, from_s, to_s)" if windowed else "(x, s)"
            raise source.error(f"{function} has other arguments; write {function}{form}")
        times = tuple(self._seconds(argument, function, source) for argument in arguments[1:])
        if windowed and times[0] > times[1]:
            raise source.error(f"{function}: from_s is after to_s")
        argument, depth = self._compile(arguments[0], source)
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

    def _parameter(self, name: str, source: Source) -> Tree:
        params = source.trigger.params
        if name not in params:
            choices = ", ".join(f"${key}" for key in sorted(params)) or "none"
            raise source.error(f"no parameter ${name}; [params] has: {choices}")
        return self._parser.number(params[name])

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


def _is_numeric(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(type_)
        or pa.types.is_floating(type_)
        or pa.types.is_decimal(type_)
        or pa.types.is_boolean(type_)
    )
