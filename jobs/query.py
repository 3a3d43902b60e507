"""`fleetmill query`: answers SQL over the lake."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import pyarrow as pa
import pyarrow.csv as pa_csv
import typer

from jobs.options import AsJson, LakeUrl
from jobs.reporting import Reporter
from pipeline.lake.tables import Lake
from pipeline.queries import load_query
from pipeline.queries.catalog import query as ask
from schemas.errors import UsageError
from transforms.parquet import encode


class Format(StrEnum):
    """The format of the output."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def query(
    sql: Annotated[
        str | None,
        typer.Argument(metavar="SQL", show_default=False, help="One SELECT over the views."),
    ] = None,
    *,
    lake: LakeUrl,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="A named query instead; see `fleetmill list queries`."
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the flag is --format
        Format, typer.Option("--format", help="The format of the output.")
    ] = Format.TABLE,
    json: AsJson = False,
) -> None:
    """Ask the lake in SQL.

    Every table of the lake is a view of its name, every corpus NAME the views
    NAME_samples and NAME_labels. Only these can be read, and nothing can be written.

        fleetmill query --lake L "SELECT trigger, count(*) FROM events GROUP BY 1"
    """
    if (sql is None) == (name is None):
        raise UsageError("give either one SQL statement or --name")
    rows = ask(Lake.open(lake), load_query(name) if name is not None else sql or "")
    write_rows(rows, Format.JSON if json else format)


def write_rows(rows: pa.Table, format: Format) -> None:  # noqa: A002 - as the flag
    """Writes a result to stdout."""
    if format is Format.TABLE:
        reporter = Reporter(as_json=False)
        values = [tuple(row.values()) for row in rows.to_pylist()]
        reporter.table(f"{rows.num_rows} rows", rows.column_names, values)
    elif format is Format.JSON:
        Reporter(as_json=True).document(rows.to_pylist())
    elif format is Format.CSV:
        sink = pa.output_stream(pa.PythonFile(sys.stdout.buffer, mode="w"))
        pa_csv.write_csv(_flat(rows), sink)
    else:
        sys.stdout.buffer.write(encode(rows))


def _flat(rows: pa.Table) -> pa.Table:
    """Converts nested columns, which CSV cannot hold, to text."""
    for index, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type):
            text = pa.array([str(value) for value in rows.column(index).to_pylist()])
            rows = rows.set_column(index, field.name, text)
    return rows
