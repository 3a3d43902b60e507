"""fleetmill sweep: keyframes of whole logs to the table scene."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import (
    AsJson,
    ConfigFile,
    InputTimeout,
    LakeUrl,
    MaxRejects,
    ModelDirs,
    Models,
)
from jobs.reporting import Reporter, exit_code, job_documents, show_jobs
from jobs.steps import step
from pipeline.config import SweepConfig, configure, read_file
from pipeline.stages.sweep import plan_sweep


def sweep(
    *,
    lake: LakeUrl,
    fps: Annotated[
        float | None, typer.Option("--fps", metavar="F", help="Keyframes a second, at most.")
    ] = None,
    models: Models = None,
    models_dir: ModelDirs = None,
    input_timeout: InputTimeout = None,
    max_reject_fraction: MaxRejects = 0.05,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Look at keyframes of whole logs, at a rate, for the triggers that need to see."""
    reporter = Reporter(json)
    flags = {
        "fps": fps,
        "models": models,
        "models_dir": models_dir,
        "input_timeout_s": input_timeout,
    }
    settings = configure(SweepConfig, read_file(config), flags)
    reports = [step(reporter, lake, "sweep", settings, plan_sweep)]
    show_jobs(reporter, reports)
    reporter.document({"jobs": job_documents(reports)})
    raise typer.Exit(exit_code(reporter, reports, max_reject_fraction))
