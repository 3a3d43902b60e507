"""Declares `fleetmill mine`: triggers over signals, joints, scene and annotations to events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.job import Job, StageRun
from jobs.options import TRIGGER_TIMEOUT, TRIGGERS, Flag
from jobs.reporting import Reporter
from jobs.results import events_result
from pipeline.config import MineConfig
from pipeline.graph.balance import JobReport
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import read_rows
from pipeline.stages.mine import plan_mine
from transforms.triggers import load_triggers
from transforms.triggers.engine import check_triggers


def _check(config: MineConfig) -> tuple[str, ...]:
    triggers = load_triggers(config.triggers, only=config.only, params=config.params)
    shipped = load_triggers()
    check_triggers([trigger for trigger in triggers if trigger not in shipped])
    return ()


def _show(reporter: Reporter, lake: Lake, reports: Sequence[JobReport]) -> dict[str, Any]:
    """Says which triggers failed, and prints the events."""
    for report in reports:
        if report.job == "mine" and report.rejected_fraction():
            sql = f"SELECT detail FROM rejects WHERE run_id = '{report.run_id}' ORDER BY ALL"  # noqa: S608
            details = read_rows(lake, sql)["detail"].to_pylist()
            if details:
                reporter.note(
                    f"mine: triggers failed {len(details)} times, see the table rejects; "
                    f"the first: {details[0]}"
                )
    return events_result(reporter, lake, reports)


MINE = Job(
    name="mine",
    help="""Find events with triggers.

    A log is mined with a trigger once; a changed trigger is mined again.
    `fleetmill list triggers` shows them, the table `mine.params` of --config sets their
    parameters.

        fleetmill mine --lake L --only hard_brake
    """,
    config=MineConfig,
    flags=(TRIGGERS, Flag("--only", "NAME"), TRIGGER_TIMEOUT),
    stages=(StageRun("mine", plan_mine),),
    check=_check,
    show=_show,
)
mine = MINE.command()
