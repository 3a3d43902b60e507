"""`fleetmill run`: every job of the pipeline, one after the other."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from jobs.corpus import CORPUS
from jobs.ingest import INGEST
from jobs.job import Configured, Job, Values, command, run_command
from jobs.label import LABEL
from jobs.mine import MINE
from jobs.options import Flag
from jobs.reporting import Reporter
from jobs.sweep import SWEEP
from pipeline.config import read_file
from schemas.errors import UsageError

JOBS: tuple[Job[Any], ...] = (INGEST, SWEEP, MINE, LABEL, CORPUS)

HELP = """Ingest, sweep, mine, label and build a corpus in one go.

Every job skips what an earlier run has done. Stop it at any time and run the same
command again: it ends in the same bytes. The sweep runs only with --sweep-fps, and a
corpus is built only with --corpus (or with their tables in the --config file).

    fleetmill run --input drives --lake L --corpus first --topology dojo-tray
"""


def configure_jobs(
    tables: Mapping[str, Mapping[str, Any]], values: Values
) -> tuple[Configured, ...]:
    """Chooses the jobs to run and makes their configurations.

    Args:
        tables: the configuration file.
        values: those of the flags by parameter; an absent one was not given.

    Raises:
        UsageError: a key or a value is not allowed, or a flag belongs to a job that was not
            requested.
    """
    wanted = [job for job in JOBS if _is_wanted(job, tables, values)]
    known = {flag.name for job in wanted for flag in job.run_flags}
    for job in JOBS:
        request = _request(job)
        others = [flag for flag in job.run_flags if flag.name not in known]
        given = [flag.name for flag in others if flag.value(values) is not None]
        if given and request is not None:
            raise UsageError(
                f"{' and '.join(given)} given without {request.name}: add {request.name} "
                f"{request.metavar}, without which the job {job.name} does not run"
            )
    return tuple((job, job.configure(tables, job.run_flags, values)) for job in wanted)


def _request(job: Job[Any]) -> Flag | None:
    return next((flag for flag in job.run_flags if flag.requests), None)


def _is_wanted(job: Job[Any], tables: Mapping[str, Mapping[str, Any]], values: Values) -> bool:
    """Decides whether a job runs.

    One that runs on request is requested by its flag, or by a table of the configuration file
    that has every key without a default.
    """
    request = _request(job)
    if request is None or request.value(values) is not None:
        return True
    required = {key for key, field in job.config.model_fields.items() if field.is_required()}
    return job.name in tables and required <= tables[job.name].keys()


def _parameters() -> list[inspect.Parameter]:
    """Makes one parameter for each flag of any job, under a heading that names its jobs."""
    first: dict[str, tuple[Flag, Job[Any]]] = {}
    users: dict[str, list[str]] = {}
    for job in JOBS:
        for flag in job.run_flags:
            first.setdefault(flag.name, (flag, job))
            users.setdefault(flag.name, []).append(job.name)
    return [
        flag.signature(job.config, f"Options of {', '.join(users[name])}")
        for name, (flag, job) in first.items()
    ]


def _run(reporter: Reporter, values: Values) -> None:
    jobs = configure_jobs(read_file(values["config"]), values)
    run_command(reporter, values, jobs, {"events": {}, "snapshot": None})


run = command("run", HELP, _parameters(), _run)
