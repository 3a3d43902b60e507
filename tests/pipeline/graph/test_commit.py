"""The commit of a run that another one may have overtaken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.graph.balance import JobReport
from pipeline.graph.execute import Work, execute
from pipeline.lake.tables import Lake
from schemas.records import Count, Reject
from tests.pipeline.graph.annotate import Annotate, Number


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., JobReport]:
    """Runs numbers as a job that was planned when the lake was empty."""
    empty = Lake.create(str(tmp_path / "lake"))
    versions = empty.versions

    def run(*values: int, rejects: tuple[Reject, ...] = (), known: int = 0) -> JobReport:
        work = Work(
            Annotate(str(tmp_path / "log")),
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


def test_rejects_of_the_plan_are_there_once(run: Callable[..., JobReport], tmp_path: Path) -> None:
    """Also those of a run without tasks; and without anything new there is no run."""
    rejects = tuple(Reject(uri, "discover", "empty", "no bytes") for uri in ("a", "b"))
    run(rejects=rejects[:1])
    run(1, rejects=rejects)
    run(rejects=rejects)
    lake = Lake.open(str(tmp_path / "lake"))
    assert sorted(lake.read("rejects")["uri"].to_pylist()) == ["a", "b"]
    assert lake.read("runs").num_rows == 2
