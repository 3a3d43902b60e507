"""Stages: what a job does with one task, and what the result is.

    class CountBytes(Stage):
        name = "count_bytes"
        task = CountTask

        def process(self, task: CountTask) -> Output:
            ...

A stage is a plain class without Beam in it. `pipeline.graph.transforms.RunStage` runs it on
workers: each task becomes Parquet files of the lake's tables (and packs, and shards), which are
not visible until `CommitRun` commits the run. Decoded pictures never leave `process`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from pipeline.lake.ledger import Done, ledger_rows
from pipeline.lake.tables import Lake, Remove
from schemas.records import AddFile, Count, Reject, split_rejects
from schemas.tables import TABLES


class Task(Protocol):
    """The piece of work that a worker does at a time: a frozen dataclass of plain fields."""

    @property
    def key(self) -> str:
        """A digest of the fields, which also names the files that the task writes."""


@dataclass(slots=True)
class Output:
    """The output of a task: rows by table, ledger entries, rejects and counts.

    `blobs` are the sizes in bytes of the other files that it wrote, by path below the lake;
    `removes` are files (table and URL) whose rows the run deletes, if they are still there;
    `next` are follow-up tasks for the next stage of the pipeline, whose keys no other task of
    the run has; `detail` is a small JSON object for the last step.
    """

    tables: dict[str, pa.Table] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    removes: list[Remove] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    next: list[Task] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What the last step reads of a task: names of files, counts and `detail`.

    `parent` is the key of the task that it follows from, "" if it was planned; `next` is the
    journal's page of its own follow-up tasks, "" if there are none; `retried` are the
    messages of rejects that do not stand, because the next run tries their inputs again,
    `internal` those of rejects for which a bug is at fault, and `private` those of what was not
    written because it could not be found what to hide.
    """

    key: str
    adds: tuple[AddFile, ...]
    blobs: dict[str, int]
    counts: tuple[Count, ...]
    next: str
    detail: dict[str, Any]
    removes: tuple[Remove, ...] = ()
    retried: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    parent: str = ""

    def files(self) -> Iterator[tuple[str, int]]:
        """Yields the path below the lake and the size in bytes of every file of the task."""
        yield from ((f"tables/{add.table}/{add.path}", add.size) for add in self.adds)
        yield from self.blobs.items()


class Stage:
    """What a job does with a task. Instances are pickled to workers.

    Subclasses define:

    - `name`: names the stage in the ledger, in metrics and in a runner's display.
    - `task`: the type of its tasks.
    - `resources`: Beam's resource hints for its workers, such as
      `{"min_ram": "4GB"}` or `{"accelerator": "type:nvidia-tesla-t4;count:1"}`; runners
      that do not know a hint ignore it.
    - `once`: True where a subject is done once whatever the digest, because a table has its
      rows without one. Otherwise a subject can be done again under another digest.
    - `following`: the stage that runs the follow-up tasks of its own. It has the same name.
    - `open` and `process`.
    """

    name: str
    task: ClassVar[type]
    resources: ClassVar[Mapping[str, str]] = {}
    once: ClassVar[bool] = False

    @property
    def following(self) -> Stage | None:
        """The stage of its follow-up tasks, None if it has none."""
        return None

    def open(self) -> None:
        """Loads what is expensive, such as models; called once per worker."""

    def process(self, task: Any) -> Output:
        """Turns one task into rows.

        A worker may die at any point and another one run the task again, so the names and bytes
        of the files that it writes must depend on the task alone, and each file must appear
        by one atomic step.

        Raises:
            FleetError: the run fails. For an input that cannot be used (DataError) do not raise
                it, but add a reject to `Output.rejects`.
        """
        raise NotImplementedError


def write_output(
    lake: Lake,
    run_id: str,
    stage: str,
    key: str,
    output: Output,
    *,
    parent: str = "",
    next_page: str = "",
) -> TaskResult:
    """Writes a task's rows to uncommitted files, named by its key, and lists them."""
    tables = dict(output.tables)
    rejects, retried = split_rejects(output.rejects)
    if rejects:
        tables["rejects"] = reject_rows(rejects, run_id)
    if output.done:
        tables["ledger"] = ledger_rows(stage, run_id, key, output.done)
    adds = [add for name, rows in tables.items() for add in lake.write(name, rows, key)]
    return TaskResult(
        key,
        tuple(adds),
        output.blobs,
        tuple(output.counts),
        next_page,
        output.detail,
        tuple(output.removes),
        tuple(reject.detail for reject in retried if not reject.private),
        tuple(reject.detail for reject in output.rejects if reject.internal),
        tuple(reject.detail for reject in output.rejects if reject.private),
        parent,
    )


def reject_rows(rejects: Sequence[Reject], run_id: str) -> pa.Table:
    """Builds the rows of `rejects`."""
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
