"""The catalog: SQL of strangers over a lake, answered within limits of time and memory.

The query runs in a process of its own (pipeline.queries.child), for what DuckDB can neither
interrupt nor count. Starting it takes about half a second, which overlaps with listing the views.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.lake.tables import Lake
from pipeline.snapshots.manifest import latest_snapshots
from schemas.errors import FleetError, LakeError, UsageError, one_line
from schemas.tables import TABLES

if TYPE_CHECKING:
    import duckdb

_PARTS = ("samples", "labels")
"""The tables of a snapshot."""

TIMEOUT_S = 30.0
MEMORY = 2 * 10**9
MAX_SQL_CHARS = 1_000_000

_THREADS = 8
_SPILLED = 4
"""What does not fit in the memory may take this many times as much on the disk."""

_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from pipeline.queries.child import main
main()
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a query, and what they are called in messages.

    Args:
        timeout_s: of its time.
        memory: of DuckDB's memory and, each, of what it calls and of the answer, in bytes.
        what: the query.
        longer: how to raise the time.
        larger: how to raise the memory. "": not at all.
    """

    timeout_s: float = TIMEOUT_S
    memory: int = MEMORY
    what: str = "the query"
    longer: str = "--timeout"
    larger: str = "--memory"

    def error(self, outcome: dict[str, Any], lake_url: str) -> FleetError:
        """Words what the child says."""
        cure = "narrow it"
        if self.larger:
            cure += f", or raise {self.larger}"
        size = f"{self.memory / 1e9:g} GB"
        kind, message = outcome["error"], outcome["message"]
        if kind == "time":
            return FleetError(
                f"{self.what} was not done after {self.timeout_s:g} s: narrow it, or raise "
                f"{self.longer}"
            )
        if kind == "memory":
            return FleetError(f"{self.what} needs more memory than {size}: {cure}")
        if kind == "size":
            return FleetError(f"the answer of {self.what} is larger than {size}: {cure}")
        if kind == "lake":
            return LakeError(f"{lake_url}: {message}")
        return UsageError(f"SQL: {message}")


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query: `number` is that of all, the batches may hold fewer.

    Columns of equal names have got different ones.
    """

    number: int
    reader: pa.ipc.RecordBatchStreamReader


def query(lake: Lake, sql: str, limits: Limits = Limits()) -> pa.Table:
    """Runs one SELECT over the views of a lake and returns its rows; see `ask`."""
    with ask(lake, sql, limits) as answer:
        return answer.reader.read_all()


@contextmanager
def ask(
    lake: Lake,
    sql: str,
    limits: Limits = Limits(),
    *,
    shape: str = "arrow",
    keep: int | None = None,
) -> Iterator[Answer]:
    """Runs one SELECT over the views of a lake; its rows can be read in the `with` block.

    Args:
        lake: the lake.
        sql: the query.
        limits: its limits.
        shape: what becomes of types that Arrow or JSON do not have: pipeline.queries.shapes.
        keep: how many rows are wanted; the others are counted. None: all.

    Raises:
        UsageError: it is not one SELECT, or wrong; with DuckDB's own message, in one line.
        LakeError: a file is gone, or cannot be read.
        FleetError: it exceeds a limit; names the limit and how to raise it.
    """
    if "\0" in sql or not _is_unicode(sql):
        raise UsageError("SQL: the text holds a NUL or half a surrogate pair")
    if len(sql) > MAX_SQL_CHARS:
        raise UsageError(f"SQL: {len(sql):,} characters; at most {MAX_SQL_CHARS:,} are allowed")
    with (
        tempfile.TemporaryFile() as rows,
        tempfile.TemporaryDirectory(prefix="fleetmill-", ignore_cleanup_errors=True) as spill,
        _child(rows) as child,
    ):
        tables = named_tables(sql)
        request = {
            "lake_url": lake.url,
            "views": _list_views(lake, tables or None, corpora=not tables or _names_corpora(sql)),
            "sql": sql,
            "shape": shape,
            "keep": keep,
            "timeout_s": limits.timeout_s,
            "memory": limits.memory,
            "threads": min(os.cpu_count() or 1, _THREADS),
            "spill": spill,
            "spill_bytes": _SPILLED * limits.memory,
            "out": rows.fileno(),
        }
        outcome = _outcome(child, json.dumps(request))
        if "error" in outcome:
            raise limits.error(outcome, lake.url)
        rows.seek(0)
        yield Answer(outcome["rows"], pa.ipc.open_stream(rows))


@contextmanager
def _child(rows: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", _START, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(rows.fileno(),),
        # Arrow's allocators reserve gigabytes of addresses, which the child's limit counts.
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"},
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def _outcome(child: subprocess.Popen[str], request: str) -> dict[str, Any]:
    """Sends the request and returns what the child says, or what became of it."""
    said, complaint = child.communicate(request)
    try:
        outcome: dict[str, Any] = json.loads(said)
    except ValueError:
        if child.returncode == -signal.SIGALRM:
            return {"error": "time", "message": ""}
        if child.returncode in (-signal.SIGABRT, -signal.SIGBUS, -signal.SIGKILL, -signal.SIGSEGV):
            return {"error": "memory", "message": ""}
        last = one_line(complaint.strip().rpartition("\n")[2])
        raise FleetError(
            f"the process of the query ended with {child.returncode}: {last}"
        ) from None
    return outcome


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _list_views(
    lake: Lake, tables: Iterable[str] | None = None, *, corpora: bool = True
) -> dict[str, list[str]]:
    """Lists the views of a lake with their files.

    There is one for each table and, for the latest snapshot of each published corpus, the
    views "<name>_samples" and "<name>_labels", where every character of the corpus' name that
    is not a letter or digit becomes "_".

    Args:
        lake: the lake; the views show its pinned versions.
        tables: the tables wanted, all by default.
        corpora: whether to list the corpora.

    Raises:
        LakeError: the pointer of a corpus is damaged.
    """
    views = {table: lake.files(table) for table in (TABLES if tables is None else tables)}
    return views | _corpora(lake.url) if corpora else views


def connect(
    lake: Lake, tables: Iterable[str] | None = None, *, corpora: bool = True
) -> duckdb.DuckDBPyConnection:
    """Opens a read-only catalog over a lake, for SQL of our own; see `_list_views`.

    Raises:
        LakeError: a file is gone or damaged.
    """
    # DuckDB is slow to import, and a query of the user's runs in another process.
    from pipeline.queries.views import open_views  # noqa: PLC0415

    return open_views(lake.url, _list_views(lake, tables, corpora=corpora))


def named_tables(sql: str) -> list[str]:
    """Lists the tables whose names are in a query, and perhaps others: no more need be opened."""
    asked = sql.lower()
    return [table for table in TABLES if table in asked]


def _names_corpora(sql: str) -> bool:
    """Tells whether a query may name a view of a corpus."""
    return any(f"_{part}" in sql.lower() for part in _PARTS)


def read_rows(lake: Lake, sql: str) -> pa.Table:
    """Runs a SELECT of our own, in this process and without limits.

    It has to name each table right behind FROM or JOIN: a column may have the name of a table.

    Raises:
        LakeError: a file is gone, or cannot be read.
    """
    import duckdb  # noqa: PLC0415 - see `connect`

    named = [table for table in TABLES if re.search(rf'\b(?:FROM|JOIN)\s+"?{table}\b', sql)]
    with connect(lake, named, corpora=False) as con:
        try:
            return con.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise LakeError(
                f"lake {lake.url} cannot be read: {one_line(error)}; "
                "`fleetmill verify` lists what is damaged"
            ) from error


def _corpora(lake_url: str) -> dict[str, list[str]]:
    views = {}
    for name, folder in latest_snapshots(lake_url).items():
        stem = "".join(char if char.isalnum() else "_" for char in name)
        for part in _PARTS:
            views[f"{stem}_{part}"] = [f"{folder}/{part}.parquet"]
    return views
