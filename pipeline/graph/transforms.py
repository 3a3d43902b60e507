"""The graph that every job is: tasks fan out, are worked off, and one last step commits.

    pages ─ list ─ spread ─ work ─ count ─ finish

Pages of the journal list the tasks. What goes from step to step is the name of a page, a
place on it, the key of a task and at last their number: a few bytes each, and under no
key more than a worker has summed up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.combiners import Count

from pipeline.graph.journal import Journal, Place
from pipeline.graph.stage import Stage, Task, TaskResult, write_output
from pipeline.lake.tables import Lake
from schemas.errors import LakeError


class Finish(Protocol):
    """The last step: makes what the tasks wrote visible. May run again after a crash."""

    def __call__(self, results: Sequence[TaskResult]) -> None:
        """Commits or publishes; `results` are in the order of their keys."""


class ListTasks(beam.DoFn):
    """Finds the tasks of a page."""

    def __init__(self, name: str, journal: Journal) -> None:
        self._name = name
        self._journal = journal

    def process(self, page: str) -> Iterator[Place]:
        """Yields where they are written down."""
        start = time.monotonic()
        places = list(self._journal.places(page))
        Metrics.counter(self._name, "tasks_listed").inc(len(places))
        Metrics.distribution(self._name, "list_ms").update(_ms_since(start))
        Metrics.distribution(self._name, "list_bytes").update(sum(e - s for _, s, e in places))
        yield from places


class WorkOff(beam.DoFn):
    """Runs a stage on tasks: `Stage.process` and `write_output` wired to a worker."""

    def __init__(self, stage: Stage, lake: Lake, journal: Journal) -> None:
        self._stage = stage
        self._lake = lake
        self._journal = journal

    def setup(self) -> None:
        """Opens the stage once a worker."""
        self._stage.open()

    def process(self, place: Place) -> Iterator[str]:
        """Works one task off, unless an attempt before this one did."""
        name = self._stage.name
        task: Task = self._journal.task(place, self._stage.task)
        result = self._journal.result(task.key)
        resumed, repeated = result is not None, False
        if result is None:
            repeated = self._journal.begin(task.key) > 0
            start = time.monotonic()
            output = self._stage.process(task)
            result = write_output(self._lake, self._journal.run_id, name, task.key, output)
            self._journal.record(result)
            Metrics.distribution(name, "task_ms").update(_ms_since(start))
        Metrics.counter(name, "tasks").inc()
        Metrics.counter(name, "tasks_resumed").inc(int(resumed))
        Metrics.counter(name, "tasks_repeated").inc(int(repeated))
        Metrics.distribution(name, "task_bytes").update(sum(size for _, size in result.files()))
        for count in result.counts:
            subject = count.of.replace(" ", "_")
            for outcome in ("kept", "filtered", "rejected"):
                Metrics.counter(name, f"{subject}_{outcome}").inc(getattr(count, outcome))
            Metrics.counter(name, f"{subject}_repeated").inc(count.total if repeated else 0)
        yield task.key


class FinishRun(beam.DoFn):
    """Runs the last step, once all tasks are done."""

    def __init__(self, name: str, finish: Finish, lake: Lake, journal: Journal) -> None:
        self._name = name
        self._finish = finish
        self._lake = lake
        self._journal = journal

    def process(self, count: int) -> Iterator[str]:
        """Commits, unless a twin of this run, started as its client was lost, did."""
        start = time.monotonic()
        try:
            results = self._journal.results(count)
        except LakeError:
            if not self._lake.is_committed(self._journal.run_id):
                raise
            return
        self._finish(results)
        sizes = [size for result in results for _, size in result.files()]
        Metrics.counter(self._name, "files").inc(len(sizes))
        Metrics.distribution(self._name, "finish_ms").update(_ms_since(start))
        Metrics.distribution(self._name, "finish_bytes").update(sum(sizes))
        yield self._journal.run_id


def _ms_since(start: float) -> int:
    return round((time.monotonic() - start) * 1000)


def build(
    root: beam.Pipeline,
    lake: Lake,
    journal: Journal,
    *,
    pages: Sequence[str],
    stage: Stage,
    finish: Finish,
) -> PCollection[str]:
    """Lays the graph.

    Args:
        root: the pipeline.
        lake: where tasks read, at pinned versions, and write.
        journal: where the tasks are written down.
        pages: the journal's pages.
        stage: what is done to a task.
        finish: what makes the results visible, called once all of them are there.
    """
    name = stage.name
    finished: PCollection[str] = (
        root
        | f"{name}: pages" >> beam.Create(list(pages), reshuffle=False)
        | f"{name}: list" >> beam.ParDo(ListTasks(name, journal)).with_output_types(Place)
        # A page is two hundred tasks: without this they would stay with who listed them.
        | f"{name}: spread" >> beam.Reshuffle()
        | f"{name}: work" >> beam.ParDo(WorkOff(stage, lake, journal)).with_output_types(str)
        | f"{name}: count" >> Count.Globally().without_defaults()
        | f"{name}: finish" >> beam.ParDo(FinishRun(name, finish, lake, journal))
    )
    return finished
