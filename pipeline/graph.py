"""The graph that every job is: units fan out, are worked off, and one last step commits.

    pages ─ list ─ spread ─ work ─ count ─ finish

Pages of the journal list the units. What goes from step to step is the name of a page, a
place on it, the key of a unit and at last their number: a few bytes each, and under no
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

from pipeline.journal import Journal, Place
from pipeline.lake import Lake
from pipeline.stage import Stage, Unit, UnitResult, write_output
from schemas.errors import LakeError


class Finish(Protocol):
    """The last step: makes what the units wrote visible. May run again after a crash."""

    def __call__(self, results: Sequence[UnitResult]) -> None:
        """Commits or publishes; `results` are in the order of their keys."""


class ListUnits(beam.DoFn):
    """Finds the units of a page."""

    def __init__(self, name: str, journal: Journal) -> None:
        self._name = name
        self._journal = journal

    def process(self, page: str) -> Iterator[Place]:
        """Yields where they are written down."""
        start = time.monotonic()
        places = list(self._journal.places(page))
        Metrics.counter(self._name, "units_listed").inc(len(places))
        Metrics.distribution(self._name, "list_ms").update(_ms_since(start))
        Metrics.distribution(self._name, "list_bytes").update(sum(e - s for _, s, e in places))
        yield from places


class WorkOff(beam.DoFn):
    """Runs a stage on units: `Stage.process` and `write_output` wired to a worker."""

    def __init__(self, stage: Stage, lake: Lake, journal: Journal) -> None:
        self._stage = stage
        self._lake = lake
        self._journal = journal

    def setup(self) -> None:
        """Opens the stage once a worker."""
        self._stage.open()

    def process(self, place: Place) -> Iterator[str]:
        """Works one unit off, unless an attempt before this one did."""
        name = self._stage.name
        unit: Unit = self._journal.unit(place, self._stage.unit)
        result = self._journal.result(unit.key)
        resumed, repeated = result is not None, False
        if result is None:
            repeated = self._journal.begin(unit.key) > 0
            start = time.monotonic()
            output = self._stage.process(unit)
            result = write_output(self._lake, self._journal.run_id, name, unit.key, output)
            self._journal.record(result)
            Metrics.distribution(name, "unit_ms").update(_ms_since(start))
        Metrics.counter(name, "units").inc()
        Metrics.counter(name, "units_resumed").inc(int(resumed))
        Metrics.counter(name, "units_repeated").inc(int(repeated))
        Metrics.distribution(name, "unit_bytes").update(sum(size for _, size in result.files()))
        for count in result.counts:
            subject = count.unit.replace(" ", "_")
            for outcome in ("kept", "filtered", "rejected"):
                Metrics.counter(name, f"{subject}_{outcome}").inc(getattr(count, outcome))
            Metrics.counter(name, f"{subject}_repeated").inc(count.total if repeated else 0)
        yield unit.key


class FinishRun(beam.DoFn):
    """Runs the last step, once all units are done."""

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
        lake: where units read, at pinned versions, and write.
        journal: where the units are written down.
        pages: the journal's pages.
        stage: what is done to a unit.
        finish: what makes the results visible, called once all of them are there.
    """
    name = stage.name
    finished: PCollection[str] = (
        root
        | f"{name}: pages" >> beam.Create(list(pages), reshuffle=False)
        | f"{name}: list" >> beam.ParDo(ListUnits(name, journal)).with_output_types(Place)
        # A page is two hundred units: without this they would stay with who listed them.
        | f"{name}: spread" >> beam.Reshuffle()
        | f"{name}: work" >> beam.ParDo(WorkOff(stage, lake, journal)).with_output_types(str)
        | f"{name}: count" >> Count.Globally().without_defaults()
        | f"{name}: finish" >> beam.ParDo(FinishRun(name, finish, lake, journal))
    )
    return finished
