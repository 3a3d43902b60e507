"""Finds runs: the table `runs` has a row for each, and years of them in many small files.

Which file may hold a run is in the Delta log, so that no other file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.tables import NUMBER_CHARS, Lake
from transforms.parquet import read


def find_run(lake: Lake, run_id: str) -> Mapping[str, Any] | None:
    """Returns the row of a run, None if it is not committed at the lake's pinned versions."""
    if lake.last_run().get("run_id") == run_id:
        return lake.last_run()
    files = lake.extents("runs", "run_id")
    # Files of lakes of format 1 have no statistics.
    may_hold = pc.fill_null(
        pc.and_(pc.less_equal(files["least"], run_id), pc.greater_equal(files["most"], run_id)),
        True,
    )
    for path in files.filter(may_hold)["path"].to_pylist():
        for row in read(f"{lake.table_url('runs')}/{path}").to_pylist():
            if row["run_id"] == run_id:
                found: dict[str, Any] = row
                return found
    return None


def numbered(path: str, rows: pa.Table) -> pa.Table:
    """Completes the column `number` of a file's rows; in format 1 only its name has the number."""
    number = pa.repeat(pa.scalar(int(path[:NUMBER_CHARS]), pa.int64()), rows.num_rows)
    if "number" not in rows.column_names:
        return rows.append_column("number", number)
    at = rows.column_names.index("number")
    return rows.set_column(at, "number", pc.coalesce(rows["number"], number))
