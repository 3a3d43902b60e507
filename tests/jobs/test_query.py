from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.queries import list_queries
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import binary, call

SQL = "SELECT trigger, count(*) AS events FROM events GROUP BY 1"


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_query_answers_in_every_form(chain: Chain, form: str) -> None:
    out = binary("query", "--lake", chain.lake, SQL, "--format", form)
    events = chain.ended["mine"].document["events"]
    if form == "parquet":
        rows = pq.read_table(pa.BufferReader(out)).to_pylist()
    elif form == "csv":
        rows = [*csv.DictReader(io.StringIO(out.decode()))]
    elif form == "json":
        rows = call("query", "--lake", chain.lake, SQL, "--json").document
        assert out.decode() == call("query", "--lake", chain.lake, SQL, "--json").out
    else:
        _, _, *lines = out.decode().splitlines()
        cells = [line.split() for line in lines if line]
        rows = [{"trigger": cell[0], "events": cell[1]} for cell in cells]
    assert {row["trigger"]: int(row["events"]) for row in rows} == events


def test_nested_columns_are_text_in_csv(chain: Chain) -> None:
    out = call("query", "--lake", chain.lake, "SELECT [1, 2] AS pair", "--format", "csv").out
    assert [*csv.DictReader(io.StringIO(out))] == [{"pair": "[1, 2]"}]


def test_a_named_query_answers(chain: Chain) -> None:
    done = call("query", "--lake", chain.lake, "--name", list_queries()[0], "--json")
    assert done.code == 0, done.err
    assert isinstance(done.document, list)


@pytest.mark.parametrize("arguments", [(), (SQL, "--name", "events")])
def test_it_takes_either_a_statement_or_a_name(chain: Chain, arguments: tuple[str, ...]) -> None:
    done = call("query", "--lake", chain.lake, *arguments)
    assert done.code == 2
    assert "either one SQL statement or --name" in done.err


def test_a_query_that_does_not_end_is_ended_in_one_line(chain: Chain) -> None:
    endless = "SELECT count(*) FROM range(1000000000000)"
    done = call("query", "--lake", chain.lake, endless, "--timeout", "0.5")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "fleetmill: the query was not done after 0.5 s: narrow it, or raise --timeout\n"
    )


def test_a_query_that_needs_too_much_memory_is_ended_in_one_line(chain: Chain) -> None:
    large = "SELECT len(range(1000000000))"
    done = call("query", "--lake", chain.lake, large, "--memory", "100MB", "--json")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "fleetmill: the query needs more memory than 0.1 GB: narrow it, or raise --memory\n"
    )


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--memory", "lots"),
        ("--memory", "1KB"),
        ("--memory", "-1GB"),
        ("--memory", "9e99GB"),
        ("--timeout", "0"),
        ("--timeout", "nan"),
        ("--timeout", "inf"),
        ("--timeout", "soon"),
        ("--rows", "-1"),
    ],
)
def test_limits_that_are_none_are_refused(chain: Chain, flag: str, value: str) -> None:
    done = call("query", "--lake", chain.lake, "SELECT 1", flag, value)
    assert done.code == 2
    assert flag in done.err
    assert done.err.count("\n") == 1


def test_a_long_statement_draws_no_bar(chain: Chain) -> None:
    """DuckDB would, on stdout, after two seconds."""
    slow = "SELECT count(*) AS n FROM range(3000) a, (SELECT pg_sleep(2.5)), range(3000) b"
    assert call("query", "--lake", chain.lake, slow, "--json").document == [{"n": 9_000_000}]
