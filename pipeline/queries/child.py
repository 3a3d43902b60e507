"""The process that runs one query of a stranger.

A call of one of DuckDB's functions cannot be interrupted, and what it allocates is not in
DuckDB's limit of memory. So a query has a process of its own, which the system ends for certain:
at the limit of its memory by a failing allocation, at the end of its time by a signal.

The request is a JSON document on stdin, the outcome one on stdout. The rows are written to an
open file, as a stream of Arrow's batches.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.queries.shapes import Shape, target, unique
from pipeline.queries.views import open_views
from schemas.errors import LakeError, UsageError, one_line
from transforms.sandbox import TimeLimit

GRACE_S = 1.0
"""How long an interruption may take, before the system ends the process."""

_SLACK = 256 << 20
"""Memory of the process beside DuckDB's limit, in bytes: its code, and batches of rows."""

_STATM = Path("/proc/self/statm")
_BATCH_ROWS = 10_000
MAX_BATCH = 64 << 20
"""Bytes of rows that are converted at a time, and of the largest row that can be printed."""

_MAX_MESSAGE = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    `views` are the files of each view, `keep` is the number of rows to return (None: all),
    `memory` and `spill_bytes` are bytes, `out` is the descriptor of the file for the rows.
    """

    lake_url: str
    views: dict[str, list[str]]
    sql: str
    shape: Shape
    keep: int | None
    timeout_s: float
    memory: int
    threads: int
    spill: str
    spill_bytes: int
    out: int


class _SizeError(Exception):
    """The answer is larger than the limit of memory."""


def main() -> None:
    """Runs the query that stdin describes."""
    # Ctrl-C reaches the whole group of processes; the other one says so.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    table = json.load(sys.stdin)
    request = Request(**{**table, "shape": Shape(table["shape"])})
    sys.stdout.write(json.dumps(outcome(request)))
    sys.stdout.flush()
    os._exit(0)  # threads of Arrow and DuckDB may still run


def outcome(request: Request) -> dict[str, Any]:
    """Runs a query and says what came of it.

    Returns:
        `rows`, the number of all rows; or `error` (usage, lake, time, memory or size) and its
        `message`.
    """
    try:
        con = open_views(
            request.lake_url,
            request.views,
            threads=request.threads,
            memory=request.memory,
            spill=request.spill,
            max_spill=request.spill_bytes,
        )
    except LakeError as error:
        return {"error": "lake", "message": str(error)}
    _limit_memory(request.memory)
    signal.setitimer(signal.ITIMER_REAL, request.timeout_s + GRACE_S)
    limit = TimeLimit(con, request.timeout_s)
    try:
        with limit:
            return {"rows": _run(con, request)}
    except Exception as error:  # noqa: BLE001 - whatever a stranger's SQL leads to is said in one line
        return _failure(error, limit)


def _failure(error: Exception, limit: TimeLimit) -> dict[str, str]:
    kind = "usage"
    message = one_line(error)[:_MAX_MESSAGE] or type(error).__name__
    if limit.struck:
        kind = "time"
    elif isinstance(error, _SizeError):
        kind = "size"
    # An error while rows are fetched comes through Arrow, as an OSError with DuckDB's text.
    elif isinstance(error, duckdb.OutOfMemoryException | MemoryError) or (
        "Out of Memory Error" in message or "bad_alloc" in message
    ):
        kind = "memory"
    elif isinstance(error, duckdb.IOException) or message.startswith("IO Error"):
        kind = "lake"
    return {"error": kind, "message": message}


def _limit_memory(memory: int) -> None:
    """Lets allocations fail beyond the limit, counted from what the process has now."""
    if _STATM.exists():  # Linux; other systems have DuckDB's own limit alone
        pages = int(_STATM.read_text("ascii").split()[5])
        most = pages * resource.getpagesize() + memory + _SLACK
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _run(con: duckdb.DuckDBPyConnection, request: Request) -> int:
    """Writes the answer; returns the number of rows, of which only some may be written."""
    statements = con.extract_statements(request.sql)
    # EXPLAIN is refused too: EXPLAIN ANALYZE COPY could overwrite a file of a view.
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise UsageError(
            f"a query is one SELECT; this is {len(statements)} statements: "
            f"{', '.join(statement.type.name for statement in statements) or 'nothing'}"
        )
    answer = con.sql(statements[0])
    casts = [target(type_, request.shape) for type_ in answer.types]
    names = unique(answer.columns)
    if any(casts):
        columns = (
            f"CAST(#{at} AS {cast})" if cast else f"#{at}" for at, cast in enumerate(casts, 1)
        )
        answer = answer.project(", ".join(columns))
    reader = answer.to_arrow_reader(_BATCH_ROWS)
    schema = pa.schema(
        [field.with_name(name) for field, name in zip(reader.schema, names, strict=True)]
    )
    rows = written = 0
    with os.fdopen(request.out, "wb") as file, pa.ipc.new_stream(file, schema) as out:
        for batch in reader:
            keep = batch if request.keep is None else batch.slice(0, max(request.keep - rows, 0))
            rows += batch.num_rows
            for piece in _pieces(keep):
                written += piece.nbytes
                if written > request.memory:
                    raise _SizeError
                if piece.nbytes > MAX_BATCH and request.shape is not Shape.ARROW:
                    raise UsageError(
                        f"a row of {piece.nbytes:,} bytes is too large to print; --format parquet "
                        "writes it"
                    )
                out.write_batch(pa.RecordBatch.from_arrays(piece.columns, schema=schema))
    return rows


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a batch in pieces of at most MAX_BATCH bytes, or of one row."""
    if batch.nbytes <= MAX_BATCH or batch.num_rows <= 1:
        if batch.num_rows:
            yield batch
        return
    middle = batch.num_rows // 2
    yield from _pieces(batch.slice(0, middle))
    yield from _pieces(batch.slice(middle))
