"""Declares `fleetmill sweep`: keyframes of whole logs to the table `scene`."""

from __future__ import annotations

from jobs.job import Job, StageRun
from jobs.options import INPUT_MEMORY, INPUT_TIMEOUT, MODELS, MODELS_DIR, POLICIES, Flag
from pipeline.config import SweepConfig
from pipeline.stages.models import ready_models
from pipeline.stages.sweep import plan_sweep

FPS = Flag(
    "--fps",
    "F",
    in_run=Flag(
        "--sweep-fps",
        "F",
        key="fps",
        help="Sweep too, at most this many keyframes a second.",
        requests=True,
    ),
)


def _check(config: SweepConfig) -> tuple[str, ...]:
    return ready_models(config.models, config.models_dir)[1]


SWEEP = Job(
    name="sweep",
    help="""Look at keyframes of whole logs, at a rate.

    Writes the table `scene`, which triggers on brightness, sharpness and objects read.
    Logs that were swept already are skipped.

        fleetmill sweep --lake L --fps 0.5
    """,
    config=SweepConfig,
    flags=(
        FPS,
        MODELS,
        MODELS_DIR,
        Flag("--privacy", "NAME"),
        POLICIES,
        INPUT_TIMEOUT,
        INPUT_MEMORY,
    ),
    stages=(StageRun("sweep", plan_sweep),),
    check=_check,
)
sweep = SWEEP.command()
