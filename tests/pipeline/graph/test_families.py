"""Jobs whose tasks have follow-up tasks: a task and what follows from it land together or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest

from pipeline.graph.balance import JobReport
from pipeline.graph.execute import Work, execute
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done
from pipeline.lake.tables import Lake
from schemas.ids import digest
from schemas.records import Count, Reject
from tests.pipeline.graph.annotate import Number

PARTS = 3


@dataclass(frozen=True, slots=True)
class Part:
    """A follow-up task."""

    value: int
    part: int

    @property
    def key(self) -> str:
        """A digest of the part."""
        return digest("part", self.value, self.part)


@dataclass(slots=True)
class AnnotatePart(Stage):
    """Writes an annotation for a part, unless it is the part of `away`."""

    away: tuple[int, int] | None
    reason: str
    name: str = "annotate"
    task: ClassVar[type] = Part

    def process(self, task: Part) -> Output:
        """Writes the annotation, or a reject."""
        if (task.value, task.part) == self.away:
            reject = Reject("u", self.name, self.reason, "part", str(task.value))
            return Output(rejects=[reject], counts=[Count(self.name, "parts", rejected=1)])
        t_ns = 10 * task.value + task.part
        rows = pa.table({"log_id": ["a"], "t_ns": [t_ns], "reason": ["part"]})
        return Output(tables={"annotations": rows}, counts=[Count(self.name, "parts", kept=1)])


@dataclass(slots=True)
class SplitNumber(Stage):
    """Splits a number into parts."""

    away: tuple[int, int] | None = None
    reason: str = "unreadable"
    name: str = "annotate"
    task: ClassVar[type] = Number

    @property
    def following(self) -> AnnotatePart:
        """The stage of the parts."""
        return AnnotatePart(self.away, self.reason)

    def process(self, task: Number) -> Output:
        """Returns a task for each part."""
        return Output(
            done=[Done(str(task.value), "v1", "kept")],
            counts=[Count(self.name, "numbers", kept=1)],
            next=[Part(task.value, part) for part in range(PARTS)],
        )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., JobReport]:
    """Runs numbers as a job that was planned when the lake was empty."""
    empty = Lake.create(str(tmp_path / "lake"))
    versions = empty.versions

    def run(*values: int, stage: SplitNumber | None = None, late: bool = False) -> JobReport:
        lake = Lake(empty.url, versions) if late else Lake.open(empty.url)
        work = Work(
            stage or SplitNumber(),
            [Number(value) for value in values],
            {("annotate", "numbers"): len(values)},
        )
        return execute(lake, "annotate", {}, work, on_progress=lambda *seen: told.append(seen))

    return run


told: list[tuple[int, int]] = []


def rows(tmp_path: Path) -> list[int]:
    found: list[int] = Lake.open(str(tmp_path / "lake")).read("annotations")["t_ns"].to_pylist()
    return sorted(found)


def parts(*values: int) -> list[int]:
    return [10 * value + part for value in values for part in range(PARTS)]


def done(tmp_path: Path) -> list[str]:
    found: list[str] = Lake.open(str(tmp_path / "lake")).read("ledger")["subject"].to_pylist()
    return sorted(found)


def test_a_job_runs_what_follows_from_its_tasks(
    run: Callable[..., JobReport], tmp_path: Path
) -> None:
    report = run(1, 2)
    assert rows(tmp_path) == parts(1, 2)
    assert set(report.counts) == {
        Count("annotate", "numbers", kept=2),
        Count("annotate", "parts", kept=2 * PARTS),
    }
    assert told[-1] == (2 + 2 * PARTS, 2 * PARTS), "the last progress is all of it"


def test_where_a_part_cannot_be_read_for_now_the_next_run_does_the_whole_again(
    run: Callable[..., JobReport], tmp_path: Path
) -> None:
    report = run(1, 2, stage=SplitNumber(away=(1, 2)))
    assert rows(tmp_path) == parts(2)
    assert done(tmp_path) == ["2"]
    assert set(report.counts) == {
        Count("annotate", "numbers", kept=1, rejected=1),
        Count("annotate", "parts", kept=PARTS, rejected=PARTS),
    }
    assert "1 inputs could not be read" in report.notes[0]
    assert Lake.open(str(tmp_path / "lake")).read("rejects").num_rows == 0
    run(1)
    assert rows(tmp_path) == parts(1, 2)
    assert done(tmp_path) == ["1", "2"]


def test_a_part_that_is_corrupt_costs_itself(run: Callable[..., JobReport], tmp_path: Path) -> None:
    run(1, stage=SplitNumber(away=(1, 0), reason="corrupt"))
    assert rows(tmp_path) == parts(1)[1:]
    assert Lake.open(str(tmp_path / "lake")).read("rejects")["subject"].to_pylist() == ["1"]


def test_what_follows_from_a_task_that_was_overtaken_is_dropped_with_it(
    run: Callable[..., JobReport], tmp_path: Path
) -> None:
    run(1, 2)
    late = run(2, 3, late=True)
    assert rows(tmp_path) == parts(1, 2, 3)
    assert done(tmp_path) == ["1", "2", "3"]
    assert late.dropped == 1
    assert set(late.counts) == {
        Count("annotate", "numbers", kept=1, filtered=1),
        Count("annotate", "parts", kept=PARTS, filtered=PARTS),
    }
