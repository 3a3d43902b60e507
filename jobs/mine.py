"""Declares `fleetmill mine`: triggers over signals, joints, scene and annotations to events."""

from __future__ import annotations

from jobs.job import Job, StageRun
from jobs.options import TRIGGERS, Flag
from jobs.results import events_result
from pipeline.config import MineConfig
from pipeline.stages.mine import plan_mine
from transforms.triggers import load_triggers


def _check(config: MineConfig) -> tuple[str, ...]:
    load_triggers(config.triggers, only=config.only, params=config.params)
    return ()


MINE = Job(
    name="mine",
    help="""Find events with triggers.

    A log is mined with a trigger once; a changed trigger is mined again.
    `fleetmill list triggers` shows them, the table `mine.params` of --config sets their
    parameters.

        fleetmill mine --lake L --only hard_brake
    """,
    config=MineConfig,
    flags=(TRIGGERS, Flag("--only", "NAME")),
    stages=(StageRun("mine", plan_mine),),
    check=_check,
    show=events_result,
)
mine = MINE.command()
