"""The commit of a run that another one may have overtaken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.graph.balance import JobReport
from pipeline.graph.execute import Work, execute
from pipeline.graph.stage import Output
from pipeline.lake.tables import Lake
from schemas.errors import FleetError
from schemas.records import Count, Reject
from tests.pipeline.graph.annotate import Annotate, Number


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., JobReport]:
    """Runs numbers as a job that was planned when the lake was empty."""
    empty = Lake.create(str(tmp_path / "lake"))
    versions = empty.versions

    def run(
        *values: int,
        rejects: tuple[Reject, ...] = (),
        known: int = 0,
        stage: Annotate | None = None,
    ) -> JobReport:
        work = Work(
            stage or Annotate(str(tmp_path / "log")),
            [Number(value) for value in values],
            {("annotate", "numbers"): len(values) + known},
            known=(Count("annotate", "numbers", filtered=known),) if known else (),
            rejects=rejects,
        )
        return execute(Lake(empty.url, versions), "annotate", {}, work)

    return run


def rows(tmp_path: Path) -> list[int]:
    """The numbers that are annotated, sorted."""
    found: list[int] = Lake.open(str(tmp_path / "lake")).read("annotations")["t_ns"].to_pylist()
    return sorted(found)


def test_tasks_that_another_run_did_are_dropped(
    run: Callable[..., JobReport], tmp_path: Path
) -> None:
    assert run(1, 2, 3).dropped == 0
    late = run(3, 4, 6)
    assert rows(tmp_path) == [1, 2, 3, 4, 6]
    assert late.dropped == 1
    assert late.counts == (Count("annotate", "numbers", kept=2, filtered=1),)
    assert late.notes[0].startswith("dropped 1 of 3 tasks")


def test_a_run_that_was_overtaken_whole_is_accounted_for(
    run: Callable[..., JobReport], tmp_path: Path
) -> None:
    run(1, 2, 3)
    late = run(1, 3)
    assert rows(tmp_path) == [1, 2, 3]
    assert late.counts == (Count("annotate", "numbers", filtered=2),)
    assert len(Lake.open(str(tmp_path / "lake")).read("runs")) == 2


def test_the_same_run_is_committed_once(run: Callable[..., JobReport], tmp_path: Path) -> None:
    first, second = run(1, 2), run(1, 2)
    assert (first.run_id, first.counts) == (second.run_id, second.counts)
    assert "committed already" in second.notes[0]
    assert rows(tmp_path) == [1, 2]
    assert list((tmp_path / "lake" / "work").iterdir()) == []


class Beaten(Annotate):
    """Whose first task finds that the same run was committed meanwhile, and its inputs deleted."""

    def __init__(self, log: str, first: Callable[..., JobReport]) -> None:
        super().__init__(log)
        self._first = first

    def process(self, task: Number) -> Output:
        """Runs the same run to its end, and fails."""
        self._first(task.value)
        raise RuntimeError("the scratch folder is gone")


def test_a_run_that_is_committed_while_its_task_fails_is_over(
    run: Callable[..., JobReport], tmp_path: Path
) -> None:
    late = run(1, stage=Beaten(str(tmp_path / "log"), run))
    assert "committed already" in late.notes[0]
    assert rows(tmp_path) == [1]


def test_a_task_that_fails_fails_its_run(run: Callable[..., JobReport], tmp_path: Path) -> None:
    def another(value: int) -> JobReport:
        return run(value + 1)

    with pytest.raises(FleetError, match="the scratch folder is gone"):
        run(1, stage=Beaten(str(tmp_path / "log"), another))
    assert rows(tmp_path) == [2]


def test_rejects_of_the_plan_are_there_once(run: Callable[..., JobReport], tmp_path: Path) -> None:
    """Also those of a run without tasks; and without anything new there is no run."""
    rejects = tuple(Reject(uri, "discover", "empty", "no bytes") for uri in ("a", "b"))
    run(rejects=rejects[:1])
    run(1, rejects=rejects)
    run(rejects=rejects)
    lake = Lake.open(str(tmp_path / "lake"))
    assert sorted(lake.read("rejects")["uri"].to_pylist()) == ["a", "b"]
    assert lake.read("runs").num_rows == 2
