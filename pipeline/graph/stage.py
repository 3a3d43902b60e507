"""A stage: what one step of a job does to one task, and what comes of it.

    class CountBytes(Stage):
        name = "count_bytes"
        task = CountTask

        def process(self, task: CountTask) -> Output:
            ...

A stage is a plain class without Beam in it. `pipeline.graph.transforms.RunStage` runs it on
workers: each task becomes Parquet files under the lake's tables (and packs, and shards), which
nobody sees before `CommitRun` makes a whole run visible. What a task decodes lives and dies
inside `process`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from pipeline.lake.ledger import Done, ledger_rows
from pipeline.lake.tables import Lake
from schemas.records import AddFile, Count, Reject
from schemas.tables import TABLES


class Task(Protocol):
    """What a worker does at a time: a frozen dataclass of plain fields."""

    @property
    def key(self) -> str:
        """A digest of the fields; it also names the files that the task writes."""


@dataclass(slots=True)
class Output:
    """What a task came to: rows by table, what is done, what was rejected, the counts.

    `blobs` are the other files that it wrote, by name from the lake's root, and their bytes;
    `next` tasks that follow from this one, for the stage that comes next in the pipeline, with
    keys that no other task of the run has;
    `detail` a few facts for the last step, as JSON has them.
    """

    tables: dict[str, pa.Table] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    next: list[Task] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What the last step learns of a task: names of files, counts, a few facts.

    `next` is the journal's page of the tasks that follow, or "" where none do.
    """

    key: str
    adds: tuple[AddFile, ...]
    blobs: dict[str, int]
    counts: tuple[Count, ...]
    next: str
    detail: dict[str, Any]

    def files(self) -> Iterator[tuple[str, int]]:
        """Yields every file that the task wrote, by name from the lake's root, and its bytes."""
        yield from ((f"tables/{add.table}/{add.path}", add.size) for add in self.adds)
        yield from self.blobs.items()


class Stage:
    """What a job does to a task. Instances are pickled to workers.

    Subclasses define:

    - `name`: names the stage in the ledger, in metrics and in a runner's display.
    - `task`: the type of its tasks.
    - `resources`: Beam's resource hints for the workers that run it, such as
      `{"min_ram": "4GB"}` or `{"accelerator": "type:nvidia-tesla-t4;count:1"}`; runners
      that do not know a hint ignore it.
    - `once`: True where a subject is done once whatever the digest, because a table has its
      rows without one. Otherwise a subject can be done again under another digest.
    - `open` and `process`.
    """

    name: str
    task: ClassVar[type]
    resources: ClassVar[Mapping[str, str]] = {}
    once: ClassVar[bool] = False

    def open(self) -> None:
        """Loads what is expensive, such as models: once a worker. By default nothing."""

    def process(self, task: Any) -> Output:
        """Turns one task into rows.

        A worker may die at any point and another run the task again, so every file that is
        written needs a name and bytes that follow from the task, and has to appear whole.

        Raises:
            FleetError: fails the whole run. An input that cannot be used (DataError) is no
                reason for that: it belongs into `Output.rejects`.
        """
        raise NotImplementedError


def write_output(
    lake: Lake, run_id: str, stage: str, key: str, output: Output, *, next_page: str = ""
) -> TaskResult:
    """Writes a task's rows as uncommitted files, named by the task, and lists them."""
    tables = dict(output.tables)
    if output.rejects:
        tables["rejects"] = reject_rows(output.rejects, run_id)
    if output.done:
        tables["ledger"] = ledger_rows(stage, run_id, output.done)
    adds = [add for name, rows in tables.items() for add in lake.write(name, rows, key)]
    return TaskResult(
        key, tuple(adds), output.blobs, tuple(output.counts), next_page, output.detail
    )


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
