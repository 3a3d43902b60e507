"""Locating: the files that hold a log, and its rows out of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.lake.intents import commit
from pipeline.lake.ledger import Done, ledger_rows
from pipeline.lake.locate import locate, rows_of
from pipeline.lake.tables import COMPACTED, Lake
from schemas.records import AddFile
from schemas.tables import TABLES
from tests.pipeline.lake.rows import annotation_rows, run_row


def write(lake: Lake, stem: str, logs: dict[str, int]) -> list[AddFile]:
    """Writes two annotations a log, from a time on, in one file of a task, and says so."""
    parts = []
    for log_id, first in logs.items():
        rows = annotation_rows(log_id, 2)
        times = pc.add(rows["t_ns"], first)
        parts.append(rows.set_column(rows.column_names.index("t_ns"), "t_ns", times))
    done = [Done(log_id, "d", "kept") for log_id in logs]
    ledger = lake.write("ledger", ledger_rows("ingest", "run", stem, done), stem)
    return lake.write("annotations", pa.concat_tables(parts), stem) + ledger


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Makes a lake with annotations of five logs, written by two tasks."""
    lake = Lake.create(str(tmp_path / "a lake"))
    adds = write(lake, "first", {"a": 0, "c": 10, "e": 20})
    adds += write(lake, "second", {"b": 30, "d": 40})
    commit(lake, run_row("r"), adds)
    return lake


def test_a_log_is_in_the_files_of_its_task(lake: Lake) -> None:
    first, second = lake.files("annotations")
    found = locate(lake, ["annotations", "signals"], ["a", "c", "d"])
    assert found["annotations"] == {"a": (first,), "c": (first,), "d": (second,)}
    assert found["signals"] == {"a": (), "c": (), "d": ()}
    assert locate(lake, ["annotations"], []) == {"annotations": {}}


def test_no_file_of_rows_is_opened(lake: Lake) -> None:
    for file in lake.files("annotations"):
        Path(file).unlink()
    assert all(locate(lake, ["annotations"], ["a", "b"])["annotations"].values())


def test_a_compacted_log_is_between_the_least_and_greatest_of_its_files(lake: Lake) -> None:
    rows = lake.read("annotations")
    low = pc.less_equal(rows["log_id"], "c")
    adds = lake.write("annotations", rows.filter(low), f"{COMPACTED}-low")
    adds += lake.write("annotations", rows.filter(pc.invert(low)), f"{COMPACTED}-rest")
    commit(lake, run_row("c"), adds, [("annotations", file) for file in lake.files("annotations")])
    more = write(lake, "third", {"bb": 50})
    commit(lake, run_row("r2"), more)
    low_file, rest, third = lake.files("annotations")
    assert locate(lake, ["annotations"], ["a", "bb", "d", "zz"])["annotations"] == {
        "a": (low_file,),
        "bb": (low_file, third),
        "d": (rest,),
        "zz": (),
    }


def test_a_log_of_an_unknown_task_may_be_wherever_its_extent_is(lake: Lake) -> None:
    first, second = lake.files("annotations")
    commit(lake, run_row("r2"), lake.write("annotations", annotation_rows("cc", 2), "other"))
    (other,) = set(lake.files("annotations")) - {first, second}
    assert locate(lake, ["annotations"], ["cc"])["annotations"] == {"cc": (first, other, second)}


def test_rows_of_logs_are_those_of_the_whole_table(lake: Lake) -> None:
    places = locate(lake, ["annotations"], ["a", "b", "c", "d", "e"])["annotations"]
    whole = lake.read("annotations")
    for logs in (["a"], ["b"], ["c", "a"], ["a", "b", "c"]):
        files = [file for log in logs for file in places[log]]
        wanted = whole.filter(pc.is_in(whole["log_id"], value_set=pa.array(logs)))
        assert rows_of("annotations", files, logs).equals(wanted)


def test_a_condition_and_columns_limit_the_rows(lake: Lake) -> None:
    files = locate(lake, ["annotations"], ["b"])["annotations"]["b"]
    late = pc.field("t_ns") >= 31
    rows = rows_of("annotations", files, ["b"], late, ["t_ns"])
    assert rows.to_pydict() == {"t_ns": [31]}


def test_no_files_are_no_rows() -> None:
    assert rows_of("annotations", [], ["a"]).equals(TABLES["annotations"].empty())
    assert rows_of("annotations", [], ["a"], columns=["t_ns"]).column_names == ["t_ns"]
