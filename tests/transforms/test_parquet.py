"""Rows as Parquet: equal rows give equal bytes, and the readers return what was encoded."""

from __future__ import annotations

import json

import pyarrow as pa

from schemas.tables import TABLES
from tests.pipeline.lake.rows import rejects
from transforms.parquet import statistics


def test_statistics_match_the_file_and_cut_strings_safely() -> None:
    high = "z" * 31 + "\U0010ffff" + "tail"
    table = rejects("a" * 40, high, "é")
    found = json.loads(statistics(table))
    assert found["numRecords"] == 3
    assert found["minValues"]["uri"] == "a" * 32
    assert found["maxValues"]["uri"] >= max(table["uri"].to_pylist())
    assert len(found["maxValues"]["uri"]) <= 32
    nothing = json.loads(statistics(rejects("\U0010ffff" * 40)))
    assert "uri" not in nothing["maxValues"]
    floats = TABLES["annotations"].conform(
        pa.table(
            {
                "log_id": ["l", "l"],
                "t_ns": [5, -5],
                "reason": ["a", "b"],
                "lat_deg": [1.0, float("nan")],
                "lon_deg": [2.5, None],
            }
        )
    )
    found = json.loads(statistics(floats))
    assert found["minValues"] == {"log_id": "l", "t_ns": -5, "reason": "a", "lon_deg": 2.5}
    assert found["nullCount"]["lon_deg"] == 1
    assert found["nullCount"]["camera"] == 2
