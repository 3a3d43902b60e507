"""Declares `fleetmill ingest`: logs to tables."""

from __future__ import annotations

from jobs.job import Job, StageRun
from jobs.options import CAN_MAPS, INPUT_MEMORY, INPUT_TIMEOUT, TOPIC_MAPS, Flag
from pipeline.config import IngestConfig
from pipeline.stages.ingest import plan_ingest, reading
from transforms.can.dbc import Database


def _check(config: IngestConfig) -> tuple[str, ...]:
    Database.load(config.dbc)  # first, as it reads no file that is too long to be one
    reading(config)
    return ()


INGEST = Job(
    name="ingest",
    help="""Read logs into the lake: signals and packet indexes, no pixels.

    Logs that are in the lake already are skipped. An input that cannot be used becomes a
    row of `rejects` with its reason; the others are ingested.

        fleetmill ingest --input drives --lake L
    """,
    config=IngestConfig,
    flags=(
        Flag("--input", "URL"),
        Flag("--format", "NAME"),
        Flag("--dbc", "URL"),
        CAN_MAPS,
        TOPIC_MAPS,
        Flag("--channels"),
        Flag("--follow-links"),
        INPUT_TIMEOUT,
        INPUT_MEMORY,
    ),
    stages=(StageRun("ingest", plan_ingest),),
    create=True,
    check=_check,
)
ingest = INGEST.command()
