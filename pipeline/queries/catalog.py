"""The catalog: a lake and its corpora as read-only views of DuckDB.

SQL may come from untrusted users. The connection can read exactly the files of the views,
at the versions that the lake is pinned to; it cannot load an extension, reach the network,
write a file, or change its own configuration.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import pyarrow as pa

from pipeline.lake.tables import Lake
from pipeline.snapshots.manifest import latest_snapshots
from schemas.errors import LakeError, UsageError, one_line
from schemas.tables import TABLES
from transforms.parquet import read_files
from transforms.storage import check_own, is_local

_PARTS = ("samples", "labels")
"""The tables of a snapshot."""


def connect(
    lake: Lake, tables: Iterable[str] | None = None, *, corpora: bool = True
) -> duckdb.DuckDBPyConnection:
    """Opens a read-only catalog over a lake.

    It has one view for each table and, for the latest snapshot of each published corpus,
    the views "<name>_samples" and "<name>_labels", where every character of the corpus'
    name that is not a letter or digit becomes "_".

    Args:
        lake: the lake; the views show its pinned versions.
        tables: the tables wanted, all by default.
        corpora: whether to list the corpora.

    Raises:
        LakeError: a file is gone or damaged.
    """
    views = {table: lake.files(table) for table in (TABLES if tables is None else tables)}
    schemas = {table: TABLES[table].schema for table in views}
    if corpora:
        views |= _corpora(lake.url)
    con = duckdb.connect(config={"python_enable_replacements": False})
    for view, files in views.items():
        try:
            if not files:
                con.register(view, schemas[view].empty_table())
            elif is_local(lake.url):
                check_own(*files)
                _create_view(con, view, files, schemas.get(view))
            else:  # DuckDB reads URLs only with an extension
                con.register(view, read_files(files, schemas.get(view)))
        except (duckdb.Error, pa.ArrowInvalid, OSError) as error:
            raise LakeError(
                f"view {view!r} of {lake.url} cannot be opened: {one_line(error)}; "
                "`fleetmill verify` lists what is damaged"
            ) from error
    paths = _literals(file for files in views.values() for file in files)
    con.execute(f"SET allowed_paths = [{paths}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con


def _create_view(
    con: duckdb.DuckDBPyConnection, view: str, files: Iterable[str], schema: pa.Schema | None
) -> None:
    """Creates a view of Parquet files; columns of the schema that no file has are null."""
    rows = f"read_parquet([{_literals(files)}], union_by_name = true)"
    columns = "*"
    if schema is not None:
        there = set(con.sql(f"FROM {rows}").columns)
        types = con.from_arrow(schema.empty_table())
        columns = ", ".join(
            _identifier(name) if name in there else f"NULL::{type_} AS {_identifier(name)}"
            for name, type_ in zip(types.columns, types.types, strict=True)
        )
    con.execute(f"CREATE VIEW {_identifier(view)} AS SELECT {columns} FROM {rows}")  # noqa: S608


def named_tables(sql: str) -> list[str]:
    """Lists the tables whose names are in a query, and perhaps others: no more need be opened."""
    asked = sql.lower()
    return [table for table in TABLES if table in asked]


def _names_corpora(sql: str) -> bool:
    """Tells whether a query may name a view of a corpus."""
    return any(f"_{part}" in sql.lower() for part in _PARTS)


def query(lake: Lake, sql: str) -> pa.Table:
    """Runs one SELECT over the views of a lake.

    Raises:
        UsageError: with DuckDB's own message, in one line.
        LakeError: a file is gone, or cannot be read.
    """
    if "\0" in sql or not _is_unicode(sql):
        raise UsageError("SQL: the text holds a NUL or half a surrogate pair")
    tables = named_tables(sql)
    con = connect(lake, tables or None, corpora=not tables or _names_corpora(sql))
    try:
        statements = con.extract_statements(sql)
        # EXPLAIN is refused too: EXPLAIN ANALYZE COPY could overwrite a file of a view.
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise UsageError(
                f"a query is one SELECT; this is {len(statements)} statements: "
                f"{', '.join(statement.type.name for statement in statements) or 'nothing'}"
            )
        return con.sql(statements[0]).to_arrow_table()
    except duckdb.IOException as error:
        raise LakeError(f"{lake.url}: {one_line(error)}") from error
    except duckdb.Error as error:
        raise UsageError(f"SQL: {one_line(error)}") from error
    finally:
        con.close()


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _corpora(lake_url: str) -> dict[str, list[str]]:
    views = {}
    for name, folder in latest_snapshots(lake_url).items():
        stem = "".join(char if char.isalnum() else "_" for char in name)
        for part in _PARTS:
            views[f"{stem}_{part}"] = [f"{folder}/{part}.parquet"]
    return views


def _identifier(view: str) -> str:
    return '"' + view.replace('"', '""') + '"'


def _literals(values: Iterable[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
