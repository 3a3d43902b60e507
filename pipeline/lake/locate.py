"""Finds a log's rows: which files of a table hold them, and the rows themselves.

A worker that needs one log's frames must not open every file of the table, and the driver
must not ship rows. So the driver reads only the `log_id` column, once a table, and a task
lists the few files that hold its logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.tables import Lake
from schemas.tables import TABLES
from transforms.parquet import read_files

Places = Mapping[str, tuple[str, ...]]
"""log_id to the files that hold its rows, sorted."""


def locate(lake: Lake, table: str) -> Places:
    """Maps every log of a table to the files that hold its rows."""
    places: dict[str, list[str]] = {}
    for file in lake.files(table):
        rows = read_files([file], TABLES[table].schema, ["log_id"])
        for log_id in pc.unique(rows["log_id"]).to_pylist():
            places.setdefault(log_id, []).append(file)
    return {log_id: tuple(found) for log_id, found in places.items()}


def rows_of(
    table: str,
    files: Iterable[str],
    log_ids: Sequence[str],
    where: pc.Expression | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Reads the rows of some logs from the files that hold them, in the table's order.

    Args:
        table: the table.
        files: its files, from `locate`.
        log_ids: the logs.
        where: a further condition on the rows.
        columns: the columns wanted, all by default.
    """
    distinct = sorted(set(files))
    wanted = TABLES[table].schema.names if columns is None else list(columns)
    if not distinct:
        return TABLES[table].empty().select(wanted)
    condition = pc.field("log_id").isin(list(log_ids))
    if where is not None:
        condition = condition & where
    order = TABLES[table].order
    needed = list(dict.fromkeys([*wanted, *order]))
    rows = read_files(distinct, TABLES[table].schema, needed, condition)
    return rows.sort_by([(name, "ascending") for name in order]).select(wanted)
