"""Runs a job: plans its graph, runs it, commits, and checks the balance.

A job plans its `Work` from the current lake, so a job that runs twice finds nothing left. A
run's identity is a digest of its configuration and its tasks: a run that was killed and is
started again is the same run, and writes the same files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from pipeline.graph.balance import JobReport, check_balance
from pipeline.graph.commit import Commit
from pipeline.graph.journal import Journal, Left, Messages
from pipeline.graph.progress import OnProgress
from pipeline.graph.runner import Metrics, metrics, pipeline_options, run_to_end
from pipeline.graph.stage import Stage, Task
from pipeline.graph.transforms import CommitRun, Finish, ListTasks, RunStage
from pipeline.lake.intents import RunRow, recover
from pipeline.lake.runs import find_run
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.ids import canonical, digest
from schemas.records import Count, Reject, add_counts, split_rejects
from schemas.redaction import redacted
from transforms.storage import remove


@dataclass(frozen=True, slots=True)
class Work:
    """What a job has to do.

    `known` counts the inputs that an earlier run is done with, `rejects` are the inputs that
    were rejected during planning, `expected` is the number of inputs by (stage, of), which the
    balance is checked against, `scratch` lists folders to delete once the job is done.
    """

    stage: Stage
    tasks: Sequence[Task]
    expected: Mapping[tuple[str, str], int]
    known: tuple[Count, ...] = ()
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()
    finish: Callable[[RunRow], Finish] | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    scratch: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Watch:
    """Takes what a plan that is long tells: what it does and how often, how far it is, notes."""

    start: Callable[[str, int], None]
    progress: Callable[[int], None]
    note: Callable[[str], None]


UNWATCHED = Watch(lambda _name, _total: None, lambda _done: None, lambda _line: None)


def build(
    root: beam.Pipeline,
    lake: Lake,
    journal: Journal,
    *,
    pages: Sequence[str],
    stage: Stage,
    finish: Finish,
) -> PCollection[str]:
    """Builds the graph of a job: list, work, work on what follows from it, commit.

    All of it gets the stage's resource hints: steps with other hints run in worker processes
    of their own on some runners, which costs memory and time without a benefit.

    Args:
        root: the pipeline.
        lake: where tasks read, at pinned versions, and write.
        journal: where the tasks are stored.
        pages: the journal's pages.
        stage: what is done to a task.
        finish: makes the results visible, called once all of them are there.
    """
    name, hints = stage.name, stage.resources
    list_ = ListTasks(journal, pages, name).with_resource_hints(**hints)
    work = RunStage(stage, lake, journal).with_resource_hints(**hints)
    commit = CommitRun(finish, journal, name).with_resource_hints(**hints)
    tasks = root | f"{name}: list" >> list_
    done, more = tasks | f"{name}: work" >> work
    if stage.following is not None:
        follow = RunStage(stage.following, lake, journal).with_resource_hints(**hints)
        followed, _ = more | f"{name}: work on what follows" >> follow
        done = (done, followed) | f"{name}: all work" >> beam.Flatten()
    committed: PCollection[str] = done | f"{name}: commit" >> commit
    return committed


def run_row(
    job: str,
    config: Mapping[str, Any],
    tasks: Sequence[Task],
    rejects: Sequence[Reject] = (),
    is_known: Callable[[str], bool] = lambda _run_id: False,
) -> RunRow:
    """Identifies a run by its configuration and tasks, and says that it begins now.

    A run that was killed and is started again has the same id. Work that a committed run
    could not do (an input took too long) comes again as a run of its own.

    Args:
        job: the job's name.
        config: its configuration, as JSON has it.
        tasks: what there is to do.
        rejects: what was rejected while the tasks were planned.
        is_known: tells whether a run of an id is committed.
    """
    text = canonical(redacted(dict(config))).decode("ascii")
    run_id = digest(
        "run",
        job,
        text,
        sorted(task.key for task in tasks),
        sorted([r.uri, r.stage, r.reason, r.detail] for r in rejects),
    )
    while tasks and is_known(run_id):
        run_id = digest("again", run_id)
    return RunRow(
        run_id=run_id,
        job=job,
        config_digest=digest(text),
        config=text,
        started_ns=time.time_ns(),
    )


def execute(
    lake: Lake,
    job: str,
    config: Mapping[str, Any],
    work: Work,
    *,
    beam_arguments: Sequence[str] = (),
    on_start: Callable[[str, int], None] = lambda _job, _tasks: None,
    on_progress: OnProgress = lambda _done, _following: None,
) -> JobReport:
    """Does the work, commits it, and checks the balance.

    Args:
        lake: the lake as the work was planned on it; afterwards it is pinned to the outcome.
        job: the job's name.
        config: its configuration, for the run's row and identity.
        work: what there is to do.
        beam_arguments: options for Beam.
        on_start: called with the job and the number of tasks.
        on_progress: called with how far the run is, at the end with all of it.

    Raises:
        FleetError: the balance does not hold, or a worker raised one.
    """
    started = time.monotonic()
    rejects, retried = split_rejects(work.rejects)
    run = run_row(
        job, config, work.tasks, rejects, lambda run_id: find_run(lake, run_id) is not None
    )
    run = replace(run, counts=tuple(add_counts(work.known)))
    on_start(job, len(work.tasks))
    stage = work.stage
    finish = (
        Commit(lake, run, stage.name, stage.once, tuple(rejects), new=bool(work.tasks))
        if work.finish is None
        else work.finish(run)
    )
    journal = Journal(lake.url, run.run_id)
    counted: Metrics = {}
    if work.tasks:
        counted = _run_tasks(
            lake, journal, work, finish, beam_arguments=beam_arguments, on_progress=on_progress
        )
        done = counted.get("tasks", 0)
        assert isinstance(done, int)
        following = max(done - len(work.tasks), 0)
        on_progress(len(work.tasks) + following, following)
    elif (work.finish is not None or rejects) and finish([]):
        recover(lake)
    left = Left()
    counts = run.counts
    if work.tasks:
        counts = _committed_counts(lake, run.run_id)
        left = journal.close()
        for folder in work.scratch:
            remove(folder)
    check_balance(job, counts, work.expected)
    internal = left.internal + [reject.detail for reject in rejects if reject.internal]
    return JobReport(
        job=job,
        run_id=run.run_id,
        counts=counts,
        tasks=len(work.tasks),
        seconds=time.monotonic() - started,
        notes=(
            *work.notes,
            *_overtaken(work, counted, left.dropped),
            *_retried(left.retried + [reject.detail for reject in retried]),
            *_internal(internal),
            *_private(left.private),
        ),
        detail=work.detail,
        metrics=counted,
        dropped=left.dropped,
        internal=internal.number,
        private=left.private.number,
    )


def _run_tasks(
    lake: Lake,
    journal: Journal,
    work: Work,
    finish: Finish,
    *,
    beam_arguments: Sequence[str],
    on_progress: OnProgress,
) -> Metrics:
    """Runs the graph to its end."""
    root = beam.Pipeline(options=pipeline_options(beam_arguments))
    pages = journal.plan(work.tasks)
    build(root, lake, journal, pages=pages, stage=work.stage, finish=finish)
    result = run_to_end(root, journal, work.stage.name, on_progress)
    return metrics(result, work.stage.name)


def _overtaken(work: Work, counted: Metrics, dropped: int) -> list[str]:
    """Says what another process did first."""
    if work.tasks and not counted.get("commits"):
        return ["this run was committed already, by another process or an attempt before"]
    if dropped:
        note = f"dropped {dropped} of {len(work.tasks)} tasks: another run did at least a part of "
        return [note + "each first; the rest of them is planned again"]
    return []


def _retried(messages: Messages) -> list[str]:
    """Says what could not be read."""
    if not messages.number:
        return []
    note = f"{messages.number} inputs could not be read, and the next run tries them again; they "
    return [f"{note}are not in the table rejects. The first: {messages.first}"]


def _internal(messages: Messages) -> list[str]:
    """Says which inputs met a bug."""
    if not messages.number:
        return []
    note = f"A BUG in fleetmill or a plug-in cost {messages.number} inputs; everything else was "
    note += "processed. They are in the table rejects, with the reason internal: please report it. "
    return [f"{note}The first: {messages.first}"]


def _private(messages: Messages) -> list[str]:
    """Says what was not written because it could not be found what to hide."""
    if not messages.number:
        return []
    note = f"{messages.number} inputs were NOT WRITTEN, since what has to be hidden on them could "
    return [f"{note}not be found; the next run tries them again. The first: {messages.first}"]


def _committed_counts(lake: Lake, run_id: str) -> tuple[Count, ...]:
    lake.refresh()
    row = find_run(lake, run_id)
    if row is None:  # another process may have queued it, and not be done with it
        recover(lake)
        row = find_run(lake, run_id)
    if row is None:
        raise LakeError(f"{lake.url}: run {run_id} finished but committed no row of `runs`")
    return tuple(Count(**count) for count in row["counts"])
