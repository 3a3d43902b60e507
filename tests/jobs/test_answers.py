"""Answers as a table, JSON, CSV and Parquet: whole, valid, and safe to show."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.answers import MAX_CELL_CHARS
from pipeline.lake.tables import Lake
from schemas.redaction import printable
from tests.conftest import environment
from tests.jobs.inprocess import binary, call
from transforms.parquet import ROW_GROUP_ROWS


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty lake: what is asked needs none of its rows."""
    folder = tmp_path_factory.mktemp("lake")
    Lake.create(str(folder))
    return folder


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def as_json(lake: Path, sql: str) -> list[dict[str, object]]:
    done = call("query", "--lake", lake, sql, "--json")
    assert done.code == 0, done.err
    rows: list[dict[str, object]] = json.loads(done.out, parse_constant=refuse)
    return rows


def test_json_is_valid_and_has_every_column(lake: Path) -> None:
    sql = (
        "SELECT 1 a, 2 a, 'nan'::DOUBLE x, ['inf'::DOUBLE, 1] y, {'z': '-inf'::FLOAT} s, "
        "sum(i) AS n, 1.5 AS d, chr(0) || chr(27) || '\U0001f697' AS c, MAP {1: 'a'} m, [] e, "
        "NULL o FROM range(3) t(i)"
    )
    row: dict[str, object] = {
        "a": 1,
        "a_1": 2,
        "x": None,
        "y": [None, 1],
        "s": {"z": None},
        "n": 3,
        "d": 1.5,
    }
    row |= {"c": "\0\x1b\U0001f697", "m": [[1, "a"]], "e": [], "o": None}
    assert as_json(lake, sql) == [row]


def test_json_is_complete_and_indented_like_other_documents(lake: Path) -> None:
    done = call(
        "query", "--lake", lake, "SELECT i AS a, [1, i] AS b FROM range(25000) t(i)", "--json"
    )
    rows = [{"a": k, "b": [1, k]} for k in range(25000)]
    assert done.out == json.dumps(rows, indent=2) + "\n"
    assert call("query", "--lake", lake, "SELECT 1 WHERE false", "--json").out == "[]\n"


@pytest.mark.parametrize("form", ["table", "json", "csv", "parquet"])
def test_values_that_python_has_not_are_values(lake: Path, form: str) -> None:
    sql = (
        "SELECT 'infinity'::DATE a, '-infinity'::TIMESTAMPTZ b, INTERVAL 1 YEAR c, "
        "340282366920938463463374607431768211455::UHUGEINT d, union_value(k := 1) e, '01'::BIT f, "
        "DATE '290000-01-01' g, 'x'::ENUM('x') h, [TIME '24:00:00'] i, 'a'::BLOB j, now() k"
    )
    out = binary("query", "--lake", lake, sql, "--format", form)
    if form == "parquet":
        assert pq.read_table(pa.BufferReader(out)).num_rows == 1
    elif form == "table":  # its cells are wrapped
        assert out.decode().startswith("1 rows")
    else:
        assert out.decode().count("infinity") == 2
        assert "340282366920938463463374607431768211455" in out.decode()


def test_a_long_table_is_cut_and_says_so(lake: Path) -> None:
    sql = "SELECT i AS x FROM range(1500) t(i)"
    out = call("query", "--lake", lake, sql).out
    first, head, *rest = out.splitlines()
    assert first.startswith("the first 100 of 1,500 rows; --rows 0 shows all")
    assert head.strip() == "x"
    assert [int(line) for line in rest if line] == list(range(100))
    whole = call("query", "--lake", lake, sql, "--rows", 0).out
    assert whole.splitlines()[0] == "1500 rows"
    assert len([line for line in whole.splitlines() if line]) == 1502
    out = call("query", "--lake", lake, sql, "--rows", 5, "--format", "csv").out
    assert len(out.splitlines()) == 1501


def test_a_long_cell_is_cut(lake: Path) -> None:
    out = call("query", "--lake", lake, "SELECT repeat('y ', 5000) AS x").out
    assert out.count("y") == MAX_CELL_CHARS / 2
    assert "(10,000 characters)" in " ".join(out.split())


def test_control_characters_are_escaped_in_a_table(lake: Path) -> None:
    sql = (
        "SELECT chr(27) || '[2J' || chr(7) || chr(10) || chr(8238) AS \"a\x1b[31m\", ['\x1b'] AS b"
    )
    out = call("query", "--lake", lake, sql).out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\u202e" not in out
    assert r"\x1b[2J\x07\n\u202e" in out
    assert r"a\x1b[31m" in out
    assert printable("plain, Straße") == "plain, Straße"


def on_terminal(arguments: list[str]) -> tuple[int, str]:
    """Runs the command with a terminal as its stdout."""
    screen, keyboard = pty.openpty()
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    child = subprocess.Popen(command, stdout=keyboard, stderr=keyboard, env=environment())
    os.close(keyboard)
    shown = b""
    while True:
        try:
            part = os.read(screen, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(screen)
    return child.wait(), shown.decode()


def test_csv_is_escaped_on_a_terminal_and_as_it_is_elsewhere(lake: Path) -> None:
    query = ["query", "--lake", str(lake), "SELECT chr(27) || '[2J' AS x", "--format", "csv"]
    code, shown = on_terminal(query)
    assert code == 0
    assert "\x1b[2J" not in shown
    assert r"\x1b[2J" in shown
    assert [*csv.DictReader(io.StringIO(binary(*query).decode()))] == [{"x": "\x1b[2J"}]


def test_parquet_is_not_written_to_a_terminal(lake: Path) -> None:
    code, shown = on_terminal(["query", "--lake", str(lake), "SELECT 1", "--format", "parquet"])
    assert code == 2
    assert "redirect" in shown
    assert "PAR1" not in shown


def test_parquet_has_large_row_groups(lake: Path) -> None:
    rows = ROW_GROUP_ROWS + 5
    out = binary("query", "--lake", lake, f"FROM range({rows}) t(x)", "--format", "parquet")
    file = pq.ParquetFile(pa.BufferReader(out))
    assert file.read()["x"].to_pylist() == list(range(rows))
    assert file.num_row_groups <= 3
    empty = binary("query", "--lake", lake, "SELECT 1 AS x WHERE false", "--format", "parquet")
    assert pq.read_table(pa.BufferReader(empty)).column_names == ["x"]
