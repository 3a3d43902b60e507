"""fleetmill mine: triggers over signals, joints, scene and annotations to events."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import AsJson, ConfigFile, LakeUrl, MaxRejects, Triggers
from jobs.reporting import Reporter, exit_code, job_documents, show_jobs
from jobs.results import show_events
from jobs.steps import step
from pipeline.config import MineConfig, configure, read_file
from pipeline.lake.tables import Lake
from pipeline.stages.mine import plan_mine


def mine(
    *,
    lake: LakeUrl,
    triggers: Triggers = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Run this trigger alone; repeatable."),
    ] = None,
    max_reject_fraction: MaxRejects = 0.05,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Find events with triggers. A log is mined with a trigger once."""
    reporter = Reporter(json)
    flags = {"triggers": triggers, "only": only}
    settings = configure(MineConfig, read_file(config), flags)
    reports = [step(reporter, lake, "mine", settings, plan_mine)]
    show_jobs(reporter, reports)
    events = show_events(reporter, Lake.open(lake))
    reporter.document({"jobs": job_documents(reports), "events": events})
    raise typer.Exit(exit_code(reporter, reports, max_reject_fraction))
