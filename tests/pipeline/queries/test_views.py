"""Views over files: what a connection can read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.queries.views import open_views
from schemas.errors import LakeError
from schemas.tables import TABLES


def written(path: Path, **columns: list[object]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_a_view_has_the_columns_of_its_table_and_any_other_those_of_its_files(
    tmp_path: Path,
) -> None:
    logs = written(tmp_path / "it's a log", log_id=["a"])
    extra = written(tmp_path / "extra", x=[1, 2])
    con = open_views(str(tmp_path), {"logs": [logs], 'ex"tra': [extra], "events": []})
    assert con.sql("FROM logs").columns == TABLES["logs"].schema.names
    assert con.sql("SELECT log_id, uri FROM logs").fetchall() == [("a", None)]
    assert con.sql('SELECT sum(x) FROM "ex""tra"').fetchall() == [(3,)]
    assert con.sql("FROM events").fetchall() == []


def test_files_beside_those_of_the_views_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".tmp").mkdir()
    seen = written(tmp_path / "seen", x=[1])
    hidden = [written(tmp_path / name, x=[1]) for name in ("hidden", ".tmp/hidden")]
    con = open_views(str(tmp_path), {"seen": [seen]}, spill=str(tmp_path / "spill"), max_spill=1)
    assert con.sql(f"FROM read_parquet('{seen}')").fetchall() == [(1,)]
    for path in (*hidden, "hidden", ".tmp/hidden", ".tmp/*"):
        with pytest.raises(duckdb.Error):
            con.sql(f"FROM read_blob('{path}')").fetchall()
        with pytest.raises(duckdb.Error):
            con.sql(f"FROM parquet_metadata('{path}')").fetchall()
    for sql in ("SET threads = 1", "SET temp_directory = '.tmp'", f"COPY seen TO '{seen}'"):
        with pytest.raises(duckdb.Error):
            con.execute(sql)


def test_a_file_that_is_gone_or_damaged_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"PAR1")
    for name in ("bad", "gone"):
        with pytest.raises(LakeError, match=r"^view 'logs' of [^\n]*fleetmill verify[^\n]*$"):
            open_views(str(tmp_path), {"logs": [str(tmp_path / name)]})
