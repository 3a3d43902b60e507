"""Rows that contradict each other."""

from __future__ import annotations

import pyarrow as pa

from pipeline.lake.check_files import Facts
from pipeline.lake.check_rows import check_rows, joined
from schemas.tables import TABLES


def test_values_are_joined_without_being_mixed_up() -> None:
    rows = pa.table({"a": ["x", "xy", None, ""], "b": ["yz", "z", "z", "z"]})
    assert len(set(joined(rows, ["a", "b"]).to_pylist())) == 4


def test_a_damaged_table_is_compared_with_nothing() -> None:
    """One line says that it is damaged; a line for each row that refers to it would hide that."""
    facts = Facts()
    facts.owners["scene"].append(pa.table({"log_id": ["gone"], "camera": ["front"]}))
    problems = list(check_rows(facts))
    assert len(problems) == 2
    assert problems[0].startswith("scene: 1 log_ids are not in logs; the first is gone")
    facts.damaged |= {"logs", "videos"}
    assert list(check_rows(facts)) == []
    assert set(facts.rows("logs").column_names) <= set(TABLES["logs"].schema.names)
