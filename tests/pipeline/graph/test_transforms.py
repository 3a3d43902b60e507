"""The public transforms: against a plain loop, with follow-up tasks, and after a commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.pvalue import PCollection
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to

from pipeline.graph.commit import Commit
from pipeline.graph.execute import build
from pipeline.graph.journal import PAGE_TASKS, Journal
from pipeline.graph.runner import metrics, pipeline_options
from pipeline.graph.stage import Output, Stage, write_output
from pipeline.graph.transforms import CommitRun, ListTasks, RunStage
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.ids import digest
from schemas.records import Count
from tests.pipeline.graph.annotate import Annotate, Number, Remember, numbers
from transforms.storage import remove


def test_the_graph_gives_what_a_plain_loop_gives(tmp_path: Path) -> None:
    """Same files and counts, in the order of keys; a task planned twice runs once."""
    lake = Lake.create(str(tmp_path / "lake"))
    tasks = [Number(value) for value in range(PAGE_TASKS + 12)]
    stage, other = Annotate(str(tmp_path / "log")), Annotate(str(tmp_path / "other"))
    expected = [
        write_output(lake, "r", stage.name, task.key, other.process(task))
        for task in sorted(tasks, key=lambda task: task.key)
    ]
    finish = Remember(str(tmp_path / "seen"))
    journal = Journal(lake.url, "r")
    pages = journal.plan([*tasks, tasks[3]])
    assert len(pages) == 2
    with test_pipeline.TestPipeline() as root:
        build(root, lake, journal, pages=pages, stage=stage, finish=finish)
    assert (tmp_path / "seen").read_text() == repr(expected)
    assert numbers(tmp_path / "log") == list(range(PAGE_TASKS + 12))


@dataclass(frozen=True, slots=True)
class Range:
    """A task that is split into one task per number."""

    start: int
    end: int

    @property
    def key(self) -> str:
        """A digest of the range."""
        return digest("range", self.start, self.end)


@dataclass(slots=True)
class Split(Stage):
    """Splits a range into its numbers."""

    log: str
    name: str = "split"
    task: ClassVar[type] = Range
    resources: ClassVar[dict[str, str]] = {"min_ram": "3GB"}

    def process(self, task: Range) -> Output:
        """Returns a task for each number, and writes one row."""
        with Path(self.log).open("a") as log:
            log.write(f"{task.start}\n")
        rows = pa.table({"log_id": ["range"], "t_ns": [task.start], "reason": ["split"]})
        return Output(
            tables={"annotations": rows},
            counts=[Count(self.name, "ranges", kept=1)],
            next=[Number(value) for value in range(task.start, task.end)],
        )


def fan_out(root: beam.Pipeline, lake: Lake, tmp_path: Path) -> PCollection[str]:
    """Splits three ranges and annotates their numbers, in two stages."""
    journal = Journal(lake.url, "r")
    run = RunRow("r", "fan_out", "c", "{}", 1)
    pages = journal.plan([Range(0, 4), Range(10, 12), Range(12, 15)])
    tasks = root | ListTasks(journal, pages)
    split, more = tasks | RunStage(Split(str(tmp_path / "split")), lake, journal)
    annotated, rest = more | RunStage(Annotate(str(tmp_path / "log")), lake, journal)
    assert_that(rest, equal_to([]), "nothing follows")
    committed: PCollection[str] = (
        (split, annotated) | beam.Flatten() | CommitRun(Commit(lake, run), journal)
    )
    return committed


def test_follow_up_tasks_are_run_by_the_next_stage(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path / "lake"))
    values = [0, 1, 2, 3, 10, 11, 12, 13, 14]
    with test_pipeline.TestPipeline() as root:
        assert_that(fan_out(root, lake, tmp_path), equal_to(["r"]), "one commit")
    after = Lake.open(lake.url)
    rows = after.read("annotations").to_pylist()
    assert [r["t_ns"] for r in rows if r["reason"] == "split"] == [0, 10, 12]
    assert [r["t_ns"] for r in rows if r["reason"] == "test"] == [v for v in values if v % 5]
    counts = {c["of"]: c for c in after.read("runs")["counts"].to_pylist()[0]}
    assert (counts["ranges"]["kept"], counts["numbers"]["kept"]) == (3, 7)
    assert set(numbers(tmp_path / "log")) == set(values)


def test_follow_up_tasks_survive_a_crash(tmp_path: Path) -> None:
    """A second attempt does not repeat a task that is done, but runs its follow-up tasks."""
    lake = Lake.create(str(tmp_path / "lake"))
    journal = Journal(lake.url, "r")
    task = Range(0, 4)
    stage = Split(str(tmp_path / "split"))
    output = stage.process(task)
    next_page = journal.follow("000000", task.key, output.next)[0][0]
    journal.record(
        "000000", write_output(lake, "r", "split", task.key, output, next_page=next_page)
    )
    (tmp_path / "split").unlink()
    root = test_pipeline.TestPipeline()
    fan_out(root, lake, tmp_path)
    result = root.run()
    result.wait_until_finish()
    assert numbers(tmp_path / "split") == [10, 12]
    assert set(numbers(tmp_path / "log")) == {0, 1, 2, 3, 10, 11, 12, 13, 14}
    assert metrics(result, "split")["tasks_resumed"] == 1
    assert metrics(result, "split")["tasks"] == 3


def test_a_worker_that_gets_done_tasks_again_repeats_only_the_first(tmp_path: Path) -> None:
    """As after the death of another worker, where a runner does not list the page again."""
    lake, log = Lake.create(str(tmp_path / "lake")), tmp_path / "log"
    stage, journal = Annotate(str(log)), Journal(lake.url, "r")
    pages = journal.plan([Number(value) for value in range(8)])
    places = journal.listed(pages[0])
    tasks = {journal.task(place, Number).value: place for place in places}
    for value in range(6):
        task = Number(value)
        journal.record("000000", write_output(lake, "r", "annotate", task.key, stage.process(task)))
    log.unlink()

    def work(*values: int) -> dict[str, Any]:
        root = beam.Pipeline(options=pipeline_options(["--direct_num_workers=1"]))
        root | beam.Create([tasks[value] for value in values]) | RunStage(stage, lake, journal)
        result = root.run()
        result.wait_until_finish()
        return dict(metrics(result, "annotate"))

    again = work(0, 1, 2, 3, 4, 5)
    assert (again["tasks_repeated"], again["tasks_resumed"], again["tasks"]) == (1, 5, 6)
    assert len(numbers(log)) == 1
    assert (again["numbers_repeated"], again["numbers_kept"]) == (1, 4)
    new = work(6, 7)
    assert (new["tasks_repeated"], new["tasks_resumed"], new["tasks"]) == (0, 0, 2)


def test_two_tasks_of_one_key_are_an_error(tmp_path: Path) -> None:
    """On one page or on two."""
    lake = Lake.create(str(tmp_path / "lake"))
    journal = Journal(lake.url, "r")
    output = Annotate(str(tmp_path / "log")).process(Number(1))
    for page in ("000000", "000001"):
        journal.record(page, write_output(lake, "r", "annotate", "key", output))

    def finish(*pages: str) -> None:
        with test_pipeline.TestPipeline() as root:
            root | beam.Create(pages) | CommitRun(Remember(str(tmp_path / "seen")), journal)

    with pytest.raises((LakeError, RuntimeError), match="holds 1 results, not 2"):
        finish("000000", "000000")
    with pytest.raises((LakeError, RuntimeError), match="two tasks share the key key"):
        finish("000000", "000001")
    assert not (tmp_path / "seen").exists()


def test_resource_hints_apply_to_the_step_of_the_stage_only(tmp_path: Path) -> None:
    root = beam.Pipeline()
    fan_out(root, Lake.create(str(tmp_path / "lake")), tmp_path)
    made: api.Pipeline = root.to_runner_api()
    hinted = {
        step.unique_name
        for step in made.components.transforms.values()
        if step.environment_id and made.components.environments[step.environment_id].resource_hints
    }
    assert hinted
    assert all(name.startswith("RunStage(split)/work") for name in hinted)
    hints = [dict(e.resource_hints) for e in made.components.environments.values()]
    assert {"beam:resources:min_ram_bytes:v1": b"3000000000"} in hints


def test_all_steps_of_a_job_share_one_environment(tmp_path: Path) -> None:
    """Otherwise runners would start separate workers for the steps without hints."""
    lake, journal = Lake.create(str(tmp_path / "lake")), Journal("lake", "r")
    root = beam.Pipeline()
    stage = Split(str(tmp_path / "log"))
    build(root, lake, journal, pages=["p"], stage=stage, finish=Remember("seen"))
    made: api.Pipeline = root.to_runner_api()
    code = [t for t in made.components.transforms.values() if t.spec.urn.endswith("pardo:v1")]
    (environment,) = {transform.environment_id for transform in code}
    assert made.components.environments[environment].resource_hints


def test_a_job_that_outlives_its_run_does_nothing(tmp_path: Path) -> None:
    """The same run, started again, has committed and deleted the journal."""
    lake, seen = Lake.create(str(tmp_path / "lake")), tmp_path / "seen"
    finish, stage = Remember(str(seen)), Annotate(str(tmp_path / "log"))
    journal = Journal(lake.url, "r")
    pages = journal.plan([Number(1), Number(2)])
    remove(journal.folder)

    def late() -> None:
        with test_pipeline.TestPipeline() as root:
            places = root | beam.Create([(pages[0], 0, 10, False)])
            done, _ = places | RunStage(stage, lake, journal)
            done | CommitRun(finish, journal)
            root | "page" >> beam.Create(pages) | "last" >> CommitRun(finish, journal)

    with pytest.raises((LakeError, FileNotFoundError, RuntimeError)):
        late()
    commit(lake, RunRow("r", "annotate", "c", "{}", 0, (Count("annotate", "numbers", 1),)), [])
    late()
    assert not seen.exists()
    assert not (tmp_path / "log").exists()
