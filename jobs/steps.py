"""Runs one job of the pipeline on a lake: open, recover, plan, execute, tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from jobs.reporting import Reporter
from jobs.state import STATE
from pipeline.config import CorpusConfig
from pipeline.graph.balance import JobReport
from pipeline.graph.execute import Work, execute
from pipeline.lake.intents import recover
from pipeline.lake.tables import Lake
from pipeline.stages.corpus import plan_corpus
from pipeline.stages.repack import plan_repack

C = TypeVar("C", bound=BaseModel)


def step(
    reporter: Reporter,
    url: str,
    job: str,
    config: C,
    plan: Callable[[Lake, C], Work],
    *,
    create: bool = False,
) -> JobReport:
    """Does what is left of a job.

    Args:
        reporter: where progress goes.
        url: the lake.
        job: the job's name.
        config: its configuration.
        plan: finds what is left to do.
        create: make the lake if it is not there; a job that only reads what another wrote
            takes that for a mistake.

    Raises:
        FleetError: there is no lake, the configuration is wrong, or the job failed.
    """
    lake = Lake.create(url) if create else Lake.open(url)
    for run_id in recover(lake):
        reporter.note(f"{job}: finished the commit of run {run_id}, which was interrupted")
    try:
        work = plan(lake, config)
        return execute(
            lake,
            job,
            config.model_dump(mode="json"),
            work,
            beam_arguments=STATE.beam,
            on_start=reporter.start,
            on_progress=reporter.progress,
        )
    finally:
        reporter.stop()


def corpus_steps(reporter: Reporter, url: str, config: CorpusConfig) -> list[JobReport]:
    """Builds a corpus; samples of another payload are made from the clips first.

    The last report is the corpus's own.
    """
    reports = []
    if config.payload == "frames":
        reports.append(step(reporter, url, "repack", config, plan_repack))
    return [*reports, step(reporter, url, "corpus", config, plan_corpus)]
