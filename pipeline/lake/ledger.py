"""The ledger: which subjects a stage is done with, under which configuration, and how each ended.

A job plans its tasks from the ledger, so a subject is processed once for each version and
configuration of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.tables import Lake
from schemas.ids import digest
from schemas.records import Outcome


@dataclass(frozen=True, slots=True)
class Done:
    """One row of the ledger: a subject (a log or event id) that a stage is done with."""

    subject: str
    stage_digest: str
    outcome: Outcome


def stage_digest(**parts: Any) -> str:
    """Identifies a stage's version and configuration, by which the ledger is keyed."""
    return digest("stage", parts)


def done_subjects(lake: Lake, stage: str) -> dict[tuple[str, str], str]:
    """Reads what a stage is done with: (subject, stage_digest) to outcome."""
    rows = lake.read("ledger", columns=["stage", "subject", "stage_digest", "outcome"])
    of_stage = rows.filter(pc.equal(rows["stage"], stage))
    subjects = of_stage["subject"].to_pylist()
    digests = of_stage["stage_digest"].to_pylist()
    outcomes = of_stage["outcome"].to_pylist()
    return dict(zip(zip(subjects, digests, strict=True), outcomes, strict=True))


def landed_since(lake: Lake, planned: Lake, stage: str) -> set[tuple[str, str]]:
    """Returns what other runs did of a stage since a job was planned: (subject, digest).

    Args:
        lake: the lake as it stands.
        planned: the lake at the versions that the job was planned on.
        stage: the stage.
    """
    if lake.versions["ledger"] == planned.versions["ledger"]:
        return set()
    return done_subjects(lake, stage).keys() - done_subjects(planned, stage).keys()


def ledger_rows(stage: str, run_id: str, done: Sequence[Done]) -> pa.Table:
    """Builds the ledger rows of the subjects that a run of a stage is done with."""
    return pa.table(
        {
            "stage": [stage] * len(done),
            "subject": [row.subject for row in done],
            "stage_digest": [row.stage_digest for row in done],
            "outcome": [row.outcome for row in done],
            "run_id": [run_id] * len(done),
        }
    )
