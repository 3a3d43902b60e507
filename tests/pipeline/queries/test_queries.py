"""Named queries: each runs on any lake, and answers what its first line says."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from pipeline.queries import list_queries, load_query
from pipeline.queries.catalog import query
from schemas.errors import UsageError
from tests.pipeline.lake.rows import filled


def test_queries_are_the_files_of_the_folder() -> None:
    folder = Path(str(resources.files("pipeline.queries")))
    assert list_queries() == sorted(path.stem for path in folder.glob("*.sql"))
    assert load_query("class_counts") == (folder / "class_counts.sql").read_text("utf-8")


@pytest.mark.parametrize("name", list_queries())
def test_named_queries_run_on_empty_and_on_filled_lakes(tmp_path: Path, name: str) -> None:
    sql = load_query(name)
    assert sql.startswith("-- ")
    empty = query(Lake.create(str(tmp_path / "empty")), sql)
    some = query(filled(str(tmp_path / "filled")), sql)
    assert empty.num_rows == 0
    assert some.num_rows == (0 if name == "speed_histogram" else 1)
    assert empty.column_names == some.column_names


def test_named_queries_say_what_was_put_in(tmp_path: Path) -> None:
    lake = filled(str(tmp_path))
    (row,) = query(lake, load_query("balance_by_run")).to_pylist()
    assert (row["kept"], row["filtered"], row["rejected"], row["total"]) == (1, 2, 3, 6)
    speeds = pa.table({"log_id": ["a"] * 4, "t_ns": range(4), "speed_mps": [0.0, 4.9, 12.0, None]})
    commit(lake, RunRow("s", "ingest", "d", "{}", 1), lake.write("signals", speeds, "s"))
    rows = query(lake, load_query("speed_histogram")).to_pylist()
    assert [row["from_mps"] for row in rows] == [0, 10]
    assert [round(row["hours"] * 3600 / 0.02) for row in rows] == [2, 1]


def test_unknown_query_lists_the_choices() -> None:
    with pytest.raises(UsageError, match="class_counts"):
        load_query("../catalog")
