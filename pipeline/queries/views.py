"""Files as read-only views of DuckDB, and nothing else that SQL can reach.

The connection can read exactly the files of the views; it cannot load an extension, reach the
network, write a file, or change its own configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import duckdb
import pyarrow as pa

from schemas.errors import LakeError, one_line
from schemas.tables import TABLES
from transforms import sandbox
from transforms.parquet import read_files
from transforms.sandbox import identifier, literals
from transforms.storage import check_own, is_local

Views = Mapping[str, Sequence[str]]
"""The files of each view, by its name."""


def open_views(
    lake_url: str,
    views: Views,
    *,
    threads: int | None = None,
    memory: int | None = None,
    spill: str = "",
    max_spill: int = 0,
) -> duckdb.DuckDBPyConnection:
    """Opens views; the other arguments are those of transforms.sandbox.connect.

    Raises:
        LakeError: a file is gone or damaged.
    """
    con = sandbox.connect(threads, memory, spill=spill, max_spill=max_spill)
    sandbox.shut(con, (file for files in views.values() for file in files))
    for view, files in views.items():
        table = TABLES.get(view)
        schema = None if table is None else table.schema
        try:
            if not files:
                con.register(view, TABLES[view].schema.empty_table())
            elif is_local(lake_url):
                check_own(*files)
                _create_view(con, view, files, schema)
            else:  # DuckDB reads URLs only with an extension
                con.register(view, read_files(files, schema))
        except (duckdb.Error, pa.ArrowInvalid, OSError) as error:
            raise LakeError(
                f"view {view!r} of {lake_url} cannot be opened: {one_line(error)}; "
                "`fleetmill verify` lists what is damaged"
            ) from error
    sandbox.lock(con)
    return con


def _create_view(
    con: duckdb.DuckDBPyConnection, view: str, files: Iterable[str], schema: pa.Schema | None
) -> None:
    """Creates a view of Parquet files; columns of the schema that no file has are null."""
    rows = f"read_parquet([{literals(files)}], union_by_name = true)"
    columns = "*"
    if schema is not None:
        there = set(con.sql(f"FROM {rows}").columns)
        types = con.from_arrow(schema.empty_table())
        columns = ", ".join(
            identifier(name) if name in there else f"NULL::{type_} AS {identifier(name)}"
            for name, type_ in zip(types.columns, types.types, strict=True)
        )
    con.execute(f"CREATE VIEW {identifier(view)} AS SELECT {columns} FROM {rows}")  # noqa: S608
