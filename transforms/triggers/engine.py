"""Mining: evaluates triggers over Arrow rows of many logs at once, and returns events.

One SELECT evaluates the conditions and scores of all triggers of a table
(transforms.triggers.sql); numpy finds the islands. The events depend neither on the order of
the rows nor on which logs share a batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrays import BoolArray, IntArray
from schemas.errors import DataError, TimeLimitError, TriggerError, UsageError, one_line
from schemas.ids import digest
from schemas.records import Event
from schemas.tables import TABLES as LAKE
from schemas.times import GRID_NS, ns
from transforms.sandbox import TimeLimit
from transforms.triggers.islands import Islands, held, islands
from transforms.triggers.spec import TABLES, TIMEOUT_S, Trigger
from transforms.triggers.sql import SERIES, Query
from transforms.triggers.ticks import SCHEMA as TICKS
from transforms.triggers.ticks import ticks
from transforms.triggers.windows import Rows

__all__ = ["GAP_STEPS", "TABLES", "Miner", "check_triggers", "ticks"]

GAP_STEPS = 5
"""A gap: rows further apart than this many steps of their table are in different runs."""

BLOCK_ROWS = 250_000
"""Rows mined at once: larger blocks exceed a core's cache and are 1.5 times slower."""

BLOCK_BYTES = 512 << 20
"""Memory of the rows mined at once, with the columns that are computed from them."""

_SORT = {
    "signals": ("log_id", "t_ns"),
    "joints": ("log_id", "t_ns"),
    "scene": ("log_id", "camera", "t_ns", "source", "source_version"),
    "annotations": ("log_id", "t_ns", "reason", "camera"),
    "ticks": ("log_id", "t_ns"),
}


@dataclass(frozen=True, slots=True)
class _Compiled:
    trigger: Trigger
    when: str
    until: str | None
    score: str


class Miner:
    """The triggers of one table, compiled once per worker.

    Args:
        triggers: any triggers; those of other tables are ignored.
        table: one of TABLES.
        threads: threads of DuckDB.
        timeout_s: limit of time for each call of `mine`.

    Raises:
        UsageError: an expression is invalid; names the trigger, the key and the reason.
    """

    def __init__(
        self,
        triggers: Sequence[Trigger],
        table: str,
        threads: int = 1,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if table not in TABLES:
            raise UsageError(f"unknown table {table!r}; choose one of: {', '.join(TABLES)}")
        self._table = table
        self._schema = TICKS if table == "ticks" else LAKE[table].schema
        self._timeout_s = timeout_s
        self._query = Query(self._schema, threads)
        chosen = [trigger for trigger in triggers if trigger.table == table]
        self._compiled = [
            self._compile(trigger) for trigger in sorted(chosen, key=lambda each: each.name)
        ]
        self._columns = tuple(
            name
            for name in self._schema.names
            if name in self._query.columns or name in _SORT[table]
        )

    def _compile(self, trigger: Trigger) -> _Compiled:
        add = self._query.add
        return _Compiled(
            trigger,
            add(trigger, "when", trigger.when),
            None if trigger.until is None else add(trigger, "until", trigger.until),
            add(trigger, "score", trigger.score),
        )

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """The triggers of the table, by name."""
        return tuple(compiled.trigger for compiled in self._compiled)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that `mine` needs; others need not be read."""
        return self._columns

    def mine(self, table: pa.Table, logs: pa.Table) -> list[Event]:
        """Finds the events in rows of many logs.

        Args:
            table: rows of the table, in any order, with all rows of each log. Absent columns
                count as null.
            logs: rows of `logs`, of at least these logs.

        Returns:
            Events in the order of the `events` table.

        Raises:
            TriggerError: an expression fails on these values; names the triggers.
            TimeLimitError: it takes too long; names the triggers.
            ValueError: a row's log is not in `logs`.
        """
        if not self._compiled or not table.num_rows:
            return []
        table, log_codes, log_ids = self._sorted(table)
        sorted_logs = _select_logs(logs, log_ids)
        events = []
        with self._query.limited(self._timeout_s) as limit:
            most = min(BLOCK_ROWS, int(BLOCK_BYTES / self._query.row_bytes(table)))
            for rows in _blocks(log_codes, most):
                block = table.slice(rows.start, rows.stop - rows.start)
                events += self._mine_block(block, log_codes[rows], sorted_logs, limit)
        return sorted(events, key=lambda e: (e.log_id, e.trigger, e.start_ns, e.event_id))

    def _mine_block(
        self, table: pa.Table, log_codes: IntArray, logs: Sequence[_Log], limit: TimeLimit
    ) -> list[Event]:
        """Finds the events in sorted rows; `log_codes` int64[n] are indices into `logs`."""
        series, cameras = self._series(table, log_codes)
        t_ns = _int64(table.column("t_ns"))
        rows = Rows.of(t_ns, self._starts(t_ns, series))
        values = self._evaluate(table.append_column(SERIES, pa.array(series)), rows, limit)
        events = []
        for compiled in self._compiled:
            trigger = compiled.trigger
            on = _truth(values.column(compiled.when))
            if compiled.until is not None and on.any():
                # A null `until` ends the island: islands do not extend over missing values.
                ends = pc.fill_null(values.column(compiled.until), True)
                on = held(on, _truth(ends), rows.first)
            found = islands(
                on,
                np.asarray(values.column(compiled.score).to_numpy()),
                rows,
                series,
                for_ns=ns(trigger.for_s),
                merge_ns=ns(trigger.merge_s),
            )
            for k in range(len(found)):
                row = int(found.first[k])
                camera = cameras[series[row]] if cameras else None
                events.append(
                    _event(trigger, logs[log_codes[row]], camera, _island(t_ns, found, k))
                )
        return events

    def _sorted(self, table: pa.Table) -> tuple[pa.Table, IntArray, list[str]]:
        """Selects the needed columns and sorts the rows.

        Returns:
            The table; int64[n], each row's index into the log ids; the log ids, sorted.
        """
        columns = {
            name: table.column(name).cast(self._schema.field(name).type)
            if name in table.column_names
            else pa.nulls(table.num_rows, self._schema.field(name).type)
            for name in self._columns
        }
        table = pa.table({name: _without_nan(column) for name, column in columns.items()})
        codes, ids = _codes(table.column("log_id"))
        keys = [codes, _int64(table.column("t_ns"))]
        for name in _SORT[self._table]:
            if name not in ("log_id", "t_ns"):
                at = 1 if name == "camera" and self._table == "scene" else len(keys)
                keys.insert(at, _codes(table.column(name))[0])
        if not _ascends(keys[0], keys[1]) or len(keys) > 2:
            order = np.lexsort(keys[::-1])
            table, codes = table.take(pa.array(order)), codes[order]
        return table.combine_chunks(), codes, ids

    def _series(self, table: pa.Table, logs: IntArray) -> tuple[IntArray, list[str] | None]:
        """Numbers the series: the logs, in `scene` the cameras of the logs.

        Returns:
            int64[n], ascending; for `scene` the camera of each series, else None.
        """
        if self._table != "scene":
            return logs, None
        cameras, names = _codes(table.column("camera"))
        starts = np.flatnonzero(
            (np.diff(logs, prepend=-1) != 0) | (np.diff(cameras, prepend=-1) != 0)
        )
        lengths = np.diff(starts, append=len(logs))
        return np.repeat(np.arange(len(starts)), lengths), [names[cameras[i]] for i in starts]

    def _starts(self, t_ns: IntArray, series: IntArray) -> IntArray:
        """Returns the first rows of the runs, which start with a series or after a gap."""
        heads = np.flatnonzero(np.diff(series, prepend=-1))
        if self._table == "signals":
            longest: IntArray | int = GAP_STEPS * GRID_NS
        elif self._table in ("annotations", "ticks"):
            # Each row is a run of its own.
            longest = 0
        else:
            lengths = np.diff(heads, append=len(t_ns))
            steps = [
                int(np.median(np.diff(t_ns[a : a + n]))) if n > 1 else 0
                for a, n in zip(heads.tolist(), lengths.tolist(), strict=True)
            ]
            longest = np.repeat(GAP_STEPS * np.array(steps, np.int64), lengths)[1:]
        gaps = np.flatnonzero(np.diff(t_ns) > longest) + 1
        return np.union1d(heads, gaps)

    def _evaluate(self, table: pa.Table, rows: Rows, limit: TimeLimit) -> pa.Table:
        try:
            return self._query.run(table, rows, limit.check)
        except (duckdb.Error, MemoryError, OSError) as error:  # an OSError is of Arrow's reader
            raise self._failure(error, limit) from error

    def _failure(self, error: Exception, limit: TimeLimit) -> DataError:
        names = [compiled.trigger.name for compiled in self._compiled]
        who = f"trigger {names[0]!r}" if len(names) == 1 else f"a trigger of {', '.join(names)}"
        if limit.struck:
            return TimeLimitError(
                f"{who}: not done with these rows of {self._table} after {self._timeout_s:g} s; "
                "the next run tries it again: simplify it, or raise --trigger-timeout"
            )
        # The lines after the first show a part of the SQL, which holds all triggers.
        why = one_line(str(error).partition("\n")[0])[:300] or type(error).__name__
        return TriggerError(
            f"{who}: fails on rows of {self._table}: {why}; correct it and raise its version"
        )


def check_triggers(triggers: Sequence[Trigger]) -> None:
    """Compiles triggers.

    Raises:
        UsageError: an expression is invalid; names the trigger, the key and the reason.
    """
    for table in sorted({trigger.table for trigger in triggers}):
        Miner(triggers, table)


def _blocks(log_codes: IntArray, rows: int) -> Iterator[slice]:
    """Yields blocks of whole logs: each ends with the log that brings it to so many rows."""
    starts = np.flatnonzero(np.diff(log_codes, prepend=-1)).tolist()
    start = 0
    for end in [*starts[1:], len(log_codes)]:
        if end - start >= rows or end == len(log_codes):
            yield slice(start, end)
            start = end


@dataclass(frozen=True, slots=True)
class _Log:
    log_id: str
    drive_id: str
    duration_ns: int


def _select_logs(logs: pa.Table, ids: Sequence[str]) -> list[_Log]:
    columns = [logs.column(name).to_pylist() for name in ("log_id", "drive_id", "duration_ns")]
    by_id = {row[0]: _Log(*row) for row in zip(*columns, strict=True)}
    missing = [log_id for log_id in ids if log_id not in by_id]
    if missing:
        raise ValueError(f"rows of logs that are not in `logs`: {missing[:3]}")
    return [by_id[log_id] for log_id in ids]


@dataclass(frozen=True, slots=True)
class _Island:
    first_ns: int
    last_ns: int
    peak_ns: int
    score: float


def _island(t_ns: IntArray, found: Islands, k: int) -> _Island:
    first, last, peak = (int(t_ns[rows[k]]) for rows in (found.first, found.last, found.peak))
    return _Island(first, last, peak, float(found.score[k]))


def _event(trigger: Trigger, log: _Log, camera: str | None, island: _Island) -> Event:
    first, last, score = island.first_ns, island.last_ns, island.score
    start = min(max(first - ns(trigger.pre_s), 0), log.duration_ns)
    end = max(start, min(last + ns(trigger.post_s), log.duration_ns))
    evidence = {"peak": score, "start_ns": first, "end_ns": last}
    place = (first,) if camera is None else (first, camera)
    return Event(
        event_id=digest(
            "event", log.log_id, trigger.name, trigger.version, trigger.params_digest, *place
        ),
        log_id=log.log_id,
        drive_id=log.drive_id,
        trigger=trigger.name,
        trigger_version=trigger.version,
        params_digest=trigger.params_digest,
        start_ns=start,
        anchor_ns=min(max(island.peak_ns, start), end),
        end_ns=end,
        score=score,
        evidence=json.dumps(
            evidence if camera is None else {**evidence, "camera": camera},
            sort_keys=True,
            separators=(",", ":"),
        ),
    )


def _int64(column: pa.ChunkedArray) -> IntArray:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _truth(column: pa.ChunkedArray) -> BoolArray:
    """Converts a boolean column to bool[n]; null is false."""
    return np.asarray(pc.fill_null(column, False).to_numpy(), dtype=np.bool_)


def _codes(column: pa.ChunkedArray) -> tuple[IntArray, list[str]]:
    """Encodes a column of strings as indices into its sorted values; null becomes "".

    Returns:
        int64[n], and the distinct values, sorted.
    """
    encoded = pc.fill_null(column, "").dictionary_encode().combine_chunks()
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return rank[encoded.indices.to_numpy()], [names[i] for i in order]


def _ascends(logs: IntArray, t_ns: IntArray) -> bool:
    steps = np.diff(logs)
    return bool(((steps > 0) | ((steps == 0) & (np.diff(t_ns) >= 0))).all())


def _without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replaces NaN by null: DuckDB orders NaN above all numbers."""
    if not pa.types.is_floating(column.type):
        return column
    nan = pc.is_nan(column)
    return pc.if_else(nan, None, column) if pc.any(nan).as_py() else column
