"""Declares the jobs that run on a lake, and makes their commands.

A job's module states what is its own: configuration, flags, stages, results. Everything else
that a command does is here: read the configuration, open the lake, plan, execute, report.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, TypeVar

import typer

from jobs.options import MAX_REJECTS, AsJson, ConfigFile, Flag, LakeUrl, MaxRejects, optional
from jobs.options import required as required_parameter
from jobs.reporting import Reporter, exit_code, job_documents, show_jobs, show_time
from jobs.state import STATE
from pipeline.config import JobConfig, configure, read_file
from pipeline.graph.balance import JobReport
from pipeline.graph.execute import Watch, Work, execute
from pipeline.graph.journal import clear_journals
from pipeline.graph.runner import pipeline_options
from pipeline.lake.intents import recover
from pipeline.lake.tables import Lake

C = TypeVar("C", bound=JobConfig)

Values = Mapping[str, Any]
"""The values of a command's parameters by name."""

Results = dict[str, Any]
"""What a command adds to its JSON document."""


@dataclass(frozen=True, slots=True)
class StageRun(Generic[C]):
    """A stage that a job runs on the lake, as one row of `runs`.

    Args:
        name: its name in `runs`, in the progress and in the report.
        plan: finds what is left to do.
        when: says whether a configuration needs the stage. None: every one does.
        watched: planning takes long: `plan` gets a Watch too, and tells it how far it is.
    """

    name: str
    plan: Callable[Concatenate[Lake, C, ...], Work]
    when: Callable[[C], bool] | None = None
    watched: bool = False

    def run(self, reporter: Reporter, lake: Lake, config: C) -> list[JobReport]:
        """Plans and executes what is left to do, again where another run overtook this one.

        Raises:
            FleetError: there is no lake, the configuration is wrong, or the job failed.
        """
        reports = [self._run_once(reporter, lake, config)]
        while reports[-1].dropped:
            reports.append(self._run_once(reporter, lake, config))
        return reports

    def _run_once(self, reporter: Reporter, lake: Lake, config: C) -> JobReport:
        watch = (Watch(reporter.start, reporter.progress, reporter.note),) if self.watched else ()
        try:
            work = self.plan(lake, config, *watch)
            reporter.stop()
            return execute(
                lake,
                self.name,
                config.model_dump(mode="json"),
                work,
                beam_arguments=STATE.beam,
                on_start=reporter.start,
                on_progress=reporter.progress,
            )
        finally:
            reporter.stop()


@dataclass(frozen=True, slots=True)
class Job(Generic[C]):
    """A job: the declaration that its command and `fleetmill run` are made from.

    Args:
        name: the subcommand, and the table of the configuration file.
        help: the text of `--help`; its first line is the command's in the overview.
        config: the configuration's model.
        flags: the flags that set its keys.
        stages: what it runs, in order.
        create: make the lake if there is none. A job that only reads what another wrote
            reports a missing lake as an error.
        check: looks up what the configuration names, before any job starts. Returns notes for
            the user; raises a UsageError if a name does not exist.
        show: prints the job's results and returns them for the JSON document. It gets the
            reporter, the lake after all jobs, and their reports, its own last.
    """

    name: str
    help: str
    config: type[C]
    flags: tuple[Flag, ...]
    stages: tuple[StageRun[C], ...]
    create: bool = False
    check: Callable[[C], Iterable[str]] | None = None
    show: Callable[[Reporter, Lake, Sequence[JobReport]], Results] | None = None

    @property
    def run_flags(self) -> tuple[Flag, ...]:
        """The job's flags in `fleetmill run`."""
        return tuple(flag.in_run or flag for flag in self.flags)

    def configure(
        self, tables: Mapping[str, Mapping[str, Any]], flags: Iterable[Flag], values: Values
    ) -> C:
        """Makes the job's configuration from the file's tables and the flags' values."""
        given = {flag.key or flag.parameter: flag.value(values) for flag in flags}
        return configure(self.config, tables, given)

    def run(self, reporter: Reporter, lake: Lake, config: C) -> list[JobReport]:
        """Runs the stages that the configuration needs."""
        needed = [stage for stage in self.stages if stage.when is None or stage.when(config)]
        runs = [stage.run(reporter, lake, config) for stage in needed]
        return [report for reports in runs for report in reports]

    def command(self) -> Callable[..., None]:
        """Makes the job's subcommand."""
        flags = [flag.signature(self.config) for flag in self.flags]
        return command(self.name, self.help, flags, self._run_alone)

    def _run_alone(self, reporter: Reporter, values: Values) -> None:
        config = self.configure(read_file(values["config"]), self.flags, values)
        run_command(reporter, values, [(self, config)], {})


Configured = tuple[Job[Any], Any]
"""A job and its configuration."""


def command(
    name: str,
    text: str,
    flags: Iterable[inspect.Parameter],
    call: Callable[[Reporter, Values], None],
) -> Callable[..., None]:
    """Makes a function that typer turns into a subcommand with the flags of every job.

    Args:
        name: the subcommand.
        text: its help.
        flags: the flags of its own.
        call: what it does, given the values of all flags by parameter.
    """

    def function(**values: Any) -> None:
        call(Reporter(values["json"]), values)

    # Typer reads a command's flags from the signature of its function.
    described: Any = function
    described.__name__, described.__doc__ = name, text
    described.__annotations__ = {}
    described.__signature__ = inspect.Signature(
        [
            required_parameter("lake", LakeUrl),
            *flags,
            optional("max_reject_fraction", MaxRejects, MAX_REJECTS),
            optional("config", ConfigFile, None),
            optional("json", AsJson, False),
        ]
    )
    return function


def run_jobs(
    reporter: Reporter, lake: str, jobs: Sequence[Configured]
) -> tuple[Lake, list[JobReport]]:
    """Runs jobs one after the other, once all of their configurations are checked.

    Returns:
        The lake after them, and what they report.

    Raises:
        FleetError: a name does not exist, there is no lake, or a job failed.
    """
    pipeline_options(STATE.beam)  # Beam refuses what is wrong there, before the first job
    notes = [note for job, config in jobs if job.check for note in job.check(config)]
    for note in dict.fromkeys(notes):
        reporter.note(note)
    # One object for all of them, which reads again only what was added to the lake.
    opened = Lake.create(lake) if any(job.create for job, _ in jobs) else Lake.open(lake)
    for run_id in recover(opened, opened_now=True):
        reporter.note(f"finished the commit of run {run_id}, which was interrupted")
    clear_journals(opened)
    return opened, [r for job, config in jobs for r in job.run(reporter, opened, config)]


def run_command(
    reporter: Reporter, values: Values, jobs: Sequence[Configured], results: Results
) -> None:
    """Runs jobs, prints what they report and ends the command.

    Args:
        reporter: where progress and results go.
        values: those of the flags.
        jobs: the jobs in order.
        results: what the JSON document says where a job that is not run would say it.

    Raises:
        typer.Exit: always, with the exit code.
        FleetError: a name does not exist, there is no lake, or a job failed.
    """
    lake, reports = run_jobs(reporter, values["lake"], jobs)
    show_jobs(reporter, reports)
    for job, _ in jobs:
        if job.show is not None:
            results |= job.show(reporter, lake, reports)
    show_time(reporter, reports)
    reporter.document({"jobs": job_documents(reports), **results})
    raise typer.Exit(exit_code(reporter, reports, values["max_reject_fraction"]))
