"""A small stage: writes an annotation for each number, and rejects multiples of five."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from pipeline.graph.balance import JobReport
from pipeline.graph.execute import Work, execute
from pipeline.graph.stage import Output, Stage, TaskResult
from pipeline.lake.ledger import Done
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.ids import digest
from schemas.records import Count, Reject


@dataclass(frozen=True, slots=True)
class Number:
    """A task."""

    value: int

    @property
    def key(self) -> str:
        """A digest of the number."""
        return digest("number", self.value)


@dataclass(slots=True)
class Annotate(Stage):
    """Writes an annotation for each number.

    It appends every number to the file `log`, and raises a LakeError at `broken`.
    """

    log: str
    broken: int = -1
    name: str = "annotate"
    task: ClassVar[type] = Number

    def process(self, task: Number) -> Output:
        """Writes the annotation, or the reject."""
        if task.value == self.broken:
            raise LakeError("the pack p.tar is gone; label again")
        with Path(self.log).open("a") as log:
            log.write(f"{task.value}\n")
        if task.value % 5 == 0:
            reject = Reject("u", self.name, "corrupt", str(task.value))
            return Output(rejects=[reject], counts=[Count(self.name, "numbers", rejected=1)])
        rows = pa.table({"log_id": ["a"], "t_ns": [task.value], "reason": ["test"]})
        return Output(
            tables={"annotations": rows},
            done=[Done(str(task.value), "v1", "kept")],
            counts=[Count(self.name, "numbers", kept=1)],
        )


@dataclass(slots=True)
class Remember:
    """A last step that writes the results that it gets to a file."""

    path: str
    seen: list[TaskResult] = field(default_factory=list)

    def __call__(self, results: Iterable[TaskResult]) -> bool:
        """Writes the results."""
        return bool(Path(self.path).write_text(repr(list(results))))


def annotate(lake: Lake, stage: Annotate, values: range, expected: int) -> JobReport:
    """Runs the stage as a job."""
    tasks = [Number(value) for value in values]
    return execute(lake, stage.name, {}, Work(stage, tasks, {(stage.name, "numbers"): expected}))


def numbers(log: Path) -> list[int]:
    """Returns the numbers in a stage's log, sorted."""
    return sorted(int(line) for line in log.read_text().split())
