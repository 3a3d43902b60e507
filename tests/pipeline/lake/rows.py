"""Small rows and runs for the tests of the lake."""

from __future__ import annotations

import pyarrow as pa

from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from schemas.ids import digest
from schemas.records import Count
from schemas.tables import TABLES


def rejects(*uris: str, run_id: str = "r") -> pa.Table:
    """Makes one row a URI."""
    names = TABLES["rejects"].schema.names
    rows = [dict.fromkeys(names, "x") | {"uri": uri, "run_id": run_id} for uri in uris]
    return pa.Table.from_pylist(rows, schema=TABLES["rejects"].schema)


def annotation_rows(log_id: str, n: int) -> pa.Table:
    """Makes n annotations of a log."""
    rows = [{"log_id": log_id, "t_ns": k, "reason": "honk"} for k in range(n)]
    return pa.Table.from_pylist(rows, schema=TABLES["annotations"].schema)


def run_row(run_id: str) -> RunRow:
    """Makes a run with a balance."""
    return RunRow(run_id, "ingest", digest("{}"), "{}", 1, (Count("ingest", "logs", kept=1),))


def one_row(table: str) -> pa.Table:
    """Makes a row of a table: ones, empty lists, nulls where they may be."""
    columns = []
    for field in TABLES[table].schema:
        value = pa.scalar(None, field.type)
        if not field.nullable:
            value = pa.scalar([] if pa.types.is_nested(field.type) else 1).cast(field.type)
        columns.append(pa.repeat(value, 1))
    return pa.Table.from_arrays(columns, schema=TABLES[table].schema)


def filled(url: str) -> Lake:
    """Makes a lake with one row in every table."""
    lake = Lake.create(url)
    tables = [name for name in TABLES if name != "runs"]
    adds = [add for name in tables for add in lake.write(name, one_row(name), "u")]
    commit(lake, RunRow("r", "mine", "d", "{}", 1, (Count("mine", "logs", 1, 2, 3),)), adds)
    return lake
