"""What is kept of a lake's files, and when a key is there twice."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from pipeline.lake.check_files import Facts, check_keys, check_table, row_hash
from pipeline.lake.intents import commit
from pipeline.lake.tables import Lake
from schemas.records import Count
from schemas.tables import TABLES
from tests.pipeline.lake.whole import run


def frames(*indices: int) -> pa.Table:
    row = {"log_id": "l", "camera": "front", "uri": "u", "pts": 0, "is_keyframe": True}
    rows = [{**row, "frame_index": k, "t_ns": k, "byte_offset": 0, "byte_size": 1} for k in indices]
    return pa.Table.from_pylist(rows, schema=TABLES["frames"].schema)


@pytest.mark.parametrize(
    ("files", "twice"),
    [
        ([[0, 1], [2, 3]], False),
        ([[0, 2], [1, 3]], False),  # compaction may cut a file anywhere
        ([[0, 2], [1, 2]], True),
        ([[0, 1], [1]], True),
        ([[0, 0]], True),
    ],
)
def test_a_key_in_two_files_is_found_and_ranges_that_overlap_are_none(
    tmp_path: str, files: list[list[int]], twice: bool
) -> None:
    lake = Lake.create(str(tmp_path))
    adds = [
        add for number, indices in enumerate(files)
        for add in lake.write("frames", frames(*indices), f"task{number}")
    ]  # fmt: skip
    commit(lake, run("ingest", "frames", Count("notes", "frames", 1)), adds)
    facts = Facts()
    problems = [*check_table(lake, "frames", facts, Counter()), *check_keys(lake, facts)]
    assert ["more than one row" in problem for problem in problems] == [True] * twice


def test_the_hash_of_a_row_is_that_of_its_sample() -> None:
    """JSON has fewer decimals and no order of keys."""
    row = {"t_ns": 1, "x_px": 0.1234567891234}
    assert row_hash("boxes", row) == row_hash("boxes", {"x_px": 0.123456789, "t_ns": 1})
    assert row_hash("boxes", row) != row_hash("tracks", row)
