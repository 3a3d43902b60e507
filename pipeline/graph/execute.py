"""Runs a job: the tasks that are left, the graph that runs them, the balance that proves it.

A job plans its `Work` from the lake as it stands, so a job run twice finds nothing left. A
run's identity is a digest of its configuration and its tasks: a run that was killed and is
started again is the same run, and writes the same files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from pipeline.graph.balance import JobReport, check_balance
from pipeline.graph.journal import Journal
from pipeline.graph.runner import Metrics, metrics, pipeline_options, run_to_end
from pipeline.graph.stage import Stage, Task, TaskResult, reject_rows
from pipeline.graph.transforms import CommitRun, Finish, ListTasks, RunStage
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.ids import canonical, digest
from schemas.records import AddFile, Count, Reject, add_counts
from transforms.storage import names, remove


@dataclass(frozen=True, slots=True)
class Work:
    """What a job found to do.

    `known` counts what a former run is already done with, `rejects` what was rejected
    before it reached a worker, `expected` the number of inputs by (stage, of) that the
    balance has to come to, `scratch` folders to delete once the job is done.
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
class Commit:
    """The last step of a job that appends to tables.

    Args:
        lake: the lake.
        run: the run's row; the counts of its tasks are added to it.
        adds: files to commit beside those of the tasks.
    """

    lake: Lake
    run: RunRow
    adds: tuple[AddFile, ...] = ()

    def __call__(self, results: Sequence[TaskResult]) -> None:
        """Commits the files of every task, the run's row last."""
        counts = add_counts([*self.run.counts, *(c for r in results for c in r.counts)])
        adds = [*self.adds, *(add for r in results for add in r.adds)]
        commit(self.lake, replace(self.run, counts=tuple(counts)), adds)


def build(
    root: beam.Pipeline,
    lake: Lake,
    journal: Journal,
    *,
    pages: Sequence[str],
    stage: Stage,
    finish: Finish,
) -> PCollection[str]:
    """Builds the graph of a job: list, work, commit.

    All of it gets the stage's resource hints: steps with other hints run in worker processes
    of their own on some runners, which costs memory and time and helps nobody here.

    Args:
        root: the pipeline.
        lake: where tasks read, at pinned versions, and write.
        journal: where the tasks are written down.
        pages: the journal's pages.
        stage: what is done to a task.
        finish: makes the results visible, called once all of them are there.
    """
    name, hints = stage.name, stage.resources
    list_ = ListTasks(journal, pages, name).with_resource_hints(**hints)
    work = RunStage(stage, lake, journal).with_resource_hints(**hints)
    commit = CommitRun(finish, lake, journal, name).with_resource_hints(**hints)
    tasks = root | f"{name}: list" >> list_
    done, _ = tasks | f"{name}: work" >> work
    committed: PCollection[str] = done | f"{name}: commit" >> commit
    return committed


def run_row(
    job: str,
    config: Mapping[str, Any],
    tasks: Sequence[Task],
    rejects: Sequence[Reject] = (),
    committed: Set[str] = frozenset(),
) -> RunRow:
    """Identifies a run by its configuration and tasks, and says that it begins now.

    A run that was killed and is started again has the same id. Work that a committed run
    could not do (an input took too long) comes again as a run of its own.

    Args:
        job: the job's name.
        config: its configuration, as JSON has it.
        tasks: what there is to do.
        rejects: what was rejected while the tasks were planned.
        committed: ids of committed runs.
    """
    text = canonical(dict(config)).decode("ascii")
    run_id = digest(
        "run",
        job,
        text,
        sorted(task.key for task in tasks),
        sorted([r.uri, r.stage, r.reason, r.detail] for r in rejects),
    )
    while tasks and run_id in committed:
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
    on_progress: Callable[[int], None] = lambda _done: None,
) -> JobReport:
    """Does the work, commits it, and checks the balance.

    Args:
        lake: the lake as the work was planned on it.
        job: the job's name.
        config: its configuration, for the run's row and identity.
        work: what there is to do.
        beam_arguments: options for Beam.
        on_start: told the job and the number of tasks.
        on_progress: told how many tasks are done, at last all of them.

    Raises:
        FleetError: the balance does not hold, or a worker raised one.
    """
    started = time.monotonic()
    committed = set(lake.read("runs", columns=["run_id"])["run_id"].to_pylist())
    _clear_journals(lake, committed)
    run = run_row(job, config, work.tasks, work.rejects, committed)
    run = replace(run, counts=tuple(add_counts(work.known)))
    on_start(job, len(work.tasks))
    adds = _write_rejects(lake, work.rejects, run.run_id)
    finish = Commit(lake, run, adds) if work.finish is None else work.finish(run)
    counted: Metrics = {}
    counts = run.counts
    if work.tasks:
        counted = _run_tasks(
            lake, run, work, finish, beam_arguments=beam_arguments, on_progress=on_progress
        )
        on_progress(len(work.tasks))
        counts = _committed_counts(lake, run.run_id)
    elif work.finish is not None or adds:
        finish([])
    check_balance(job, counts, work.expected)
    return JobReport(
        job=job,
        run_id=run.run_id,
        counts=counts,
        tasks=len(work.tasks),
        seconds=time.monotonic() - started,
        notes=work.notes,
        detail=work.detail,
        metrics=counted,
    )


def _run_tasks(
    lake: Lake,
    run: RunRow,
    work: Work,
    finish: Finish,
    *,
    beam_arguments: Sequence[str],
    on_progress: Callable[[int], None],
) -> Metrics:
    """Runs the graph; the journal and the scratch folders go once it has ended well."""
    journal = Journal(lake.url, run.run_id)
    root = beam.Pipeline(options=pipeline_options(beam_arguments))
    pages = journal.plan(work.tasks)
    build(root, lake, journal, pages=pages, stage=work.stage, finish=finish)
    result = run_to_end(root, journal, run.job, on_progress)
    for folder in (journal.folder, *work.scratch):
        remove(folder)
    return metrics(result, work.stage.name)


def _clear_journals(lake: Lake, committed: Set[str]) -> None:
    """Deletes the journals of committed runs.

    A run removes its own. But the job of a client that was killed lives on, and may write
    into the journal after the same command, started again, has committed the run.
    """
    for run_id in names(f"{lake.url}/work"):
        if run_id in committed:
            remove(f"{lake.url}/work/{run_id}")


def _write_rejects(lake: Lake, rejects: Sequence[Reject], run_id: str) -> tuple[AddFile, ...]:
    """Writes the rejects that the lake does not have yet."""
    if not rejects:
        return ()
    rows = lake.read("rejects", columns=["uri", "stage", "reason", "detail"]).to_pylist()
    known = {(row["uri"], row["stage"], row["reason"], row["detail"]) for row in rows}
    fresh = [r for r in rejects if (r.uri, r.stage, r.reason, r.detail) not in known]
    return tuple(lake.write("rejects", reject_rows(fresh, run_id), digest("rejects", run_id)))


def _committed_counts(lake: Lake, run_id: str) -> tuple[Count, ...]:
    after = Lake.open(lake.url)
    for row in after.read("runs").to_pylist():
        if row["run_id"] == run_id:
            return tuple(Count(**count) for count in row["counts"])
    raise LakeError(f"{lake.url}: run {run_id} finished but committed no row of `runs`")
