"""Compiled expressions: functions of time, SQL windows, and what is rejected."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from schemas.errors import UsageError
from schemas.tables import TABLES
from transforms.triggers.spec import Trigger
from transforms.triggers.sql import SERIES, Query
from transforms.triggers.windows import Rows

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
    params={"a": 2.0, "b": -0.5},
)


def _values(text: str, speeds: Sequence[float | None], key: str = "when") -> list[object]:
    query = Query(TABLES["signals"].schema, 1)
    name = query.add(TRIGGER, key, text)
    n = len(speeds)
    t_ns = np.arange(n, dtype=np.int64) * 20_000_000
    table = pa.table(
        {"t_ns": t_ns, "speed_mps": pa.array(speeds, pa.float64()), SERIES: np.zeros(n, np.int64)}
    )
    for field in TABLES["signals"].schema:
        if field.name not in table.column_names:
            table = table.append_column(field.name, pa.nulls(n, field.type))
    values: list[object] = query.run(table, Rows.of(t_ns, np.array([0]))).column(name).to_pylist()
    return values


def test_functions_of_time_nest() -> None:
    """A change of a mean, a count of rises, with parameters in the times."""
    speeds = [0.0, 0.0, 6.0, 0.0, 6.0, 6.0]
    assert _values("past(speed_mps, 0.02) < speed_mps", speeds) == [
        None,
        False,
        True,
        False,
        True,
        False,
    ]
    text = "total(past(speed_mps, 0.02) < speed_mps, $b, -$b)"
    assert _values(text, speeds, "score") == [2.0] * 6
    text = "ahead(mean(speed_mps, -0.02, 0), 0.02) - mean(speed_mps, -0.02, 0.0)"
    assert _values(text, speeds, "score") == [0.0, 3.0, 0.0, 0.0, 3.0, None]
    assert _values("speed_mps > $a and $b < 0", speeds) == [s > 2 for s in speeds if s is not None]


def test_windows_of_sql_keep_their_rows() -> None:
    """A window function has an order of its own, but each value stays in its row."""
    speeds = [5.0, 1.0, 4.0, None, 2.0]
    text = "row_number() OVER (ORDER BY speed_mps DESC NULLS LAST)"
    assert _values(text, speeds, "score") == [1.0, 4.0, 2.0, 5.0, 3.0]


def test_mean_like_duckdbs_own_window() -> None:
    """The same sliding mean as by DuckDB's RANGE window, over rows with nulls."""
    rng = np.random.default_rng(1)
    speeds = [None if rng.random() < 0.1 else float(v) for v in rng.normal(10, 3, 400)]
    own = _values("mean(speed_mps, -0.5, 0.3)", speeds, "score")
    table = pa.table({"t": np.arange(400) * 20, "v": pa.array(speeds)})
    con = duckdb.connect()
    con.register("v", table)
    theirs = con.sql(
        "SELECT avg(v) OVER (ORDER BY t RANGE BETWEEN 500 PRECEDING AND 300 FOLLOWING) "
        "FROM v ORDER BY t"
    ).fetchall()
    assert own == pytest.approx([value for (value,) in theirs], abs=1e-8)


@pytest.mark.parametrize(
    "text",
    [
        "1) FROM x; --",
        "true FROM range(3)",
        "true WHERE false",
        "true LIMIT 0",
        "true ORDER BY 1",
        "true; SELECT 2",
        "true, false",
        "DISTINCT true",
        "*",
        "COLUMNS('.*')",
        "",
        "-- nothing",
        "true UNION SELECT false",
        "(SELECT true)",
        "EXISTS (FROM read_csv('/etc/passwd'))",
        "'x' IN (SELECT content FROM read_text('/etc/passwd'))",
        "(SELECT count(*) FROM glob('/*')) > 0",
        "read_csv('/etc/passwd')",
        "getenv('HOME') = '/root'",
        "COPY rows TO '/tmp/x'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "random() < 0.5",
        "now() > '2020-01-01'",
        "current_timestamp IS NOT NULL",
        "uuid() = ''",
        "nextval('x') = 1",
        "count(*) > 1",
        "sum(speed_mps) > 1",
        "nosuch > 1",
        "SPEED_MPS > 1",
        "rows.speed_mps > 1",
        '"#row" > 1',
        "pg_sleep(9) IS NULL",
        "current_user = 'duckdb'",
        "current_date > '2020-01-01'",
        "nosuch(speed_mps)",
        "speed_mps",
        "$nosuch > 1",
        "? > 1",
        "mean(speed_mps) > 1",
        "mean(speed_mps, -1) > 1",
        "mean(speed_mps, 1, -1) > 1",
        "mean(speed_mps, -1, t_ns) > 1",
        "mean(speed_mps, -1, 'x') > 1",
        "mean(speed_mps, -1e9, 0) > 1",
        "mean(speed_mps, null, 0) > 1",
        "mean(gear, -1, 0) > 1",
        "past(nosuch, 1) > 1",
        "unnest([true])",
        "NOT " * 900 + "true",
        "(" * 1900 + "true" + ")" * 1900,
        "abs(" * 500 + "speed_mps" + ")" * 500 + " > 1",
        "past(" * 200 + "speed_mps" + ", 0.1)" * 200 + " > 1",
    ],
)
def test_refuses(text: str) -> None:
    """Everything but a condition over the rows is a UsageError that names trigger and key."""
    with pytest.raises(UsageError, match="trigger 't', when: "):
        Query(TABLES["signals"].schema, 1).add(TRIGGER, "when", text)


def test_names_what_is_wrong() -> None:
    """DuckDB's message, and the parameters to choose from."""
    query = Query(TABLES["signals"].schema, 1)
    with pytest.raises(UsageError, match="speed_mps"):
        query.add(TRIGGER, "when", "speed_mp > 1")
    with pytest.raises(UsageError, match=r"\$a, \$b"):
        query.add(TRIGGER, "until", "speed_mps > $c")
    with pytest.raises(UsageError, match="score: must be a number"):
        query.add(TRIGGER, "score", "gear")


def test_parameters_are_values() -> None:
    """Parameters are inserted as numbers, never as SQL."""
    tiny = TRIGGER.replace(params={"a": 5e-324, "b": -1.7976931348623157e308})
    query = Query(TABLES["signals"].schema, 1)
    query.add(tiny, "when", "$a > 0 and $b < -1.7e308")
    assert _values("$a = 2.0 and $b = -0.5", [1.0]) == [True]
