"""The process of a query: what it says, and that the system ends it for certain."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.queries.child import GRACE_S, MAX_BATCH
from tests.conftest import environment
from tests.memory import peak_of


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its code, what it said, its rows, its time and its most memory."""

    code: int
    said: dict[str, Any] | None
    rows: pa.Table | None
    seconds: float
    peak_bytes: int


def run(sql: str, folder: Path, **changes: object) -> Ended:
    """Runs a child."""
    with tempfile.TemporaryFile() as out:
        request = {
            "lake_url": str(folder),
            "views": {"logs": []},
            "sql": sql,
            "shape": "arrow",
            "keep": None,
            "timeout_s": 30.0,
            "memory": 200_000_000,
            "threads": 2,
            "spill": str(folder / "spill"),
            "spill_bytes": 10**9,
            "out": out.fileno(),
            **changes,
        }
        began = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, "-c", "from pipeline.queries.child import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(out.fileno(),),
            env=environment(ARROW_DEFAULT_MEMORY_POOL="system"),
        )
        with peak_of(child.pid) as peak:
            stdout, stderr = child.communicate(json.dumps(request))
        seconds = time.monotonic() - began
        said = json.loads(stdout) if stdout else None
        out.seek(0)
        rows = pa.ipc.open_stream(out).read_all() if said and "rows" in said else None
    assert stderr == ""
    return Ended(child.returncode, said, rows, seconds, peak.bytes)


def test_rows_are_written_and_counted(tmp_path: Path) -> None:
    ended = run("SELECT i AS x, -i AS x FROM range(25000) t(i) ORDER BY i DESC", tmp_path)
    assert (ended.code, ended.said) == (0, {"rows": 25000})
    assert ended.rows is not None
    assert ended.rows.column_names == ["x", "x_1"]
    assert ended.rows["x"].to_pylist() == list(range(24999, -1, -1))
    some = run("SELECT i FROM range(25000) t(i)", tmp_path, keep=12_000)
    assert some.said == {"rows": 25000}
    assert some.rows is not None
    assert some.rows.num_rows == 12_000


def test_the_order_of_rows_is_kept_where_columns_are_cast(tmp_path: Path) -> None:
    sql = "SELECT to_timestamp(i) AS t, i FROM range(300000) t(i) ORDER BY hash(i)"
    shown = run(sql, tmp_path, shape="json").rows
    plain = run(sql, tmp_path).rows
    assert shown is not None
    assert plain is not None
    assert shown["i"] == plain["i"]
    assert shown["t"].type == pa.string()


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELEC", "usage"),
        ("SELECT 1; SELECT 2", "usage"),
        ("", "usage"),
        ("COPY logs TO 'x'", "usage"),
        ("SELECT 'x'::INTEGER", "usage"),
        ("SELECT error('bad')", "usage"),
        ("SELECT i::TINYINT FROM range(100000) t(i)", "usage"),
        ("SELECT len(range(1000000000))", "memory"),
        ("SELECT length(repeat('x', 10000000) || i) FROM range(100000) t(i)", "memory"),
        ("SELECT list(i) FROM range(100000000) t(i)", "memory"),
        ("WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t) FROM t", "memory"),
        ("SELECT i FROM range(1000000000) t(i)", "size"),
    ],
)
def test_what_goes_wrong_is_told_by_kind(tmp_path: Path, sql: str, kind: str) -> None:
    ended = run(sql, tmp_path)
    assert ended.code == 0
    assert ended.said is not None
    assert ended.said["error"] == kind
    assert ended.said["message"] or kind == "size"
    assert "\n" not in ended.said["message"]


def test_what_is_interrupted_and_what_is_not_end_in_time(tmp_path: Path) -> None:
    ended = run("SELECT count(*) FROM range(1000000000000)", tmp_path, timeout_s=1.0)
    assert ended.said is not None
    assert ended.said["error"] == "time"
    endless = (
        "SELECT levenshtein(repeat('a', 1000000) || i, repeat('b', 1000000)) FROM range(3) t(i)"
    )
    ended = run(endless, tmp_path, timeout_s=1.0)
    assert (ended.code, ended.said) == (-signal.SIGALRM, None)
    assert ended.seconds < 1.0 + GRACE_S + 20


def test_memory_is_bounded_whatever_allocates_it(tmp_path: Path) -> None:
    for sql in (
        "SELECT repeat('x' || i, 1000000000) FROM range(9) t(i)",
        "SELECT len(list_resize([i], 100000000)) FROM range(9) t(i)",
    ):
        assert 50_000_000 < run(sql, tmp_path).peak_bytes < 200_000_000 + 700_000_000, sql


def test_a_row_that_is_too_large_to_print_is_told(tmp_path: Path) -> None:
    sql = f"SELECT list(i) AS x FROM range({MAX_BATCH // 8 + 1}) t(i)"  # noqa: S608 - a number
    told = run(sql, tmp_path, shape="json", memory=10**9).said
    assert told is not None
    assert (told["error"], "--format parquet" in told["message"]) == ("usage", True)
    whole = run(sql, tmp_path, memory=10**9)
    assert whole.said == {"rows": 1}


def test_nothing_is_left_in_the_working_folder(tmp_path: Path) -> None:
    before = set(Path().iterdir())
    sql = "SELECT i FROM range(5000000) t(i) ORDER BY hash(i) LIMIT 1 OFFSET 4999999"
    assert run(sql, tmp_path, memory=60_000_000, threads=1).said == {"rows": 1}
    assert set(Path().iterdir()) == before
