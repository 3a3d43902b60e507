"""The graph that every job is: units fan out, are worked off, and one last step commits.

units ─ Create ─ Reshuffle ─ Process(stage) ─ gather ─ Finish
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import apache_beam as beam
from apache_beam.pvalue import PCollection

from pipeline.lake import Lake
from pipeline.stage import Process, Stage, Unit, UnitResult


class Finish(Protocol):
    """The last step: makes what the units wrote visible. Runs again after a crash."""

    def __call__(self, results: Sequence[UnitResult]) -> None:
        """Commits or publishes; `results` are in the order of their keys."""


class _Finish(beam.DoFn):
    def __init__(self, finish: Finish) -> None:
        self._finish = finish

    def process(self, keyed: tuple[str, Iterable[UnitResult]]) -> Iterator[str]:
        key, results = keyed
        # A unit that ran twice wrote the same files twice: one of its results is enough.
        distinct = {result.key: result for result in results}
        self._finish([distinct[name] for name in sorted(distinct)])
        yield key


def build(
    root: beam.Pipeline,
    lake: Lake,
    run_id: str,
    *,
    stage: Stage,
    units: Sequence[Unit],
    finish: Finish,
) -> PCollection[str]:
    """Lays the graph.

    Args:
        root: the pipeline.
        lake: where units read, at pinned versions, and write.
        run_id: the run's identity; the key under which results gather.
        stage: what is done to a unit.
        units: the work, each element small.
        finish: what makes the results visible, called once all of them are there.
    """
    finished: PCollection[str] = (
        root
        | f"{stage.name}: units" >> beam.Create(list(units), reshuffle=False)
        | f"{stage.name}: spread" >> beam.Reshuffle()
        | f"{stage.name}: work" >> beam.ParDo(Process(stage, lake, run_id))
        | f"{stage.name}: key" >> beam.WithKeys(run_id)
        | f"{stage.name}: gather" >> beam.GroupByKey()
        | f"{stage.name}: finish" >> beam.ParDo(_Finish(finish))
    )
    return finished
