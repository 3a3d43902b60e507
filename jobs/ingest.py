"""fleetmill ingest: logs to tables."""

from __future__ import annotations

import typer

from jobs.options import (
    AsJson,
    Channels,
    ConfigFile,
    Dbc,
    Format,
    Inputs,
    InputTimeout,
    LakeUrl,
    MaxRejects,
)
from jobs.reporting import Reporter, exit_code, job_documents, show_jobs
from jobs.steps import step
from pipeline.config import IngestConfig, configure, read_file
from pipeline.stages.ingest import plan_ingest


def ingest(
    *,
    lake: LakeUrl,
    input: Inputs = None,  # noqa: A002 - the flag is --input
    format: Format = None,  # noqa: A002 - the flag is --format
    dbc: Dbc = None,
    channels: Channels = None,
    input_timeout: InputTimeout = None,
    max_reject_fraction: MaxRejects = 0.05,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Read logs into the lake: signals and packet indexes, no pixels.

    Logs that the lake has already are left out. An input that cannot be used becomes a
    row of `rejects` with its reason; the rest goes on.
    """
    reporter = Reporter(json)
    flags = {
        "input": input,
        "format": format,
        "dbc": dbc,
        "channels": channels,
        "input_timeout_s": input_timeout,
    }
    settings = configure(IngestConfig, read_file(config), flags)
    reports = [step(reporter, lake, "ingest", settings, plan_ingest, create=True)]
    show_jobs(reporter, reports)
    reporter.document({"jobs": job_documents(reports)})
    raise typer.Exit(exit_code(reporter, reports, max_reject_fraction))
