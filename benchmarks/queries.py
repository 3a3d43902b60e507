"""queries: time of the slowest named query, against a limit of 1 s.

FLEETMILL_BENCH_ROWS sets the rows of `signals`: 10 million by default; the limit is meant for
100 million. There are a tenth as many events, tracks and samples.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from benchmarks import Measure, interleaved
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from pipeline.queries import list_queries, load_query
from pipeline.queries.catalog import query
from schemas.records import AddFile, Count
from schemas.tables import TABLES

ROWS = int(os.environ.get("FLEETMILL_BENCH_ROWS", "10000000"))
FILE_ROWS = 2_000_000
LIMIT_S = 1.0


def column(field: pa.Field, n: int, dice: np.random.Generator) -> pa.Array:
    """Draws a column: 20 distinct texts, rising ids and times, random numbers."""
    if field.name.endswith(("event_id", "log_id")):
        return pa.array(np.char.mod("%020x", np.arange(n) // 3000))
    if pa.types.is_string(field.type):
        return pa.array([f"{field.name}-{k}" for k in range(20)]).take(
            pa.array(dice.integers(0, 20, n))
        )
    if pa.types.is_boolean(field.type):
        return pa.array(dice.integers(0, 2, n).astype(bool))
    if pa.types.is_list(field.type):
        return pa.repeat(pa.scalar([], field.type), n)
    if pa.types.is_floating(field.type):
        return pa.array(dice.uniform(0, 40, n)).cast(field.type)
    # Times grow, versions are few.
    whole = np.arange(n) if field.name.endswith("_ns") else dice.integers(1, 4, n)
    return pa.array(whole).cast(field.type)


def fill(lake: Lake) -> None:
    """Fills the tables that the named queries read."""
    dice = np.random.default_rng(0)
    wanted = {"signals": ROWS, "logs": ROWS // 3000, "rejects": ROWS // 1000}
    wanted |= dict.fromkeys(("events", "tracks", "samples"), ROWS // 10)
    adds: list[AddFile] = []
    for name, rows in wanted.items():
        schema = TABLES[name].schema
        fields = [f for f in schema if not f.nullable or f.name == "speed_mps"]
        for first in range(0, rows, FILE_ROWS):
            n = min(FILE_ROWS, rows - first)
            table = pa.table({field.name: column(field, n, dice) for field in fields})
            adds += lake.write(name, table, f"{name}-{first}")
    commit(lake, RunRow("r", "ingest", "d", "{}", 1, (Count("ingest", "logs", 1),)), adds)


def measure() -> Iterator[Measure]:
    """Runs every named query, opening the catalog anew each time as a first query would."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.create(folder)
        fill(lake)
        texts = {name: load_query(name) for name in list_queries()}

        def asker(sql: str) -> Callable[[], object]:
            return lambda: query(lake, sql)

        actions = [asker(sql) for sql in texts.values()]
        times = dict(zip(texts, interleaved(actions, repeats=3), strict=True))
    slowest = max(times, key=lambda name: times[name])
    yield Measure(
        "queries",
        times[slowest],
        LIMIT_S,
        "the limit",
        "s",
        f"{ROWS:,} rows of signals, {ROWS // 10:,} events; slowest: {slowest}",
        lower_is_better=True,
    )
