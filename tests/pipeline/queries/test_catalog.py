"""The catalog: SQL reads the views of the lake, and nothing else on the machine."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import connect, query
from pipeline.snapshots.manifest import latest_snapshots
from schemas.errors import LakeError, UsageError
from schemas.tables import TABLES
from tests.pipeline.lake.rows import filled, one_row
from tests.pipeline.snapshots.written import content, publish_all


def test_views_are_the_tables_at_their_pinned_versions(tmp_path: Path) -> None:
    lake = filled(str(tmp_path / 'it\'s a "lake"'))
    for name in TABLES:
        rows = query(lake, f'SELECT * FROM "{name}"')  # noqa: S608 - our own names
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
