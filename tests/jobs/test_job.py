from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from jobs.cli import COMMANDS
from jobs.job import Job, StageRun, run_jobs
from jobs.mine import MINE
from jobs.reporting import Reporter
from jobs.run import JOBS
from pipeline.config import MineConfig
from pipeline.lake.tables import Lake
from pipeline.stages.mine import plan_mine
from schemas.errors import UsageError
from tests.jobs.conftest import Chain

EVERY_JOB = {"--lake", "--max-reject-fraction", "--config", "--json", "--help"}
LIMITS = {"--input-timeout", "--input-memory"}
SETS = {
    "ingest": {
        "--input",
        "--format",
        "--dbc",
        "--can-maps",
        "--topic-maps",
        "--channels",
        "--follow-links",
        *LIMITS,
    },
    "sweep": {"--fps", "--models", "--models-dir", "--privacy", "--policies", *LIMITS},
    "mine": {"--triggers", "--only", "--trigger-timeout"},
    "label": {"--models", "--models-dir", "--label-fps", "--privacy", "--policies", *LIMITS},
    "corpus": {"name", "--topology", "--topologies", "--where", "--payload", "--val-fraction"}
    | {"--privacy", "--where-timeout", "--labels", "--lead"},
}
ONLY_IN_A_FILE = {
    "mine": {"params"},
    "label": {"crf"},
    "corpus": {"frames_fps", "salt"},
}


def flags_of(name: str) -> set[str]:
    """Returns the flags that a command takes, and its arguments in lower case."""
    app = typer.Typer(add_completion=False)
    app.command(name)(COMMANDS.load(name))
    made = typer.main.get_command(app)
    context = made.make_context(name, ["--help"], resilient_parsing=True)
    return {
        max(parameter.opts, key=lambda word: word.startswith("--")).lower()
        for parameter in made.get_params(context)
    }


@pytest.mark.parametrize("name", SETS)
def test_a_command_takes_its_own_flags_and_those_of_every_job(name: str) -> None:
    assert flags_of(name) == SETS[name] | EVERY_JOB


def test_run_takes_the_flags_of_all_jobs() -> None:
    own = set().union(*SETS.values()) - {"--fps", "name"}
    assert flags_of("run") == own | {"--sweep-fps", "--corpus"} | EVERY_JOB


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_every_key_has_a_flag_or_is_set_in_a_file(job: Job[Any]) -> None:
    for flags in (job.flags, job.run_flags):
        keys = {flag.key or flag.parameter for flag in flags}
        assert keys | ONLY_IN_A_FILE.get(job.name, set()) == set(job.config.model_fields)


def job_of_mine(name: str, notes: tuple[str, ...], log: list[str]) -> Job[MineConfig]:
    """A job that mines, and writes down what it is asked to do."""

    def check(_: MineConfig) -> tuple[str, ...]:
        log.append(f"{name}: check")
        if not notes:
            raise UsageError(f"{name} names what does not exist")
        return notes

    def plan(lake: Lake, config: MineConfig) -> Any:
        log.append(f"{name}: plan")
        return plan_mine(lake, config)

    stages = (StageRun("mine", plan), StageRun("never", plan, when=lambda _: False))
    return Job(name, "Help.", MineConfig, (), stages, check=check)


def test_every_job_is_checked_before_the_first_runs(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[str] = []
    jobs = [(job_of_mine(name, ("same note",), log), MineConfig()) for name in ("a", "b")]
    _, reports = run_jobs(Reporter(as_json=True), str(chain.lake), jobs)
    assert log == ["a: check", "b: check", "a: plan", "b: plan"]
    assert [report.job for report in reports] == ["mine", "mine"], "a stage is not needed"
    assert capsys.readouterr().err.count("same note") == 1


def test_a_job_that_fails_its_check_stops_those_before_it(chain: Chain) -> None:
    log: list[str] = []
    jobs = [
        (job_of_mine("a", ("note",), log), MineConfig()),
        (job_of_mine("b", (), log), MineConfig()),
    ]
    with pytest.raises(UsageError, match="b names"):
        run_jobs(Reporter(as_json=True), str(chain.lake), jobs)
    assert log == ["a: check", "b: check"]


@pytest.mark.parametrize("create", [False, True])
def test_only_a_job_that_creates_lakes_makes_one(tmp_path: Path, create: bool) -> None:
    jobs = [(replace(MINE, create=create), MineConfig())]
    url = str(tmp_path / "lake")
    if create:
        _, (report,) = run_jobs(Reporter(as_json=True), url, jobs)
        assert report.tasks == 0
        assert Lake.open(url).url == url
    else:
        with pytest.raises(Exception, match="no lake at"):
            run_jobs(Reporter(as_json=True), url, jobs)
        assert not (tmp_path / "lake").exists()
