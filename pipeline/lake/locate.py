"""Finds the rows of a log or an event: which files of a table hold them, and the rows themselves.

A worker that needs one log's frames must not open every file of the table. Where they are
follows from the ledger, which says which task wrote a log, and from the Delta log, which lists
files by the task that wrote them: no file of rows is opened to find out. Compacted files are
sorted by log, so that their least and greatest log say which of them to look into.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence, Set

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.tables import COMPACTED, Lake
from schemas.tables import TABLES
from transforms.parquet import read_files

Places = Mapping[str, tuple[str, ...]]
"""The id of a log or an event to the files that may hold its rows, sorted."""

_WRITERS = {"scene": "sweep"}
"""By table: the stage that writes it, if it is not ingest."""


def locate(lake: Lake, tables: Iterable[str], log_ids: Sequence[str]) -> dict[str, Places]:
    """Finds the files that may hold the rows of some logs, by table."""
    if not log_ids:
        return {table: {} for table in tables}
    stages = pc.field("stage").isin(["ingest", *_WRITERS.values()])
    columns = ["stage", "subject", "task"]
    written = lake.scan("ledger", columns, stages & pc.field("subject").isin(log_ids))
    # A log that another tool ingested may be in any file; one that is not swept is in none.
    tasks: dict[str, dict[str, set[str | None]]] = {"ingest": {one: {None} for one in log_ids}}
    for stage, log_id, task in zip(*(written[c].to_pylist() for c in columns), strict=True):
        tasks.setdefault(stage, {})[log_id] = {task}
    return {
        table: _places(lake, table, tasks.get(_WRITERS.get(table, "ingest"), {}))
        for table in tables
    }


def locate_events(lake: Lake, tables: Iterable[str], event_ids: Sequence[str]) -> dict[str, Places]:
    """Finds the files that may hold what labelling wrote of some events, by table and event."""
    wanted = list(tables)
    if not wanted or not event_ids:
        return {table: {} for table in wanted}
    labelled = (pc.field("stage") == "label") & pc.field("subject").isin(event_ids)
    columns = ["subject", "task"]
    written = lake.scan("ledger", columns, labelled)
    tasks: dict[str, set[str | None]] = {}
    for event_id, task in zip(*(written[c].to_pylist() for c in columns), strict=True):
        tasks.setdefault(event_id, set()).add(task)
    return {table: _places(lake, table, tasks) for table in wanted}


def _places(lake: Lake, table: str, tasks: Mapping[str, Set[str | None]]) -> Places:
    """Finds the files of a table by id, given the tasks that wrote rows of each.

    A lake of format 1 does not know the task: every file may hold the id whose extent does.
    """
    files = lake.extents(table, TABLES[table].order[0])
    every = {task for found in tasks.values() for task in found}
    stems = pa.array(sorted(task for task in every if task is not None), pa.string())
    of_task: dict[str | None, list[str]] = {}
    named = files.filter(pc.is_in(files["stem"], value_set=stems))
    for path, stem in zip(named["path"].to_pylist(), named["stem"].to_pylist(), strict=True):
        of_task.setdefault(stem, []).append(path)
    places = {
        id_: [path for task in found for path in of_task.get(task, ())]
        for id_, found in tasks.items()
    }
    compacted = files.filter(pc.starts_with(files["stem"], COMPACTED))
    _add_by_extent(places, sorted(tasks), compacted)
    unknown = sorted(id_ for id_, found in tasks.items() if None in found)
    if unknown:
        _add_by_extent(places, unknown, files)
    folder = lake.table_url(table)
    return {
        id_: tuple(sorted({f"{folder}/{path}" for path in paths})) for id_, paths in places.items()
    }


def _add_by_extent(places: Mapping[str, list[str]], ids: list[str], files: pa.Table) -> None:
    """Adds to each id the files between whose least and greatest id it is."""
    columns = (files[name].to_pylist() for name in ("path", "least", "most"))
    for path, least, most in zip(*columns, strict=True):
        first = 0 if least is None else bisect_left(ids, least)
        last = len(ids) if most is None else bisect_right(ids, most)
        for id_ in ids[first:last]:
            places[id_].append(path)


def rows_of(
    table: str,
    files: Iterable[str],
    ids: Sequence[str],
    where: pc.Expression | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Reads the rows of some logs or events from the files that hold them, in the table's order.

    Args:
        table: the table.
        files: its files, from `locate` or `locate_events`.
        ids: the logs, or the events.
        where: a further condition on the rows.
        columns: the columns wanted, all by default.
    """
    distinct = sorted(set(files))
    wanted = TABLES[table].schema.names if columns is None else list(columns)
    if not distinct:
        return TABLES[table].empty().select(wanted)
    condition = pc.field(TABLES[table].order[0]).isin(list(ids))
    if where is not None:
        condition = condition & where
    order = TABLES[table].order
    needed = list(dict.fromkeys([*wanted, *order]))
    rows = read_files(distinct, TABLES[table].schema, needed, condition)
    return rows.sort_by([(name, "ascending") for name in order]).select(wanted)
