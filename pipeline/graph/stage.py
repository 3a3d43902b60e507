"""A stage: what one job does to one task, and what comes of it.

Every job has the same graph: tasks fan out, each becomes Parquet files under the
lake's tables (and packs, and shards), and one last step makes them visible all at once.
What a task decodes lives and dies inside `process`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from pipeline.lake.tables import Lake
from schemas.records import AddFile, Count, Outcome, Reject
from schemas.tables import TABLES


class Task(Protocol):
    """One task: a frozen dataclass of plain fields, named by a digest of them."""

    @property
    def key(self) -> str:
        """The digest that also names the files the task writes."""


@dataclass(frozen=True, slots=True)
class Done:
    """One ledger line: a subject that the stage is done with."""

    subject: str
    stage_digest: str
    outcome: Outcome


@dataclass(slots=True)
class Output:
    """What a task came to: rows by table, what is done, what was rejected, the counts.

    `blobs` are the other files it wrote, named from the lake's root, and their bytes;
    `detail` a few facts for the last step, as JSON has them.
    """

    tables: dict[str, pa.Table] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What the last step learns of a task: names of files, counts, a few facts."""

    key: str
    adds: tuple[AddFile, ...]
    blobs: dict[str, int]
    counts: tuple[Count, ...]
    detail: dict[str, Any]

    def files(self) -> Iterator[tuple[str, int]]:
        """Yields every file that the task wrote, named from the lake's root, and its bytes."""
        yield from ((f"tables/{add.table}/{add.path}", add.size) for add in self.adds)
        yield from self.blobs.items()


class Stage(Protocol):
    """What a job does to a task. Pickled to workers, so `open` loads what is heavy."""

    name: str
    task: ClassVar[type]
    """The type of its tasks."""

    def open(self) -> None:
        """Loads models, compiles queries: once a worker."""

    def process(self, task: Any) -> Output:
        """Turns one task into rows. DataError never escapes: it becomes a reject.

        A worker may die at any point and another do the task again: every file has a name
        and bytes that follow from the task, and appears whole.
        """


def write_output(lake: Lake, run_id: str, stage: str, key: str, output: Output) -> TaskResult:
    """Writes a task's rows as uncommitted files, named by the task, and lists them."""
    tables = dict(output.tables)
    if output.rejects:
        tables["rejects"] = reject_rows(output.rejects, run_id)
    if output.done:
        tables["ledger"] = pa.table(
            {
                "stage": [stage] * len(output.done),
                "subject": [done.subject for done in output.done],
                "stage_digest": [done.stage_digest for done in output.done],
                "outcome": [done.outcome for done in output.done],
                "run_id": [run_id] * len(output.done),
            }
        )
    adds = [add for name, rows in tables.items() for add in lake.write(name, rows, key)]
    return TaskResult(key, tuple(adds), output.blobs, tuple(output.counts), output.detail)


def reject_rows(rejects: Sequence[Reject], run_id: str) -> pa.Table:
    """Lays rejects out as rows of their table."""
    return pa.Table.from_pylist(
        [
            {
                "uri": reject.uri,
                "stage": reject.stage,
                "reason": reject.reason,
                "detail": reject.detail,
                "subject": reject.subject,
                "run_id": run_id,
            }
            for reject in rejects
        ],
        schema=TABLES["rejects"].schema,
    )
