"""The transforms that every job is built of, for pipelines of one's own too.

    tasks = root | ListTasks(journal, pages)
    done, more = tasks | RunStage(stage, lake, journal)
    done | CommitRun(finish, journal)

`more` holds the tasks that follow from `tasks` (`Output.next`): another `RunStage` runs them,
on as many workers as there are. What goes from step to step is the name of a page of the
journal, a place on it, and at last their numbers: a few bytes each.
docs/architecture.md has a complete pipeline.

Metrics are in a namespace that is the stage's name, or the `name` that `ListTasks` and
`CommitRun` are given. Counters: `tasks`, `tasks_resumed` (done by an attempt before),
`tasks_repeated` (done by another attempt too), and by what is counted
`<of>_{kept,filtered,rejected,repeated}`. Distributions, one value a task: `task_bytes`,
`task_ms`, and `<step>_ms` for every step of transforms.timing that it went through; the steps
of a task add up to its `task_ms`.
"""

from __future__ import annotations

import copyreg
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PBegin, PCollection, TaggedOutput
from apache_beam.transforms.combiners import Count
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type

from pipeline.graph.journal import Journal, Place, parent_of, root_page
from pipeline.graph.stage import Stage, Task, TaskResult, write_output
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from transforms.timing import recording

Finish = Callable[[Iterable[TaskResult]], bool]
"""The last step: makes what the tasks wrote visible, and tells whether this call did. It may run
again after a crash. It gets the results in the order of their pages and keys, and may iterate over
them more than once; they are decoded page by page, so it should not hold all of them."""

_DONE, _MORE = "done", "more"

# Beam pickles the classes of a script (`__main__`) by value. A task's dataclass then gets a
# copy of this sentinel, which pydantic compares by identity: so pickle it by its name.
copyreg.pickle(type(dataclasses.MISSING), lambda _missing: "MISSING")


class ListTasks(beam.PTransform[PBegin, PCollection[Place]]):
    """Lists where the tasks of a run are stored: `PBegin` to `PCollection[Place]`.

    Args:
        journal: the run's journal.
        pages: what `journal.plan` returned.
        name: the namespace of the metrics.
    """

    def __init__(self, journal: Journal, pages: Sequence[str], name: str = "run") -> None:
        super().__init__()
        self._journal = journal
        self._pages = list(pages)
        self._name = name

    def expand(self, root: PBegin) -> PCollection[Place]:
        """Reads each page on one worker."""
        places: PCollection[Place] = (
            root
            | "pages" >> beam.Create(self._pages, reshuffle=False)
            | "read" >> beam.ParDo(_ListPage(self._name, self._journal)).with_output_types(Place)
        )
        return places


class RunStage(beam.PTransform[PCollection[Place], Any]):
    """Runs a stage on tasks: `PCollection[Place]` to two collections, `(done, more)`.

    Tasks are spread over the workers first. A task that an earlier attempt has done is not run
    again. `done` holds the page of each task, `more` the places of those that follow from them.
    The stage's resource hints hold for the step that runs it.

    Args:
        stage: what is done to a task.
        lake: where tasks read, at pinned versions, and write.
        journal: where the tasks are stored.
    """

    def __init__(self, stage: Stage, lake: Lake, journal: Journal) -> None:
        super().__init__()
        self._stage = stage
        self._lake = lake
        self._journal = journal

    def default_label(self) -> str:
        """Names the transform by its stage, so that a pipeline can run several."""
        return f"RunStage({self._stage.name})"

    def expand(self, tasks: PCollection[Place]) -> tuple[PCollection[str], PCollection[Place]]:
        """Spreads the tasks and runs them."""
        work: Any = beam.ParDo(_RunTask(self._stage, self._lake, self._journal))
        if self._stage.resources:
            work = work.with_resource_hints(**self._stage.resources)
        made = (
            tasks
            # Without this the tasks of a page would stay with the worker that listed them.
            | "spread" >> beam.Reshuffle()
            | "work" >> work.with_outputs(_MORE, main=_DONE)
        )
        done, more = made[_DONE], made[_MORE]
        # A tagged output has no declared type, without which Beam would pickle its elements.
        done.element_type, more.element_type = str, convert_to_beam_type(Place)
        return done, more


class CommitRun(beam.PTransform[PCollection[str], PCollection[str]]):
    """Makes a run visible once all its tasks are done: `PCollection[str]` to run ids.

    Its input is the `done` of every `RunStage` of the run, flattened. Without a single task
    nothing is committed.

    Args:
        finish: makes the results visible, such as `pipeline.graph.commit.Commit`.
        journal: the run's journal.
        name: the namespace of the metrics.
    """

    def __init__(self, finish: Finish, journal: Journal, name: str = "run") -> None:
        super().__init__()
        self._roll_up = _RollUp(journal)
        self._commit = _Commit(name, finish, journal)

    def expand(self, done: PCollection[str]) -> PCollection[str]:
        """Counts the tasks of each page, rolls up each on one worker, and commits on one."""
        committed: PCollection[str] = (
            done
            | "count" >> Count.PerElement()
            | "roll up" >> beam.ParDo(self._roll_up).with_output_types(str)
            | "pages" >> Count.Globally().without_defaults()
            | "commit" >> beam.ParDo(self._commit).with_output_types(str)
        )
        return committed


class _ListPage(beam.DoFn):
    def __init__(self, name: str, journal: Journal) -> None:
        self._name = name
        self._journal = journal

    def process(self, page: str) -> Iterator[Place]:
        with self._journal.unless_over():
            yield from self._listed(page)

    def _listed(self, page: str) -> list[Place]:
        start = time.monotonic()
        places = self._journal.listed(page)
        Metrics.counter(self._name, "tasks_listed").inc(len(places))
        Metrics.distribution(self._name, "list_ms").update(_ms_since(start))
        Metrics.distribution(self._name, "list_bytes").update(sum(e - s for _, s, e, _ in places))
        return places


class _RunTask(beam.DoFn):
    def __init__(self, stage: Stage, lake: Lake, journal: Journal) -> None:
        self._stage = stage
        self._lake = lake
        self._journal = journal

    def setup(self) -> None:
        self._stage.open()
        self._behind = False

    def process(self, place: Place) -> Iterator[Any]:
        with self._journal.unless_over():
            page, following = self._done(place)
            for place_after in following:
                yield TaggedOutput(_MORE, place_after)
            yield page

    def _done(self, place: Place) -> tuple[str, list[Place]]:
        """Does a task, unless it is done; returns its numbered page, and what follows."""
        page, _, _, look = place
        with recording() as times:
            task: Task = self._journal.task(place, self._stage.task)
            seek = look or self._behind
            result = self._journal.result(page, task.key) if seek else None
            following = self._journal.following(result) if result else []
            resumed, repeated = result is not None, False
            if result is None:
                result, following, repeated = self._run(page, task)
            by_step = times.milliseconds()
        if not look:
            # A runner may give this worker again what a worker that died had done since the page
            # was listed. The first such task shows it; from then on results are looked for.
            self._behind = resumed or repeated
        if not resumed:
            for name, ms in by_step.items():
                self._distribution(f"{name}_ms").update(ms)
            self._distribution("task_ms").update(sum(by_step.values()))
        self._count(result, resumed=resumed, repeated=repeated)
        return root_page(page), following

    def _run(self, page: str, task: Task) -> tuple[TaskResult, list[Place], bool]:
        """Runs a task; returns its result, what follows, and whether it was recorded before."""
        journal, key = self._journal, task.key
        output = self._stage.process(task)
        following = journal.follow(page, key, output.next)
        next_page = following[0][0] if following else ""
        result = write_output(
            self._lake,
            journal.run_id,
            self._stage.name,
            key,
            output,
            parent=parent_of(page),
            next_page=next_page,
        )
        return result, following, journal.record(page, result)

    def _count(self, result: TaskResult, *, resumed: bool, repeated: bool) -> None:
        self._counter("tasks").inc()
        self._counter("tasks_resumed").inc(int(resumed))
        self._counter("tasks_repeated").inc(int(repeated))
        self._distribution("task_bytes").update(sum(size for _, size in result.files()))
        for count in result.counts:
            of = count.of.replace(" ", "_")
            for outcome in ("kept", "filtered", "rejected"):
                self._counter(f"{of}_{outcome}").inc(getattr(count, outcome))
            self._counter(f"{of}_repeated").inc(count.total if repeated else 0)

    def _counter(self, name: str) -> Any:
        return Metrics.counter(self._stage.name, name)

    def _distribution(self, name: str) -> Any:
        return Metrics.distribution(self._stage.name, name)


class _RollUp(beam.DoFn):
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def process(self, counted: tuple[str, int]) -> Iterator[str]:
        page, count = counted
        with self._journal.unless_over():
            self._journal.roll_up(page, count)
            yield page


class _Commit(beam.DoFn):
    def __init__(self, name: str, finish: Finish, journal: Journal) -> None:
        self._name = name
        self._finish = finish
        self._journal = journal

    def process(self, count: int) -> Iterator[str]:
        with self._journal.unless_over():
            self._committed(count)
            yield self._journal.run_id

    def _committed(self, count: int) -> None:
        start = time.monotonic()
        results = self._journal.results(count)
        files, size = _measured(results)
        committed = self._finish(results)
        Metrics.counter(self._name, "commits").inc(int(committed))
        Metrics.counter(self._name, "files").inc(files)
        Metrics.distribution(self._name, "commit_ms").update(_ms_since(start))
        Metrics.distribution(self._name, "commit_bytes").update(size)


def _measured(results: Iterable[TaskResult]) -> tuple[int, int]:
    """Counts the files of the tasks, and their bytes; checks that the tasks are distinct."""
    files = size = 0
    keys: set[str] = set()
    for result in results:
        if result.key in keys:
            raise LakeError(
                f"two tasks share the key {result.key}; a follow-up task needs a key that no "
                "other task of its run has"
            )
        keys.add(result.key)
        for _, bytes_ in result.files():
            files, size = files + 1, size + bytes_
    return files, size


def _ms_since(start: float) -> int:
    return round((time.monotonic() - start) * 1000)
