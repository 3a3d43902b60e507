"""The graph against its twin: the same tasks through Beam and in a plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from apache_beam.testing import test_pipeline

from pipeline.graph.balance import JobReport
from pipeline.graph.execute import Work, execute
from pipeline.graph.journal import PAGE_TASKS, Journal
from pipeline.graph.stage import Done, Output, TaskResult, write_output
from pipeline.graph.transforms import FinishRun, build
from pipeline.lake.tables import Lake, RunRow
from schemas.errors import FleetError, LakeError
from schemas.ids import digest
from schemas.records import Count, Reject


@dataclass(frozen=True, slots=True)
class Number:
    """A task."""

    value: int

    @property
    def key(self) -> str:
        """Names the task."""
        return digest("number", self.value)


@dataclass(slots=True)
class Annotate:
    """A stage that writes a annotation for each number, and rejects those divisible by five.

    It notes every number it works on in `log`, and refuses `broken`.
    """

    log: str
    broken: int = -1
    name: str = "annotate"
    task: ClassVar[type] = Number

    def open(self) -> None:
        """Has nothing to load."""

    def process(self, task: Number) -> Output:
        """Annotations the number."""
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
    """A last step that writes down what it was given."""

    path: str
    seen: list[TaskResult] = field(default_factory=list)

    def __call__(self, results: Sequence[TaskResult]) -> None:
        """Writes the results down."""
        Path(self.path).write_text(repr(list(results)))


def test_the_graph_gives_what_a_plain_loop_gives(tmp_path: Path) -> None:
    """Same files, same counts, in the order of keys; a task given twice is worked on once."""
    lake = Lake.create(str(tmp_path / "lake"))
    tasks = [Number(value) for value in range(PAGE_TASKS + 12)]
    stage, twin = Annotate(str(tmp_path / "log")), Annotate(str(tmp_path / "twin"))
    expected = [
        write_output(lake, "r", stage.name, task.key, twin.process(task))
        for task in sorted(tasks, key=lambda task: task.key)
    ]
    finish = Remember(str(tmp_path / "seen"))
    journal = Journal(lake.url, "r")
    pages = journal.plan([*tasks, tasks[3]])
    assert len(pages) == 2
    with test_pipeline.TestPipeline() as root:
        build(root, lake, journal, pages=pages, stage=stage, finish=finish)
    assert (tmp_path / "seen").read_text() == repr(expected)
    worked = sorted(int(line) for line in (tmp_path / "log").read_text().split())
    assert worked == list(range(PAGE_TASKS + 12))


def report(lake: Lake, stage: Annotate, values: range, expected: int) -> JobReport:
    """Runs the stage as a job."""
    work = Work(
        stage=stage,
        tasks=[Number(value) for value in values],
        expected={("annotate", "numbers"): expected},
    )
    return execute(lake, "annotate", {}, work)


def run(lake: Lake, stage: Annotate, values: range, expected: int) -> tuple[Count, ...]:
    """Runs the stage as a job; what came of the numbers."""
    return report(lake, stage, values, expected).counts


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the stage notes what it works on."""
    return tmp_path / "log"


def test_a_job_commits_all_tables_at_once_and_counts_every_task(tmp_path: Path, log: Path) -> None:
    """Annotations, rejects and the ledger are visible together, and the balance is in `runs`."""
    lake = Lake.create(str(tmp_path / "lake"))
    assert run(lake, Annotate(str(log)), range(12), 12) == (Count("annotate", "numbers", 9, 0, 3),)
    after = Lake.open(lake.url)
    assert [after.read(t).num_rows for t in ("annotations", "ledger", "rejects")] == [9, 9, 3]
    assert after.read("runs")["counts"].to_pylist()[0][0]["rejected"] == 3
    assert list((tmp_path / "lake" / "work").iterdir()) == []


def test_beam_counts_what_the_balance_counts(tmp_path: Path, log: Path) -> None:
    """Counters and distributions, by name."""
    lake = Lake.create(str(tmp_path / "lake"))
    work = Work(Annotate(str(log)), [Number(v) for v in range(12)], {("annotate", "numbers"): 12})
    metrics = execute(lake, "annotate", {}, work).metrics
    assert metrics["tasks"] == 12
    assert (metrics["numbers_kept"], metrics["numbers_rejected"]) == (9, 3)
    folder = tmp_path / "lake" / "tables"
    written = [
        p.stat().st_size
        for t in ("annotations", "ledger", "rejects")
        for p in (folder / t).glob("*.parquet")
    ]
    assert metrics["files"] == len(written)
    assert metrics["task_bytes"]["sum"] == metrics["finish_bytes"]["sum"] == sum(written)
    assert metrics["tasks_listed"] == 12
    assert metrics["task_ms"]["count"] == 12
    assert metrics["list_ms"]["count"] == metrics["finish_ms"]["count"] == 1


def test_an_input_that_is_lost_fails_the_job(tmp_path: Path, log: Path) -> None:
    """Thirteen were promised, twelve were worked off."""
    lake = Lake.create(str(tmp_path / "lake"))
    with pytest.raises(FleetError, match="13 numbers went into annotate, 12 came out"):
        run(lake, Annotate(str(log)), range(12), 13)


def test_an_error_on_a_worker_reaches_the_driver_and_nothing_is_visible(
    tmp_path: Path, log: Path
) -> None:
    """As what it is, not as Beam's wrapping of it."""
    lake = Lake.create(str(tmp_path / "lake"))
    with pytest.raises(LakeError, match=r"p\.tar is gone"):
        run(lake, Annotate(str(log), broken=7), range(12), 12)
    assert Lake.open(lake.url).read("annotations").num_rows == 0


def test_what_was_done_before_a_crash_is_not_done_again(tmp_path: Path, log: Path) -> None:
    """The second run takes over every task that the first one finished, but a torn one."""
    lake = Lake.create(str(tmp_path / "lake"))
    with pytest.raises(LakeError):
        run(lake, Annotate(str(log), broken=7), range(12), 12)
    first = {int(line) for line in log.read_text().split()}
    assert 7 not in first
    (journal,) = (tmp_path / "lake" / "work").iterdir()
    torn = next(value for value in sorted(first) if value % 5)
    (file,) = (tmp_path / "lake" / "tables" / "annotations").glob(f"{Number(torn).key}-*.parquet")
    file.unlink()
    log.unlink()
    assert journal.name.isalnum()
    again = report(lake, Annotate(str(log)), range(12), 12)
    assert again.counts == (Count("annotate", "numbers", 9, 0, 3),)
    # What was begun before, and not done: the torn one, and the one that failed.
    assert (again.metrics["numbers_repeated"], again.metrics["tasks_repeated"]) == (2, 2)
    assert again.metrics["tasks_resumed"] == len(first) - 1
    second = {int(line) for line in log.read_text().split()}
    assert second == set(range(12)) - first | {torn}
    assert Lake.open(lake.url).read("annotations")["t_ns"].to_pylist() == [
        value for value in range(12) if value % 5
    ]


def test_the_last_step_of_a_twin_that_comes_late_does_nothing(tmp_path: Path) -> None:
    """Its journal is gone, for the other has committed; without a commit that is an error."""
    lake, seen = Lake.create(str(tmp_path / "lake")), tmp_path / "seen"
    last = FinishRun("annotate", Remember(str(seen)), lake, Journal(lake.url, "r"))
    with pytest.raises(LakeError, match="was it deleted meanwhile"):
        list(last.process(1))
    lake.commit(RunRow("r", "annotate", "c", "{}", 0, (Count("annotate", "numbers", 1),)), [])
    assert list(last.process(1)) == []
    assert not seen.exists()
