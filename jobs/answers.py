"""Writes the answer of a query to stdout: as a table, CSV, JSON or Parquet."""

from __future__ import annotations

import json
import math
import sys
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from jobs.reporting import Reporter
from pipeline.queries.catalog import Answer
from schemas.errors import UsageError
from schemas.redaction import printable
from transforms.parquet import ROW_GROUP_ROWS


class Format(StrEnum):
    """The format of the output."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


SHAPES = {Format.TABLE: "text", Format.CSV: "text", Format.JSON: "json", Format.PARQUET: "arrow"}
"""What a query makes of its types for a format (pipeline.queries.shapes)."""

MAX_CELL_CHARS = 1000
"""A table's cell is cut there."""


def write_answer(answer: Answer, form: Format) -> None:
    """Writes an answer, a batch of rows at a time.

    Raises:
        UsageError: Parquet would go to a terminal, or no format that was chosen holds a value.
    """
    if form is Format.TABLE:
        _write_table(answer)
    elif form is Format.JSON:
        _write_json(answer)
    elif form is Format.CSV:
        _write_csv(answer)
    else:
        _write_parquet(answer)


def _write_table(answer: Answer) -> None:
    names = answer.reader.schema.names
    rows = [
        tuple(_cell(value) for value in row.values())
        for batch in answer.reader
        for row in batch.to_pylist()
    ]
    title = f"{answer.number} rows"
    if len(rows) < answer.number:
        title = (
            f"the first {len(rows):,} of {answer.number:,} rows; --rows 0 shows all, and "
            "--format csv, json or parquet writes them"
        )
    Reporter(as_json=False).table(title, names, rows)


def _cell(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_CELL_CHARS:
        return f"{value[:MAX_CELL_CHARS]}… ({len(value):,} characters)"
    return value


def _write_json(answer: Answer) -> None:
    """Writes a list of objects, indented as every other document of ours."""
    separator = "["
    for batch in answer.reader:
        for row in batch.to_pylist():
            text = json.dumps(_jsonable(row), indent=2, allow_nan=False).replace("\n", "\n  ")
            sys.stdout.write(f"{separator}\n  {text}")
            separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def _jsonable(value: Any) -> Any:
    """Replaces what JSON does not have: NaN and infinity are null, a decimal is a number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(part) for part in value]
    return value


def _write_csv(answer: Answer) -> None:
    sink = pa.output_stream(pa.PythonFile(sys.stdout.buffer, mode="w"))
    with pa_csv.CSVWriter(sink, answer.reader.schema) as out:
        for batch in answer.reader:
            out.write_batch(_escaped(batch) if sys.stdout.isatty() else batch)


def _escaped(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Escapes the texts of a batch for a terminal."""
    columns = [
        pa.array([None if text is None else printable(text) for text in column.to_pylist()])
        if pa.types.is_string(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _write_parquet(answer: Answer) -> None:
    if sys.stdout.isatty():
        raise UsageError("--format parquet writes bytes: redirect them to a file")
    schema = answer.reader.schema
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(sys.stdout.buffer, schema, compression="zstd") as out:
        for batch in answer.reader:
            waiting.append(batch)
            if sum(each.num_rows for each in waiting) >= ROW_GROUP_ROWS:
                out.write_table(pa.Table.from_batches(waiting, schema), ROW_GROUP_ROWS)
                waiting = []
        out.write_table(pa.Table.from_batches(waiting, schema), ROW_GROUP_ROWS)
