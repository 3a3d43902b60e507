"""Locating: the files that hold a log, and its rows out of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.lake.intents import commit
from pipeline.lake.locate import locate, rows_of
from pipeline.lake.tables import Lake
from schemas.tables import TABLES
from tests.pipeline.lake.rows import annotation_rows, run_row


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Makes a lake with annotations: logs a and b in one file, b and c in another."""
    lake = Lake.create(str(tmp_path / "a lake"))
    adds = []
    for stem, logs in (("first", ("a", "b")), ("second", ("c", "b"))):
        rows = pa.concat_tables([annotation_rows(log, 3 if log == "b" else 2) for log in logs])
        if stem == "second":
            later = pc.add(rows["t_ns"], 100)
            rows = rows.set_column(rows.column_names.index("t_ns"), "t_ns", later)
        adds += lake.write("annotations", rows, stem)
    commit(lake, run_row("r"), adds)
    return lake


def test_every_log_is_found_in_the_files_that_hold_it(lake: Lake) -> None:
    first, second = lake.files("annotations")
    assert locate(lake, "annotations") == {"a": (first,), "b": (first, second), "c": (second,)}
    assert locate(lake, "signals") == {}


def test_rows_of_logs_are_those_of_the_whole_table(lake: Lake) -> None:
    places, whole = locate(lake, "annotations"), lake.read("annotations")
    for logs in (["a"], ["b"], ["c", "a"], ["a", "b", "c"]):
        files = [file for log in logs for file in places[log]]
        wanted = whole.filter(pc.is_in(whole["log_id"], value_set=pa.array(logs)))
        assert rows_of("annotations", files, logs).equals(wanted)
    assert rows_of("annotations", places["b"], ["b"])["t_ns"].to_pylist() == [
        *(0, 1, 2),
        *(100, 101, 102),
    ]


def test_a_condition_and_columns_limit_the_rows(lake: Lake) -> None:
    files = locate(lake, "annotations")["b"]
    late = pc.field("t_ns") >= 101
    rows = rows_of("annotations", files, ["b"], late, ["t_ns"])
    assert rows.to_pydict() == {"t_ns": [101, 102]}


def test_no_files_are_no_rows() -> None:
    assert rows_of("annotations", [], ["a"]).equals(TABLES["annotations"].empty())
    assert rows_of("annotations", [], ["a"], columns=["t_ns"]).column_names == ["t_ns"]
