"""fleetmill label: events to boxes, tracks, ego paths and samples."""

from __future__ import annotations

import typer

from jobs.options import (
    AsJson,
    ConfigFile,
    InputTimeout,
    LabelFps,
    LakeUrl,
    MaxRejects,
    ModelDirs,
    Models,
    Privacy,
)
from jobs.reporting import Reporter, exit_code, job_documents, show_jobs
from jobs.steps import step
from pipeline.config import LabelConfig, configure, read_file
from pipeline.stages.label import plan_label


def label(
    *,
    lake: LakeUrl,
    models: Models = None,
    models_dir: ModelDirs = None,
    label_fps: LabelFps = None,
    privacy: Privacy = None,
    input_timeout: InputTimeout = None,
    max_reject_fraction: MaxRejects = 0.05,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Decode, label, blur and encode the events, each once.

    Weights are fetched once into FLEETMILL_MODELS (or the user's cache) and checked
    against their hash. Where they cannot be had, the job says so and labels without.
    """
    reporter = Reporter(json)
    flags = {
        "models": models,
        "models_dir": models_dir,
        "fps": label_fps,
        "privacy": privacy,
        "input_timeout_s": input_timeout,
    }
    settings = configure(LabelConfig, read_file(config), flags)
    reports = [step(reporter, lake, "label", settings, plan_label)]
    show_jobs(reporter, reports)
    reporter.document({"jobs": job_documents(reports)})
    raise typer.Exit(exit_code(reporter, reports, max_reject_fraction))
