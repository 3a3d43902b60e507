"""Repairs a lake in which two runs did the same subject: removes what the later one added.

A fleetmill before format 2 of the lake committed both of two overlapping runs. Which one came
later is decided by their numbers, never by a clock. Rows are found by the ledger: a file's
name starts with the task that wrote it, and the ledger has the task's subjects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.intents import RunRow, commit
from pipeline.lake.ledger import answer_subjects, joined, parted
from pipeline.lake.runs import numbered
from pipeline.lake.tables import COMPACTED, Lake, Remove, stem_of
from schemas.ids import canonical, digest
from schemas.records import AddFile, Count
from transforms.parquet import read

JOB = "repair"
ONCE = ("ingest", "sweep", "review_pull")
"""The stages that are done with a subject once, whatever the digest."""

_BY_LOG: Mapping[str, tuple[str, ...]] = {
    "ingest": (
        "logs", "videos", "frames", "signals", "joints", "channels", "annotations",
    ),
    "sweep": ("scene",),
    "mine": ("events",),
}  # fmt: skip
_BY_EVENT = ("privacy", "views", "detections", "boxes", "tracks", "ego_path", "parts", "samples")
_FRAMES = {
    "parts": ("part", "clip", "source_digest"),
    "samples": ("payload", "sample", "spec_digest"),
}
"""Of frames by table: the column that says so, and the kind and digest in the ledger's subject."""


@dataclass(frozen=True, slots=True, order=True)
class _Entry:
    """One part of a row of the ledger, in the order in which runs were committed."""

    number: int
    url: str
    row: int
    stage: str
    subject: str
    stage_digest: str
    run_id: str
    task: str


@dataclass(slots=True)
class _Plan:
    """The rows to keep of each file that changes: by table and URL, a mask or new rows."""

    files: dict[tuple[str, str], pa.Table] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def filter(self, table: str, url: str, drop: Any) -> None:
        """Drops rows, given as a boolean for each row of the file as it is planned so far."""
        rows = self.rows(table, url)
        dropped = pc.sum(drop).as_py() or 0
        if dropped:
            self.files[table, url] = rows.filter(pc.invert(drop))
            self.removed[table] += dropped

    def rows(self, table: str, url: str) -> pa.Table:
        """Returns the rows of a file as they are planned so far."""
        return self.files[table, url] if (table, url) in self.files else read(url)


def repair(lake: Lake) -> dict[str, int]:
    """Removes the later twin of everything that was done twice, as one run.

    A second call finds nothing left, also if the first one was killed.

    Args:
        lake: the lake; queued runs are rolled forward first.

    Returns:
        The number of rows removed, by table; empty if nothing was there twice.

    Raises:
        LakeError: a table cannot be read.
    """
    removed: dict[str, int] = {}

    def revise(lake: Lake) -> tuple[RunRow, Sequence[AddFile], Sequence[Remove]]:
        plan = _plan(lake)
        removed.clear()
        removed.update(plan.removed)
        adds = [
            add
            for (table, url), rows in plan.files.items()
            for add in lake.write(table, rows, stem_of(url))
        ]
        return _run(plan), adds, sorted(plan.files)

    committed = commit(Lake(lake.url), _run(_Plan()), revise=revise)
    return dict(sorted(removed.items())) if committed else {}


def _run(plan: _Plan) -> RunRow:
    config = canonical({"files": [list(place) for place in sorted(plan.files)]}).decode()
    kept: dict[str, int] = defaultdict(int)
    for (table, _), rows in plan.files.items():
        kept[table] += rows.num_rows
    counts = tuple(
        Count(JOB, f"rows of {table}", kept=kept[table], filtered=number)
        for table, number in sorted(plan.removed.items())
    )
    return RunRow(digest(JOB, config), JOB, digest(config), config, 0, counts)


def _plan(lake: Lake) -> _Plan:
    """Finds the rows of every subject that two runs did, and drops those of the later one."""
    plan = _Plan()
    entries = _doubled(lake)
    by_key: dict[tuple[str, str, str], list[_Entry]] = defaultdict(list)
    for entry in entries:
        part = "" if entry.stage in ONCE else entry.stage_digest
        by_key[entry.stage, entry.subject, part].append(entry)
    twins = [(group[0], twin) for group in by_key.values() for twin in group[1:]]
    if not twins:
        return plan
    files = {table: lake.files(table) for table in (*_tables(), "rejects")}
    often = _ids_there_twice(lake)
    for first, twin in twins:
        for table in (*_BY_LOG.get(twin.stage, ()), *_other_tables(twin.stage), "rejects"):
            for url in _files_of(files[table], first, twin):
                plan.filter(table, url, _drop(table, plan.rows(table, url), twin, often))
    _drop_from_ledger(plan, [twin for _, twin in twins])
    _drop_other_rejects(lake, plan, [twin for _, twin in twins], files["rejects"])
    return plan


def _tables() -> Iterator[str]:
    for tables in _BY_LOG.values():
        yield from tables
    yield from _BY_EVENT
    yield "verdicts"


def _other_tables(stage: str) -> tuple[str, ...]:
    tables = {"label": _BY_EVENT, "repack": ("parts", "samples"), "review_pull": ("verdicts",)}
    return tables.get(stage, ())


def _doubled(lake: Lake) -> list[_Entry]:
    """Lists the ledger's entries whose stage and subject it has more than once."""
    ledger = lake.scan("ledger", ["stage", "subject"])
    counts = ledger.group_by(["stage", "subject"]).aggregate([([], "count_all")])
    more = counts.filter(pc.greater(counts["count_all"], 1))
    keys = set(zip(more["stage"].to_pylist(), more["subject"].to_pylist(), strict=True))
    if not keys:
        return []
    numbers = _numbers(lake)
    subjects = pa.array(sorted({subject for _, subject in keys}))
    entries = []
    for url in lake.files("ledger"):
        rows = read(url)
        rows = rows.append_column("row", pa.array(range(rows.num_rows), pa.int64()))
        for row in rows.filter(pc.is_in(rows["subject"], value_set=subjects)).to_pylist():
            if (row["stage"], row["subject"]) not in keys:
                continue
            task = row.get("task") or stem_of(url)
            entries += [
                _Entry(
                    numbers[row["run_id"]], url, row["row"], row["stage"], row["subject"], part,
                    row["run_id"], task,
                )
                for part in parted(row["stage_digest"])
            ]  # fmt: skip
    return sorted(entries)


def _numbers(lake: Lake) -> dict[str, int]:
    """Maps run ids to numbers."""
    numbers: dict[str, int] = {}
    for url in lake.files("runs"):
        rows = numbered(url.rpartition("/")[2], read(url))
        numbers |= zip(rows["run_id"].to_pylist(), rows["number"].to_pylist(), strict=True)
    return numbers


def _files_of(urls: Iterable[str], first: _Entry, twin: _Entry) -> list[str]:
    """Lists the files of the twin's task.

    Two runs of the same task wrote the same files, under the same names: only those whose
    rows name the run (the ledger and rejects) are there twice.
    """
    return [
        url
        for url in urls
        if stem_of(url) == twin.task and (twin.task != first.task or "/rejects/" in url)
    ]


def _ids_there_twice(lake: Lake) -> pa.Array:
    """Returns the ids of the events that have more than one row."""
    counts = lake.scan("events", ["event_id"]).group_by("event_id").aggregate([([], "count_all")])
    return counts.filter(pc.greater(counts["count_all"], 1))["event_id"].combine_chunks()


def _drop(table: str, rows: pa.Table, twin: _Entry, often: pa.Array) -> pa.ChunkedArray:
    """Tells of each row of a file of the twin's task whether it is of its subject."""
    if table == "rejects":
        same = pc.and_(pc.equal(rows["stage"], twin.stage), pc.equal(rows["run_id"], twin.run_id))
        return pc.and_(same, pc.equal(rows["subject"], twin.subject))
    if twin.stage == "repack":
        what, kind, column = _FRAMES[table]
        owners = zip(rows["event_id"].to_pylist(), rows[column].to_pylist(), strict=True)
        same = [digest(kind, *owner) == twin.subject for owner in owners]
        return pc.and_(pa.array(same, pa.bool_()), pc.equal(rows[what], "frames"))
    if twin.stage == "label":
        same = pc.equal(rows["event_id"], twin.subject)
        return pc.and_(same, pc.equal(rows["spec_digest"], twin.stage_digest))
    if twin.stage == "review_pull":
        return pc.equal(answer_subjects(rows), twin.subject)
    same = pc.equal(rows["log_id"], twin.subject)
    if table == "events":  # the task may have mined the log with other triggers too
        return pc.and_(same, pc.is_in(rows["event_id"], value_set=often))
    return same


def _drop_from_ledger(plan: _Plan, twins: Sequence[_Entry]) -> None:
    """Drops the twins' digests from the rows of the ledger, and rows that have none left."""
    parts: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for twin in twins:
        parts[twin.url][twin.row].add(twin.stage_digest)
    for url, rows_of in parts.items():
        rows = read(url)
        digests = rows["stage_digest"].to_pylist()
        for row, gone in rows_of.items():
            digests[row] = joined(part for part in parted(digests[row]) if part not in gone)
        at = rows.column_names.index("stage_digest")
        column = pa.array(digests, pa.string())
        plan.files["ledger", url] = rows.set_column(at, rows.schema.field(at), column)
        plan.filter("ledger", url, pc.equal(column, ""))


def _drop_other_rejects(
    lake: Lake, plan: _Plan, twins: Sequence[_Entry], urls: Sequence[str]
) -> None:
    """Drops the other rejects of tasks of which nothing is left in the ledger."""
    tasks = {(twin.task, twin.run_id) for twin in twins}
    for url in lake.files("ledger"):
        for row in plan.rows("ledger", url).select(["run_id"]).to_pylist():
            tasks.discard((stem_of(url), row["run_id"]))
    for task, run_id in tasks:
        for url in urls:
            if stem_of(url) == task and not task.startswith(COMPACTED):
                plan.filter("rejects", url, pc.equal(plan.rows("rejects", url)["run_id"], run_id))
