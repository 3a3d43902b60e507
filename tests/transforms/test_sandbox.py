"""A DuckDB for strangers: no files, no extensions, one time zone, and an end in time."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import pytest

from transforms import sandbox
from transforms.sandbox import TimeLimit

ENDLESS = "SELECT count(*) FROM range(1000000000000)"


def shut(*files: str) -> duckdb.DuckDBPyConnection:
    con = sandbox.connect(1, 100_000_000)
    sandbox.shut(con, files)
    sandbox.lock(con)
    return con


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: it has a file, and the folder to which DuckDB spills by default."""
    for name in ("allowed", "secret", ".tmp/secret"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_only_the_allowed_files_can_be_read(folder: Path) -> None:
    con = shut(str(folder / "allowed"))
    assert con.sql(f"SELECT content FROM read_text('{folder}/allowed')").fetchall() == [  # noqa: S608
        ("allowed",)
    ]
    for path in ("secret", ".tmp/secret", f"{folder}/.tmp/secret", f"{folder}/allowed/../secret"):
        for sql in (f"FROM read_text('{path}')", f"FROM glob('{path}')", f"FROM '{path}'"):
            with pytest.raises(duckdb.Error):
                con.sql(sql).fetchall()


def test_memory_that_is_not_there_is_an_error_and_nothing_is_spilled(folder: Path) -> None:
    con = shut()
    with pytest.raises(duckdb.OutOfMemoryException):
        con.sql("SELECT * FROM range(100000000) t(i) ORDER BY hash(i)").fetchall()
    assert {path.name for path in folder.rglob("*")} == {".tmp", "allowed", "secret"}


def test_what_does_not_fit_is_spilled_to_a_folder_up_to_a_limit(tmp_path: Path) -> None:
    sql = "SELECT i FROM range(10000000) t(i) ORDER BY hash(i) LIMIT 1 OFFSET 9999999"
    for spill, most in (("", 0), (str(tmp_path / "small"), 10**6)):
        con = sandbox.connect(1, 60_000_000, spill=spill, max_spill=most)
        with pytest.raises(duckdb.OutOfMemoryException):
            con.sql(sql).fetchall()
    con = sandbox.connect(1, 60_000_000, spill=str(tmp_path / "spill"), max_spill=10**9)
    assert len(con.sql(sql).fetchall()) == 1


def test_days_are_those_of_utc_wherever_a_worker_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert shut().sql("SELECT hour(to_timestamp(0))").fetchall() == [(0,)]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("seconds", [0.2, 2.5])
def test_a_statement_ends_at_its_limit_and_says_nothing(
    seconds: float, capfd: pytest.CaptureFixture[str]
) -> None:
    """DuckDB draws a bar on stdout for a statement of more than two seconds."""
    con = shut()
    began = time.monotonic()
    with pytest.raises(duckdb.InterruptException), TimeLimit(con, seconds) as limit:
        con.sql(ENDLESS).fetchall()
    assert limit.struck
    assert seconds <= time.monotonic() - began < seconds + 60
    assert capfd.readouterr() == ("", "")
    assert con.sql("SELECT 1").fetchall() == [(1,)]


def test_a_limit_that_passes_between_statements_ends_the_next_one() -> None:
    con = shut()
    with TimeLimit(con, 0.1) as limit:
        limit.check()
        time.sleep(0.3)
        with pytest.raises(duckdb.InterruptException):
            limit.check()
        with pytest.raises(duckdb.InterruptException):
            con.sql(ENDLESS).fetchall()


def test_a_limit_that_does_not_strike_leaves_nothing_behind() -> None:
    con = shut()
    with TimeLimit(con, 3600.0) as limit:
        assert con.sql("SELECT 1").fetchall() == [(1,)]
    assert not limit.struck
    with TimeLimit(con, float("inf")):
        pass
