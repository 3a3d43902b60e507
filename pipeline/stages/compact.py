"""Compact: small files of a table into large ones, sorted so that readers can skip most of them.

Each run appends files of its own, so a lake that grows every hour has ever more of them. A run of
compaction merges the small files of a table until they are large. Ids are digests, so a large
file holds rows of the whole range of ids; once there are FANOUT large files of a range, they are
merged into FANOUT files of a part of the range each. So a reader that wants one log looks into
less than FANOUT files for each power of FANOUT in their number, and a row is written again once
for each.

No row changes. What is replaced stays in the store for readers that opened the lake before
(see pipeline.lake.vacuum).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import CompactConfig
from pipeline.graph.execute import Work
from pipeline.graph.stage import Output, Stage
from pipeline.lake.runs import numbered
from pipeline.lake.tables import COMPACTED, NUMBER_CHARS, Lake
from schemas.ids import digest
from schemas.records import Count
from schemas.tables import TABLES
from transforms.parquet import read, read_files

TARGET_BYTES = 32 << 20
"""Size of a large file: some hundred MB of rows in memory, and quick to list."""

FANOUT = 16

_DIGITS = "0123456789abcdef"
_WHOLE = "all"
"""The range of all ids, as names of files have it; other ranges are the first digits of ids."""


@dataclass(frozen=True, slots=True)
class CompactTask:
    """Files of a table to merge into one, of the ids from `least` to before `most`.

    `key` names the file. `files` are paths below the table, `counted` says how many of them
    count: those that several tasks read count once.
    """

    key: str
    table: str
    files: tuple[str, ...]
    counted: int
    least: str | None = None
    most: str | None = None


@dataclass(slots=True)
class CompactStage(Stage):
    """Merges files. `lake_url` is where they are."""

    lake_url: str
    name: str = "compact"
    task: ClassVar[type] = CompactTask
    resources: ClassVar[Mapping[str, str]] = {"min_ram": "4GB"}

    def process(self, task: CompactTask) -> Output:
        """Reads the rows of the task's files and range, and replaces the files by one."""
        folder = f"{self.lake_url}/tables/{task.table}"
        urls = [f"{folder}/{path}" for path in task.files]
        if task.table == "runs":
            rows = pa.concat_tables(
                [
                    TABLES["runs"].conform(numbered(path, read(url)))
                    for path, url in zip(task.files, urls, strict=True)
                ]
            )
        else:
            rows = read_files(urls, TABLES[task.table].schema, filter=_within(task))
        return Output(
            tables={task.table: rows},
            removes=[(task.table, url) for url in urls],
            counts=[Count(self.name, "files", kept=task.counted)],
        )


def _within(task: CompactTask) -> pc.Expression | None:
    """Returns the condition that a row is in the task's range."""
    column = pc.field(TABLES[task.table].order[0])
    bounds = [] if task.least is None else [column >= task.least]
    bounds += [] if task.most is None else [column < task.most]
    condition: pc.Expression | None = None
    for bound in bounds:
        condition = bound if condition is None else condition & bound
    return condition


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    range: str


def plan_compact(lake: Lake, config: CompactConfig) -> Work:
    """Finds the files to merge; there are no tasks where every table has few."""
    tasks: list[CompactTask] = []
    total = 0
    for table in TABLES:
        files = _files(lake, table)
        total += len(files)
        tasks += _merge_runs(files) if table == "runs" else _merge(table, files)
    merged = sum(task.counted for task in tasks)
    return Work(
        stage=CompactStage(lake.url),
        tasks=tasks,
        expected={("compact", "files"): total},
        known=(Count("compact", "files", filtered=total - merged),),
        detail={"keep_hours": config.keep_hours},
    )


def _files(lake: Lake, table: str) -> list[_File]:
    rows = lake.extents(table, TABLES[table].order[0]).select(["path", "stem", "size"])
    columns = (rows[name].to_pylist() for name in ("path", "stem", "size"))
    files = [_File(path, size, _range(stem)) for path, stem, size in zip(*columns, strict=True)]
    return sorted(files, key=lambda file: file.path)


def _range(stem: str) -> str:
    """Returns the first digits of the ids that a file may hold, given its name's start.

    >>> _range("compacted-0f-a1b2"), _range("compacted-all-a1b2"), _range("a1b2")
    ('0f', '', '')
    """
    if not stem.startswith(COMPACTED):
        return ""
    found = stem.split("-")[1]
    return "" if found == _WHOLE else found


def _merge(table: str, files: list[_File]) -> Iterator[CompactTask]:
    """Plans how to merge the files of a table, range by range."""
    has_ids = TABLES[table].order[0] in {"log_id", "event_id"}
    for digits in sorted({file.range for file in files}):
        inside = [file for file in files if file.range == digits]
        large = [file for file in inside if file.size >= TARGET_BYTES // 2]
        if has_ids and len(large) >= FANOUT:
            yield from _split(table, digits, large)
        for batch in _batches([file for file in inside if file.size < TARGET_BYTES // 2]):
            paths = tuple(file.path for file in batch)
            yield CompactTask(_key(table, digits, paths), table, paths, len(paths))


def _split(table: str, digits: str, files: list[_File]) -> Iterator[CompactTask]:
    """Plans the merge of large files of a range into files of its parts."""
    paths = tuple(file.path for file in files)
    parts = [digits + digit for digit in _DIGITS]
    # The first and the last part are open, so that no row is lost whatever its id.
    bounds = [None, *parts[1:], None]
    for part, (least, most) in zip(parts, pairwise(bounds), strict=True):
        counted = len(paths) if least is None else 0
        yield CompactTask(_key(table, part, paths), table, paths, counted, least, most)


def _batches(files: list[_File]) -> Iterator[list[_File]]:
    """Groups small files into large ones; the last group may be small, but not a single file."""
    batch: list[_File] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.size
        if size >= TARGET_BYTES:
            yield batch
            batch, size = [], 0
    if len(batch) > 1:
        yield batch


def _merge_runs(files: list[_File]) -> Iterator[CompactTask]:
    """Plans how to merge files of `runs`, each named by the number of its last run.

    Compaction is a run too and adds a file, so a few are left alone.
    """
    if len(files) < FANOUT:
        return
    for batch in _batches([file for file in files if file.size < TARGET_BYTES // 2]):
        paths = tuple(file.path for file in batch)
        yield CompactTask(paths[-1][:NUMBER_CHARS], "runs", paths, len(paths))


def _key(table: str, digits: str, paths: tuple[str, ...]) -> str:
    return f"{COMPACTED}-{digits or _WHOLE}-{digest('compact', table, digits, paths)}"
