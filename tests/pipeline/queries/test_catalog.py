"""The catalog: SQL reads the views of the lake, and nothing else on the machine."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import Limits, ask, connect, query, read_rows
from pipeline.snapshots.manifest import latest_snapshots
from schemas.errors import FleetError, LakeError, UsageError
from schemas.tables import TABLES
from tests.pipeline.lake.rows import filled, one_row
from tests.pipeline.snapshots.written import content, publish_all


def test_views_are_the_tables_at_their_pinned_versions(tmp_path: Path) -> None:
    lake = filled(str(tmp_path / 'it\'s a "lake"'))
    for name in TABLES:
        rows = read_rows(lake, f'SELECT * FROM "{name}"')  # noqa: S608 - our own names
        assert rows.column_names == TABLES[name].schema.names
        assert rows.num_rows == 1
    old = Lake.open(lake.url)
    commit(lake, RunRow("r2", "mine", "d", "{}", 1), lake.write("events", one_row("events"), "v"))
    again = one_row("events").set_column(0, "event_id", pa.array(["2"]))
    commit(lake, RunRow("r3", "mine", "d", "{}", 1), lake.write("events", again, "w"))
    assert query(old, "SELECT count(*) AS n FROM events")["n"].to_pylist() == [1]
    assert query(lake, "FROM events").num_rows > 1


def test_empty_tables_have_their_types(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    con = connect(lake)
    for name, table in TABLES.items():
        described = con.sql(f'DESCRIBE "{name}"').fetchall()
        assert [row[0] for row in described] == table.schema.names
    assert con.sql("SELECT typeof(position) FROM joints").fetchall() == []
    assert query(lake, "SELECT sum(score) + 1.0 AS s FROM events")["s"].to_pylist() == [None]


HOSTILE = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_text('{folder}/../secret')",
    "SELECT * FROM read_text('file://{secret}')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_text('.tmp/secret')",
    "SELECT * FROM glob('.tmp/*')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_csv('/dev/stdin')",
    "SELECT * FROM read_duckdb('{secret}')",
    "SELECT * FROM enable_logging(storage='file', storage_path='{folder}/log')",
    "SELECT * FROM enable_profiling(save_location='{folder}/profile')",
    "SELECT * FROM pandas_scan(1)",
    "SELECT getvariable('x')::INTEGER::POINTER",
    "PIVOT events ON trigger USING count(*)",
    "SELECT {'a': 1}::UNION(b INTEGER)",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('https://example.com/a.parquet')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT getenv('HOME')",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY events TO '{file}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/out.csv'",
    "WITH x AS (SELECT 1) COPY x TO '{file}'",
    "FROM query('COPY (SELECT 1) TO ''{file}''')",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/out.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET allowed_paths = ['/etc/passwd']",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CREATE TABLE t AS SELECT 1",
    "DROP VIEW events",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{file}'",
    "PREPARE p AS SELECT 1",
    "SELECT * FROM lake",
    "SELECT * FROM nowhere",
    "SELEC",
    "",
    ";",
    "-- nothing",
    "SELECT '\ud800'",
    "SELECT 1\0",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Makes one lake for all hostile SQL, beside a file that SQL must not reach."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "secret").write_text("secret")
    return filled(str(folder / "lake"))


@pytest.mark.parametrize("sql", HOSTILE)
def test_hostile_sql_fails_in_one_line_and_changes_nothing(guarded: Lake, sql: str) -> None:
    folder = Path(guarded.url).parent
    before = content(folder)
    text = (
        sql.replace("{secret}", str(folder / "secret"))
        .replace("{folder}", guarded.url)
        .replace("{file}", guarded.files("events")[0])
    )
    with pytest.raises(UsageError) as caught:
        query(guarded, text)
    assert "\n" not in str(caught.value)
    assert content(folder) == before


def test_hostile_sql_reads_nothing_below_the_working_folder(
    guarded: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "secret").write_text("secret")
    monkeypatch.chdir(tmp_path)
    for path in (".tmp/secret", f"{tmp_path}/.tmp/secret"):
        with pytest.raises(UsageError, match="Permission Error"):
            query(guarded, f"FROM read_text('{path}')")
        with connect(guarded) as con, pytest.raises(duckdb.Error):
            con.sql(f"FROM read_text('{path}')").fetchall()


ENDLESS = {
    "time": "SELECT count(*) FROM range(1000000000000)",
    "recursion": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT 1 FROM t",
    "cross join": "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range < b.range",
    "one call": (
        "SELECT levenshtein(repeat('a', 1000000) || i, repeat('b', 1000000)) FROM range(3) t(i)"
    ),
    "sleep": "SELECT pg_sleep(100000)",
}


@pytest.mark.parametrize("sql", ENDLESS.values(), ids=list(ENDLESS))
def test_what_does_not_end_is_ended(guarded: Lake, sql: str) -> None:
    began = time.monotonic()
    with pytest.raises(
        FleetError, match=r"^the query was not done after 1 s.*--timeout$"
    ) as caught:
        query(guarded, sql, Limits(timeout_s=1.0))
    assert not isinstance(caught.value, UsageError | LakeError)
    assert time.monotonic() - began < 60


LARGE = {
    "text": "SELECT length(repeat('x', 10000000) || i) FROM range(100000) t(i)",
    "list": "SELECT len(range(1000000000))",
    "rows": "SELECT list(i) FROM range(100000000) t(i)",
    "doubling": "WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t) FROM t",
    "answer": "SELECT * FROM range(1000000000)",
    "padding": "SELECT length(format('{:>1000000000}', 'x'))",
}


@pytest.mark.parametrize("sql", LARGE.values(), ids=list(LARGE))
def test_what_needs_too_much_memory_is_ended(guarded: Lake, sql: str) -> None:
    with pytest.raises(FleetError, match=r"0\.2 GB: narrow it, or raise --memory$") as caught:
        query(guarded, sql, Limits(memory=200_000_000))
    assert not isinstance(caught.value, UsageError | LakeError)


def test_limits_have_the_names_of_those_who_set_them(guarded: Lake) -> None:
    limits = Limits(0.5, 100_000_000, what="--where", longer="--where-timeout", larger="")
    with pytest.raises(FleetError, match=r"^--where was not done after 0\.5 s.*--where-timeout$"):
        query(guarded, ENDLESS["time"], limits)
    with pytest.raises(FleetError, match=r"^--where needs more memory than 0\.1 GB: narrow it$"):
        query(guarded, LARGE["list"], limits)


def test_a_query_leaves_no_process_and_no_folder(
    guarded: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = children()
    sql = "SELECT i FROM range(5000000) t(i) ORDER BY hash(i) LIMIT 1 OFFSET 4999999"
    assert query(guarded, sql, Limits(memory=100_000_000)).num_rows == 1
    for text in ("SELEC", ENDLESS["one call"]):
        with pytest.raises(FleetError):
            query(guarded, text, Limits(timeout_s=0.5))
    assert list(tmp_path.iterdir()) == []
    assert children() <= before


def children() -> set[str]:
    """The processes that this one started, and that have not ended."""
    lists = Path("/proc/self/task").glob("*/children")
    return set("".join(path.read_text() for path in lists).split())


def test_a_text_without_end_is_refused(guarded: Lake) -> None:
    with pytest.raises(UsageError, match="at most 1,000,000"):
        query(guarded, "SELECT 1 -- " + "x" * 1_000_000)


def test_some_rows_are_given_and_all_are_counted(guarded: Lake) -> None:
    with ask(guarded, "FROM range(30000) t(i)", keep=3) as answer:
        assert answer.number == 30000
        assert answer.reader.read_all()["i"].to_pylist() == [0, 1, 2]


def test_columns_of_equal_names_are_all_there(guarded: Lake) -> None:
    assert query(guarded, "SELECT 1 a, 2 a, 3 A").to_pylist() == [{"a": 1, "a_1": 2, "A": 3}]


def test_sql_of_our_own_is_read_here(guarded: Lake) -> None:
    assert read_rows(guarded, "SELECT count(*) AS n FROM events")["n"].to_pylist() == [1]


def test_a_connection_cannot_be_unlocked(tmp_path: Path) -> None:
    con = connect(filled(str(tmp_path)))
    for sql in (
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET allowed_directories = ['/']",
        "ATTACH '/tmp/x.db'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
    ):
        with pytest.raises(duckdb.Error):
            con.execute(sql)


def test_corpora_are_views_of_their_latest_snapshot(tmp_path: Path) -> None:
    lake = filled(str(tmp_path))
    manifest = publish_all(lake.url)
    assert latest_snapshots(lake.url) == {"brakes": manifest.url}
    rows = query(lake, "SELECT split, count(*) AS n FROM brakes_samples GROUP BY 1 ORDER BY 1")
    assert sum(rows["n"].to_pylist()) == 60
    assert query(lake, "FROM brakes_labels").num_rows == 60
    (Path(manifest.url) / "manifest.json").unlink()
    with pytest.raises(UsageError, match="brakes_samples"):
        query(lake, "FROM brakes_samples")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"snapshot": "../.."}', '{"snapshot": 3}'])
def test_a_bad_pointer_is_a_lake_error(tmp_path: Path, text: str) -> None:
    lake = filled(str(tmp_path))
    publish_all(lake.url)
    (tmp_path / "corpora" / "brakes" / "latest.json").write_text(text)
    with pytest.raises(LakeError, match=r"latest\.json"):
        query(lake, "SELECT 1")


def test_a_damaged_file_is_a_lake_error(tmp_path: Path) -> None:
    lake = filled(str(tmp_path))
    Path(lake.files("events")[0]).write_bytes(b"PAR1")
    with pytest.raises(LakeError, match="events"):
        query(lake, "SELECT count(*) FROM events")
