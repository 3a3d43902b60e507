"""Declares `fleetmill label`: events to boxes, tracks, ego paths and samples."""

from __future__ import annotations

from auto_label.models import load_models
from jobs.job import Job, StageRun
from jobs.options import INPUT_TIMEOUT, MODELS, MODELS_DIR, Flag
from pipeline.config import LabelConfig
from pipeline.stages.label import plan_label


def _check(config: LabelConfig) -> tuple[str, ...]:
    load_models(config.models, config.models_dir)
    return ()


LABEL = Job(
    name="label",
    help="""Decode, label, blur and encode the events.

    Every event is labelled once. Weights are downloaded once into FLEETMILL_MODELS (or the
    user's cache) and checked against their hash. Where they cannot be had, the job says
    so and labels without them.

        fleetmill label --lake L --label-fps 2
    """,
    config=LabelConfig,
    flags=(
        MODELS,
        MODELS_DIR,
        Flag("--label-fps", "F", key="fps"),
        Flag("--privacy"),
        INPUT_TIMEOUT,
    ),
    stages=(StageRun("label", plan_label),),
    check=_check,
)
label = LABEL.command()
