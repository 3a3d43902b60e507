"""Runs a job: what is left to do, the graph that does it, the balance that proves it.

A job's driver plans `Work` from the lake as it stands, so a job run twice finds nothing
left. The run's identity is a digest of its configuration and its tasks: a run that was
killed and is started again is the same run, and writes the same files.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pyarrow.compute as pc
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState
from fsspec.implementations.local import LocalFileSystem

from pipeline.graph.balance import JobReport, check_balance
from pipeline.graph.journal import Journal
from pipeline.graph.stage import Stage, Task, TaskResult, reject_rows
from pipeline.graph.transforms import Finish, build
from pipeline.lake.tables import Lake, RunRow
from schemas.errors import FleetError, LakeError
from schemas.ids import canonical, digest
from schemas.records import AddFile, Count, Reject, add_counts
from transforms.storage import filesystem, names, remove

LOCAL_OPTIONS = (
    "--runner=FnApiRunner",
    "--direct_running_mode=multi_threading",
    "--direct_num_workers=0",
)
"""The local default: threads, one a core. Decoding, models and Parquet release the GIL."""

_LOCAL_POLL_S = 0.25
_REMOTE_POLL_S = 5.0

_RAISED = re.compile(r"^(?:\w+\.)*(\w+): (.*) \[while running '", re.M)


@dataclass(frozen=True, slots=True)
class Work:
    """What a job found to do.

    `known` counts what a former run is already done with, `rejects` what was refused
    before it reached a worker, `expected` the number of inputs by (stage, of) that the
    balance has to come to, `scratch` folders of no use once the job is done.
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
    """The last step of a job that appends to tables: one transaction a table."""

    lake: Lake
    run: RunRow
    adds: tuple[AddFile, ...] = ()

    def __call__(self, results: Sequence[TaskResult]) -> None:
        """Commits every file of every task, the run's row last."""
        counts = add_counts([*self.run.counts, *(c for r in results for c in r.counts)])
        run = RunRow(
            run_id=self.run.run_id,
            job=self.run.job,
            config_digest=self.run.config_digest,
            config=self.run.config,
            started_ns=self.run.started_ns,
            counts=tuple(counts),
        )
        self.lake.commit(run, [*self.adds, *(add for r in results for add in r.adds)])


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Makes Beam's options: ours for a local run unless a runner is named."""
    named = any(a == "--runner" or a.startswith("--runner=") for a in arguments)
    options: list[str] = list(arguments) if named else [*LOCAL_OPTIONS, *arguments]
    return PipelineOptions(options, save_main_session=False)


def run_graph(
    lake: Lake,
    journal: Journal,
    work: Work,
    finish: Finish,
    *,
    beam_arguments: Sequence[str] = (),
    on_progress: Callable[[int], None] = lambda _done: None,
) -> dict[str, int | dict[str, float]]:
    """Runs the graph to its end.

    Args:
        lake: the lake that the tasks read and write.
        journal: the run's journal, still to be written.
        work: what there is to do.
        finish: the last step.
        beam_arguments: options for Beam.
        on_progress: told now and then how many tasks are done.

    Returns:
        What Beam counted, by name; of a distribution its sum, count, least and most.

    Raises:
        FleetError: what a worker raised on purpose, as it was raised, where Beam lets it
            through.
    """
    root = beam.Pipeline(options=pipeline_options(beam_arguments))
    pages = journal.plan(work.tasks)
    build(root, lake, journal, pages=pages, stage=work.stage, finish=finish)
    with _watching(journal, on_progress):
        try:
            result = root.run()
            state = _wait(result)
        except RuntimeError as error:
            refused = _refusal(str(error))
            if refused is None:
                raise
            raise refused from error
    if state not in {None, PipelineState.DONE}:
        raise FleetError(
            f"the {work.stage.name} job ended as {state}; its runner's log says why. "
            "Nothing of it is visible: run the same command again"
        )
    return _metrics(result, work.stage.name)


def _wait(result: PipelineResult) -> str | None:
    try:
        state: str | None = result.wait_until_finish()
    except KeyboardInterrupt:
        result.cancel()
        raise
    return state


@contextmanager
def _watching(journal: Journal, on_progress: Callable[[int], None]) -> Iterator[None]:
    """Tells how many tasks are done: from the journal, for the workers may be anywhere."""
    fs, _ = filesystem(journal.folder)
    seconds = _LOCAL_POLL_S if isinstance(fs, LocalFileSystem) else _REMOTE_POLL_S
    over = threading.Event()

    def watch() -> None:
        told = 0
        while not over.wait(seconds):
            done = journal.done()
            if done > told:
                on_progress(told := done)

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _metrics(result: PipelineResult, stage: str) -> dict[str, int | dict[str, float]]:
    """Reads what our steps counted; a runner has counters of its own, too."""
    found = result.metrics().query(MetricsFilter().with_namespace(stage))
    values: dict[str, int | dict[str, float]] = {}
    for counter in found["counters"]:
        # Prism has no result where nothing was added.
        values[counter.key.metric.name] = counter.result or 0
    for one in found["distributions"]:
        seen = one.result
        values[one.key.metric.name] = {
            "sum": seen.sum,
            "count": seen.count,
            "min": seen.min,
            "max": seen.max,
        }
    return dict(sorted(values.items()))


def _refusal(text: str) -> FleetError | None:
    """Finds the error that a worker raised on purpose in what its runner made of it.

    Runners pass a worker's error on as the text of its traceback: the class survives by
    name alone.
    """
    classes = {cls.__name__: cls for cls in _descendants(FleetError)}
    for name, message in reversed(_RAISED.findall(text)):
        if name in classes:
            return classes[name](message)
    return None


def _descendants(cls: type[FleetError]) -> Iterable[type[FleetError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _descendants(child)


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
        FleetError: the balance does not hold, or a worker refused.
    """
    started = time.time_ns()
    text = canonical(dict(config)).decode("ascii")
    committed = set(lake.read("runs", columns=["run_id"])["run_id"].to_pylist())
    _clear_journals(lake, committed)
    run_id = _run_id(job, text, work, committed)
    fresh = _fresh_rejects(lake, work.rejects)
    counts = tuple(add_counts(work.known))
    run = RunRow(
        run_id=run_id,
        job=job,
        config_digest=digest(text),
        config=text,
        started_ns=started,
        counts=counts,
    )
    on_start(job, len(work.tasks))
    adds: list[AddFile] = []
    if fresh:
        adds = lake.write("rejects", reject_rows(fresh, run_id), digest("rejects", run_id))
    metrics: Mapping[str, Any] = {}
    if work.tasks:
        journal = Journal(lake.url, run_id)
        metrics = run_graph(
            lake,
            journal,
            work,
            Commit(lake, run, tuple(adds)) if work.finish is None else work.finish(run),
            beam_arguments=beam_arguments,
            on_progress=on_progress,
        )
        on_progress(len(work.tasks))
        counts = _committed_counts(lake, run_id)
        for folder in (journal.folder, *work.scratch):
            remove(folder)
    elif work.finish is not None:
        work.finish(run)([])
    elif adds:
        lake.commit(run, adds)
    check_balance(job, counts, work.expected)
    return JobReport(
        job=job,
        run_id=run_id,
        counts=counts,
        tasks=len(work.tasks),
        seconds=(time.time_ns() - started) / 1e9,
        notes=work.notes,
        detail=work.detail,
        metrics=metrics,
    )


def _clear_journals(lake: Lake, committed: Set[str]) -> None:
    """Deletes the journals of committed runs.

    A run removes its own. But the job of a client that was killed lives on, and may write
    into the journal after the same command, started again, has committed the run.
    """
    for run_id in names(f"{lake.url}/work"):
        if run_id in committed:
            remove(f"{lake.url}/work/{run_id}")


def _run_id(job: str, config: str, work: Work, committed: Set[str]) -> str:
    """Names the run: a run that was killed and is started again has the same id.

    Work that a committed run could not do (an input took too long) comes again as a run
    of its own.
    """
    run_id = digest(
        "run",
        job,
        config,
        sorted(task.key for task in work.tasks),
        sorted([r.uri, r.stage, r.reason, r.detail] for r in work.rejects),
    )
    while work.tasks and run_id in committed:
        run_id = digest("again", run_id)
    return run_id


def _fresh_rejects(lake: Lake, rejects: Sequence[Reject]) -> list[Reject]:
    if not rejects:
        return []
    rows = lake.read("rejects", columns=["uri", "stage", "reason", "detail"]).to_pylist()
    known = {(row["uri"], row["stage"], row["reason"], row["detail"]) for row in rows}
    return [r for r in rejects if (r.uri, r.stage, r.reason, r.detail) not in known]


def _committed_counts(lake: Lake, run_id: str) -> tuple[Count, ...]:
    after = Lake.open(lake.url)
    for row in after.read("runs").to_pylist():
        if row["run_id"] == run_id:
            return tuple(Count(**count) for count in row["counts"])
    raise LakeError(f"{lake.url}: run {run_id} finished but committed no row of `runs`")


def stage_digest(**parts: Any) -> str:
    """Names a stage's configuration and version: what its ledger is keyed by."""
    return digest("stage", parts)


def done_subjects(lake: Lake, stage: str) -> dict[tuple[str, str], str]:
    """Reads what a stage is done with: (subject, stage_digest) to outcome."""
    rows = lake.read("ledger", columns=["stage", "subject", "stage_digest", "outcome"])

    mine = rows.filter(pc.equal(rows["stage"], stage))
    return {
        (subject, key): outcome
        for subject, key, outcome in zip(
            mine["subject"].to_pylist(),
            mine["stage_digest"].to_pylist(),
            mine["outcome"].to_pylist(),
            strict=True,
        )
    }
