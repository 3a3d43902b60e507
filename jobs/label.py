"""Declares `fleetmill label`: events to boxes, tracks, ego paths and samples."""

from __future__ import annotations

from jobs.job import Job, StageRun
from jobs.options import INPUT_MEMORY, INPUT_TIMEOUT, MODELS, MODELS_DIR, POLICIES, Flag
from pipeline.config import LabelConfig
from pipeline.stages.label import plan_label
from pipeline.stages.models import ready_models, ready_pixels


def _check(config: LabelConfig) -> tuple[str, ...]:
    notes = ready_models(config.models, config.models_dir)[1]
    return notes + ready_pixels(config)[2]


LABEL = Job(
    name="label",
    help="""Decode, label, cover and encode the events.

    What is done is not done again: another model looks at the events and makes new labels, and
    leaves the clips as they are. Weights are downloaded once into FLEETMILL_MODELS (or the
    user's cache) and checked against their hash. Where those of the default
    model cannot be had, the job says so first and labels without; a model that is named has
    to be there.

    Faces, heads and licence plates are covered before pictures are written, as the policy says
    (`fleetmill list policies`). If a model that it needs is missing, nothing is written.

        fleetmill label --lake L --label-fps 2
    """,
    config=LabelConfig,
    flags=(
        MODELS,
        MODELS_DIR,
        Flag("--label-fps", "F", key="fps"),
        Flag("--privacy", "NAME"),
        POLICIES,
        INPUT_TIMEOUT,
        INPUT_MEMORY,
    ),
    stages=(StageRun("label", plan_label),),
    check=_check,
)
label = LABEL.command()
