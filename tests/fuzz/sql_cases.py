"""Random SQL of strangers: made from a seed, run one after the other, told as lines of JSON.

    python -m tests.fuzz.sql_cases queries|triggers SEED FIRST END

A query runs in a process of its own, forked from this one, as it does from `fleetmill query`;
a trigger in this one, as it does in a worker.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from pipeline.queries import child, list_queries, load_query
from pipeline.queries.shapes import Shape
from schemas.errors import DataError, UsageError
from schemas.tables import TABLES
from transforms.triggers import load_triggers
from transforms.triggers.allowed import FUNCTIONS
from transforms.triggers.engine import Miner, ticks
from transforms.triggers.spec import Trigger
from transforms.triggers.windows import SHIFTED, WINDOWED

TIMEOUT_S = 1.0
MEMORY = 300_000_000

NUMBERS = ("0", "1", "-1", "2", "1.5", "1e9", "1e308", "9223372036854775807", "-1e-300", "NULL")
TEXTS = ("''", "'a'", "'%a%b%'", "'infinity'", "'nan'", "'🚗'", "'[1, 2]'", "'\\x00'", "chr(27)")
TYPES = ("INTEGER", "DOUBLE", "VARCHAR", "DATE", "TIMESTAMP", "BLOB", "DOUBLE[]", "JSON", "HUGEINT")
OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "||", "=", "<", "<>", "AND", "OR", "LIKE", "<<")

Dice = random.Random


def mutated(dice: Dice, text: str, others: Sequence[str]) -> str:
    """Changes a text in one to four places: cuts, doubles, swaps, splices, strange characters."""
    for _ in range(dice.randint(1, 4)):
        at, to = sorted(dice.randint(0, len(text)) for _ in range(2))
        kind = dice.randrange(7)
        if kind == 0:
            text = text[:at] + text[to:]
        elif kind == 1:
            text = text[:to] + text[at:to] * dice.choice((1, 2, 30)) + text[to:]
        elif kind == 2:
            text = text[:at] + dice.choice("()[]{}'\"$;,.-/*\\\n\t\0\x1b🚗￿") + text[at:]
        elif kind == 3:
            text = text[:at] + dice.choice((*NUMBERS, *TEXTS, *OPERATORS)) + text[to:]
        elif kind == 4:
            other = dice.choice(others)
            text = text[:at] + other[dice.randint(0, len(other)) :] + text[to:]
        elif kind == 5:
            text = text[:at] + dice.choice(("(", "[", "NOT ", "- ", "CASE WHEN ")) * 200 + text[at:]
        else:
            text = text[:at] + text[at:to].swapcase() + text[to:]
    return text


class Grammar:
    """Makes expressions of a kind: number, truth, text or list.

    Args:
        dice: the source of chance.
        columns: columns by kind.
        functions: names of functions that any kind of argument is tried on.
        timed: whether there are functions of time and parameters.
    """

    def __init__(
        self,
        dice: Dice,
        columns: Mapping[str, Sequence[str]],
        functions: Sequence[str],
        *,
        timed: bool,
    ) -> None:
        self.dice = dice
        self.columns = columns
        self.functions = functions
        self.timed = timed

    def make(self, kind: str, depth: int) -> str:
        """Makes an expression of a kind."""
        if depth <= 0 or self.dice.random() < 0.15:
            return self._leaf(kind)
        if self.dice.random() < 0.1:
            return self._any(depth - 1)
        made: str = getattr(self, f"_{kind}")(depth - 1)
        return made

    def _leaf(self, kind: str) -> str:
        constants = {"number": NUMBERS, "text": TEXTS, "truth": ("true", "NULL")}
        chosen = [*self.columns.get(kind, ()), *constants.get(kind, ("[]", "[1, NULL]"))]
        return self.dice.choice(chosen)

    def _any(self, depth: int) -> str:
        """Calls a function that may not exist for these arguments, or nowhere."""
        kinds = self.dice.choices(("number", "text", "list", "truth"), k=self.dice.randint(0, 3))
        name = self.dice.choice(self.functions)
        arguments = ", ".join(self.make(kind, depth) for kind in kinds)
        return f'"{name}"({arguments})'

    def _number(self, depth: int) -> str:
        a, b = self.make("number", depth), self.make("number", depth)
        makers: list[Callable[[], str]] = [
            lambda: f"({a} {self.dice.choice(('+', '-', '*', '/', '%', '//'))} {b})",
            lambda: f"{self.dice.choice(('abs', 'sqrt', 'ln', 'exp', 'floor', 'sin'))}({a})",
            lambda: f"CASE WHEN {self.make('truth', depth)} THEN {a} ELSE {b} END",
            lambda: f"TRY_CAST({a} AS {self.dice.choice(TYPES[:2])})",
            lambda: f"length({self.make('text', depth)})",
            lambda: (
                f"{self.dice.choice(('list_sum', 'list_max', 'len'))}({self.make('list', depth)})"
            ),
            lambda: f"{self.make('list', depth)}[{self.dice.randint(-1, 3)}]",
            lambda: f"coalesce({a}, {b})",
            lambda: f"sum({a}) OVER (ORDER BY {b})",
        ]
        if self.timed:
            times = sorted((self.dice.uniform(-3, 3), self.dice.uniform(-3, 3)))
            windowed = self.dice.choice(sorted(WINDOWED))
            shifted = self.dice.choice(sorted(SHIFTED))
            makers += [lambda: f"{windowed}({a}, {times[0]:.2f}, {times[1]:.2f})"] * 3
            makers += [lambda: f"{shifted}({a}, {times[1]:.2f})", lambda: "$p"]
        return self.dice.choice(makers)()

    def _truth(self, depth: int) -> str:
        a, b = self.make("number", depth), self.make("truth", depth)
        return self.dice.choice(
            (
                f"{a} {self.dice.choice(('<', '>', '=', '<>', '>='))} {self.make('number', depth)}",
                f"({b} {self.dice.choice(('AND', 'OR'))} {self.make('truth', depth)})",
                f"NOT {b}",
                f"{a} IS NULL",
                f"{self.make('text', depth)} LIKE {self.dice.choice(TEXTS)}",
                f"{a} BETWEEN -1 AND {self.make('number', depth)}",
                f"{a} IN (1, 2, {self.make('number', depth)})",
            )
        )

    def _text(self, depth: int) -> str:
        a = self.make("text", depth)
        return self.dice.choice(
            (
                f"({a} || {self.make('text', depth)})",
                f"upper({a})",
                f"left({a}, {self.make('number', depth)}::INTEGER)",
                f"CAST({self.make('number', depth)} AS VARCHAR)",
                f"repeat({a}, {self.make('number', depth)}::BIGINT)",
                f"replace({a}, 'a', {self.make('text', depth)})",
            )
        )

    def _list(self, depth: int) -> str:
        a = self.make("list", depth)
        return self.dice.choice(
            (
                f"[{self.make('number', depth)}, {self.make('number', depth)}]",
                f"list_transform({a}, lambda v: v + {self.make('number', depth - 1)})",
                f"list_filter({a}, lambda v: v > {self.make('number', depth - 1)})",
                f"list_concat({a}, {self.make('list', depth)})",
                f"list_transform([{a}], lambda v: list_concat(v, v))[1]",
                f"range({self.dice.choice(('10', '1000', '1000000000', f'len({a})'))})",
                f"list_sort({a})",
                f"list_resize({a}, {self.make('number', depth)}::BIGINT)",
            )
        )


def functions() -> list[str]:
    """Lists the functions of DuckDB."""
    with duckdb.connect() as con:  # its threads must not be there when a query is forked
        rows = con.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    return sorted(name for (name,) in rows)


def queries(chance: Iterable[Dice]) -> Iterator[str]:
    """Makes queries over the views of an empty lake, one for each source of chance."""
    names = functions()
    known = [load_query(name) for name in list_queries()]
    columns = {"number": ("i", "j"), "text": ("t",), "list": ("l",)}
    sources = (
        "(SELECT range AS i, range AS j, 'x' || range AS t, [range] AS l FROM range({n}))",
        "(SELECT a.range AS i, b.range AS j, 'x' AS t, [1] AS l FROM range({n}) a, range({n}) b)",
        "(SELECT t_ns AS i, speed_mps AS j, log_id AS t, [1] AS l FROM signals)",
        """(WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {n})
        SELECT i, i AS j, 'x' AS t, [i] AS l FROM r)""",
    )
    for dice in chance:
        grammar = Grammar(dice, columns, names, timed=False)
        number = dice.choice((0, 1, 3, 1000, 100_000, 1_000_000_000_000))
        source = dice.choice(sources).format(n=number)
        chosen = ", ".join(
            grammar.make(dice.choice(("number", "text", "list", "truth")), dice.randint(1, 4))
            for _ in range(dice.randint(1, 3))
        )
        sql = f"SELECT {chosen} FROM {source} AS s"  # noqa: S608 - what is tested
        if dice.random() < 0.3:
            sql += f" WHERE {grammar.make('truth', 3)}"
        if dice.random() < 0.3:
            sql += f" ORDER BY {grammar.make('number', 2)}"
        if dice.random() < 0.3:
            sql = mutated(dice, dice.choice([*known, sql]), known)
        yield sql


def triggers(chance: Iterable[Dice]) -> Iterator[tuple[str, str, str]]:
    """Makes a table, a condition and a score for each source of chance."""
    every = functions()
    shipped = [text for each in load_triggers() for text in (each.when, each.until, each.score)]
    known = [text for text in shipped if text]
    for dice in chance:
        table = dice.choice(sorted(COLUMNS))
        names = sorted(FUNCTIONS) if dice.random() < 0.7 else every
        grammar = Grammar(dice, COLUMNS[table], names, timed=True)
        when = grammar.make("truth", dice.randint(1, 6))
        score = grammar.make("number", dice.randint(0, 4))
        if dice.random() < 0.3:
            when = mutated(dice, dice.choice([*known, when]), known)
        yield table, when, score


COLUMNS: dict[str, dict[str, Sequence[str]]] = {
    "signals": {
        "number": ("speed_mps", "accel_x_mps2", "t_ns", "heading_rad"),
        "text": ("gear", "log_id"),
        "truth": ("blinker_left", "engaged"),
    },
    "joints": {"number": ("t_ns", "position[1]"), "list": ("position", "velocity")},
    "annotations": {"number": ("t_ns", "lat_deg"), "text": ("reason", "camera")},
    "ticks": {"number": ("uniform", "log_s", "t_ns")},
}

LOGS = pa.table({"log_id": ["a", "b"], "drive_id": ["a", "b"], "duration_ns": [60 * 10**9] * 2})


def rows(table: str) -> pa.Table:
    """Makes rows of two logs, some values of which are null, infinite or long."""
    if table == "ticks":
        return ticks(LOGS)
    n = 3000
    rng = np.random.default_rng(1)
    made: dict[str, Any] = {
        "log_id": ["a"] * (n // 2) + ["b"] * (n // 2),
        "t_ns": [*range(0, n // 2 * 20_000_000, 20_000_000)] * 2,
    }
    for field in TABLES[table].schema:
        if field.name in made:
            continue
        if pa.types.is_list(field.type):
            made[field.name] = pa.array(rng.random((n, 9)).tolist(), field.type)
        elif pa.types.is_string(field.type):
            made[field.name] = pa.array([("a%b" * 40, "12", "", "🚗")[k % 4] for k in range(n)])
        elif pa.types.is_boolean(field.type):
            made[field.name] = pa.array(rng.random(n) > 0.5)
        else:
            numbers = rng.normal(0, 20, n)
            numbers[::97] = np.inf
            made[field.name] = pa.array(numbers, mask=rng.random(n) < 0.1)
    return pa.table(made)


def run_query(sql: str, folder: Path) -> dict[str, Any]:
    """Runs a query in a forked process; says what it said, its time and its memory."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        request = child.Request(
            lake_url=str(folder),
            views={table: [] for table in TABLES},
            sql=sql,
            shape=Shape.JSON,
            keep=1000,
            timeout_s=TIMEOUT_S,
            memory=MEMORY,
            threads=1,
            spill=str(folder / "spill"),
            spill_bytes=MEMORY,
            out=out.fileno(),
        )
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            try:
                text = json.dumps(child.outcome(request))
            except BaseException as error:  # noqa: BLE001 - told by the parent
                text = json.dumps({"error": "crash", "message": repr(error)})
            said.write(text.encode())
            said.flush()
            os._exit(0)
        _, status, used = os.wait4(pid, 0)
        said.seek(0)
        ended: dict[str, Any] = json.loads(said.read() or b'{"error": "killed", "message": ""}')
    return {
        "outcome": ended.get("error", "result"),
        "message": ended.get("message", ""),
        "signal": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "bytes": used.ru_maxrss * 1024,
    }


def run_trigger(table: str, when: str, score: str, given: pa.Table) -> dict[str, Any]:
    """Mines with a trigger; says how it ended, its time and the most memory so far."""
    began = time.monotonic()
    message = ""
    try:
        trigger = Trigger(
            name="t",
            version=1,
            description="a test's",
            table=table,
            when=when,
            score=score,
            params={"p": 1.5},
            for_s=0,
            merge_s=1,
            pre_s=1,
            post_s=1,
        )
        Miner([trigger], table, timeout_s=TIMEOUT_S).mine(given, LOGS)
        outcome = "result"
    except ValidationError:
        outcome = "refused"
    except (UsageError, DataError) as error:
        outcome, message = type(error).__name__, str(error)
    except BaseException as error:  # noqa: BLE001 - what must not happen
        outcome, message = "crash", repr(error)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "outcome": outcome,
        "message": message,
        "signal": 0,
        "seconds": time.monotonic() - began,
        "bytes": most,
    }


def main() -> None:
    """Runs the cases of a seed; the text of each is told before it runs."""
    kind, seed, first, end = sys.argv[1:]
    chance = (
        random.Random(f"{seed} {kind} {case}")  # noqa: S311 - to be repeated
        for case in range(int(first), int(end))
    )
    out = sys.stdout
    if kind == "queries":
        with tempfile.TemporaryDirectory() as folder:
            for sql in queries(chance):
                out.write(json.dumps({"text": sql}) + "\n")
                out.flush()
                out.write(json.dumps(run_query(sql, Path(folder))) + "\n")
    else:
        given = {table: rows(table) for table in COLUMNS}
        for table, when, score in triggers(chance):
            out.write(json.dumps({"text": f"{table}: {when} SCORE {score}"}) + "\n")
            out.flush()
            out.write(json.dumps(run_trigger(table, when, score, given[table])) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
