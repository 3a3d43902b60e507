"""The files of a task: names, sizes, and that they are not visible yet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.graph.stage import Output, Stage, reject_rows, write_output
from pipeline.lake.ledger import Done
from pipeline.lake.tables import Lake
from schemas.records import Count, Reject
from schemas.tables import TABLES

REJECT = Reject("/a.mp4", "s", "corrupt", "not a video", "log")


def output() -> Output:
    rows = pa.table({"log_id": ["a", "b"], "t_ns": [1, 2], "reason": ["x", "y"]})
    return Output(
        tables={"annotations": rows, "events": TABLES["events"].empty()},
        blobs={"packs/key.tar": 7},
        done=[Done("a", "d", "kept"), Done("b", "d", "rejected")],
        rejects=[REJECT],
        counts=[Count("s", "logs", kept=1, rejected=1)],
        detail={"a": 1},
    )


def test_files_are_named_by_the_task_and_equal_if_written_again(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    first = write_output(lake, "r", "s", "key", output(), next_page="key.next")
    assert write_output(lake, "r", "s", "key", output(), next_page="key.next") == first
    assert sorted(add.table for add in first.adds) == ["annotations", "ledger", "rejects"]
    assert all(add.path.startswith("key-") for add in first.adds)
    for name, size in first.files():
        if name != "packs/key.tar":
            assert (tmp_path / name).stat().st_size == size
    assert (first.next, first.detail, first.counts) == (
        "key.next", {"a": 1}, (Count("s", "logs", 1, 0, 1),),
    )  # fmt: skip
    assert lake.read("annotations").num_rows == 0, "nothing is committed"


def test_the_ledger_and_the_rejects_name_the_run(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    adds = {add.table: add for add in write_output(lake, "r", "s", "key", output()).adds}
    ledger = pa.parquet.read_table(tmp_path / "tables" / "ledger" / adds["ledger"].path)
    assert ledger.select(["stage", "subject", "stage_digest", "outcome"]).to_pylist() == [
        {"stage": "s", "subject": "a", "stage_digest": "d", "outcome": "kept"},
        {"stage": "s", "subject": "b", "stage_digest": "d", "outcome": "rejected"},
    ]
    assert set(ledger["run_id"].to_pylist()) == {"r"}
    (row,) = reject_rows([REJECT], "r").to_pylist()
    assert (row["uri"], row["reason"], row["run_id"]) == ("/a.mp4", "corrupt", "r")


def test_a_stage_has_to_define_process() -> None:
    with pytest.raises(NotImplementedError):
        Stage().process(None)
