"""Runs that were planned on the same lake: whatever the order, the rows are those of one run."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import IngestConfig, JobConfig, LabelConfig, MineConfig, SweepConfig
from pipeline.graph.balance import JobReport
from pipeline.graph.execute import Work, execute
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from pipeline.stages.ingest import plan_ingest
from pipeline.stages.label import plan_label
from pipeline.stages.mine import plan_mine
from pipeline.stages.sweep import plan_sweep
from tests.pipeline.stages.conftest import LABEL, Small

Plan = Callable[[Lake, Any], Work]

ROWS = ("logs", "videos", "frames", "signals", "annotations", "scene", "events", "parts")
"""Tables whose rows may not be there twice."""


def planned(small: Small, plan: Plan, config: JobConfig) -> Callable[[], JobReport]:
    """Plans a job on the lake as it stands; returns what executes it later."""
    lake = small.lake()
    work = plan(lake, config)
    name = work.stage.name
    return lambda: execute(lake, name, config.model_dump(mode="json"), work)


def contents(small: Small) -> dict[str, list[str]]:
    """The rows of every table, without the packs that they are in."""
    left_out = {"pack_uri", "offset"}
    return {
        table: sorted(
            repr([(k, v) for k, v in row.items() if k not in left_out]) for row in small.rows(table)
        )
        for table in ROWS
    }


def finish(small: Small, jobs: list[tuple[Plan, JobConfig]]) -> None:
    """Runs jobs until nothing is left to do."""
    for plan, config in jobs:
        while small.run(plan, config).dropped:
            pass


def ingests(fleet: Path, tmp_path: Path) -> tuple[Small, list[tuple[Plan, JobConfig]]]:
    """An empty lake, and two overlapping ingests of the fleet."""
    drives = sorted(str(path) for path in fleet.glob("*/TeslaCam/*/*"))
    assert len(drives) == 2
    lake = Lake.create(str(tmp_path / "lake"))
    configs = [IngestConfig(input=(drives[0],)), IngestConfig(input=tuple(drives))]
    return Small(fleet, lake.url), [(plan_ingest, config) for config in configs]


@pytest.mark.parametrize("first", [0, 1])
def test_a_log_that_another_run_ingested_is_dropped_and_the_rest_is_planned_again(
    mined_once: Small, tmp_path: Path, first: int
) -> None:
    small, jobs = ingests(mined_once.fleet, tmp_path)
    runs = [planned(small, plan, config) for plan, config in jobs]
    assert runs[first]().dropped == 0
    late = runs[1 - first]()
    assert late.dropped == 1
    assert "dropped 1 of 1 tasks" in late.notes[-1]
    assert all(count.kept == 0 for count in late.counts if count.of == "logs")
    finish(small, jobs)
    logs = [row["log_id"] for row in small.rows("logs")]
    assert sorted(logs) == sorted(row["log_id"] for row in mined_once.rows("logs"))
    assert verify(small.url).problems == ()


def test_the_same_run_twice_is_committed_once(mined_once: Small, tmp_path: Path) -> None:
    small, jobs = ingests(mined_once.fleet, tmp_path)
    runs = [planned(small, *jobs[1]) for _ in range(2)]
    assert not runs[0]().notes
    again = runs[1]()
    assert again.notes == (
        "this run was committed already, by another process or an attempt before",
    )
    assert len(small.rows("logs")) == 2
    assert len(small.rows("runs")) == 1


@pytest.mark.parametrize(
    ("plan", "configs"),
    [
        (plan_sweep, (SweepConfig(fps=1.0, models=()), SweepConfig(fps=0.5, models=()))),
        (plan_label, (LABEL, LABEL.model_copy(update={"input_timeout_s": 800.0}))),
        (plan_mine, (MineConfig(only=("uniform_sample",)), MineConfig())),
    ],
)
def test_a_subject_is_done_once_by_runs_of_another_configuration(
    mined: Small, plan: Plan, configs: tuple[JobConfig, JobConfig]
) -> None:
    """Of two sweeps the first counts; labelling and mining take what is equal once."""
    if plan is plan_mine:  # so that there is something to mine
        finish(mined, [(plan_sweep, SweepConfig(fps=1.0, models=()))])
    runs = [planned(mined, plan, config) for config in configs]
    runs[0]()
    expected = contents(mined)
    runs[1]()
    if plan is not plan_mine:
        assert contents(mined) == expected
    assert all(len(set(rows)) == len(rows) for rows in contents(mined).values())
    assert verify(mined.url).problems == ()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_schedules_end_in_the_rows_of_one_process(
    mined_once: Small, tmp_path: Path, seed: int
) -> None:
    """Jobs are planned and executed in a random order, each plan as old as it happens to be."""
    dice = random.Random(seed)  # noqa: S311 - a test's choice
    small, starts = ingests(mined_once.fleet, tmp_path / "random")
    other, _ = ingests(mined_once.fleet, tmp_path / "one")
    labels: list[LabelConfig] = [LABEL, LABEL.model_copy(update={"privacy": "none"})]
    jobs: list[tuple[Plan, JobConfig]] = [
        *starts,
        (plan_sweep, SweepConfig(fps=1.0, models=())),
        (plan_mine, MineConfig()),
        *((plan_label, config) for config in labels),
    ]
    waiting: list[Callable[[], JobReport]] = []
    for _ in range(10):
        if waiting and dice.random() < 0.5:
            waiting.pop(dice.randrange(len(waiting)))()
        else:
            waiting.append(planned(small, *dice.choice(jobs)))
    for run in waiting:
        run()
    finish(small, jobs)
    finish(other, jobs)
    assert contents(small) == contents(other)
    assert verify(small.url).problems == ()
