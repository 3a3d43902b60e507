"""A stage: what one job does to one unit of work, and the DoFn that does it on a worker.

Every job has the same graph: units of work fan out, each becomes Parquet files under the
lake's tables (and packs, and shards), and one last step makes them visible all at once.
Only small records cross an edge; what a unit decodes lives and dies inside `process`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics.metric import Metrics

from pipeline import progress
from pipeline.lake import Lake
from schemas.records import AddFile, Count, Outcome, Reject
from schemas.tables import TABLES


class Unit(Protocol):
    """One unit of work: small, picklable, named by a digest of what it is made of."""

    @property
    def key(self) -> str:
        """The digest that also names the files the unit writes."""


@dataclass(frozen=True, slots=True)
class Done:
    """One ledger line: a subject that the stage is done with."""

    subject: str
    stage_digest: str
    outcome: Outcome


@dataclass(slots=True)
class Output:
    """What a unit came to: rows by table, what is done, what was rejected, the counts."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What crosses the edge to the last step: names of files, counts, a few facts."""

    key: str
    adds: tuple[AddFile, ...]
    counts: tuple[Count, ...]
    detail: dict[str, Any]


class Stage(Protocol):
    """What a job does to a unit. Pickled to workers, so `open` loads what is heavy."""

    name: str

    def open(self) -> None:
        """Loads models, compiles queries: once a worker."""

    def process(self, unit: Any) -> Output:
        """Turns one unit into rows. DataError never escapes: it becomes a reject."""


def write_output(lake: Lake, run_id: str, stage: str, key: str, output: Output) -> UnitResult:
    """Writes a unit's rows as uncommitted files, named by the unit, and lists them."""
    tables = dict(output.tables)
    if output.rejects:
        tables["rejects"] = reject_rows(output.rejects, run_id)
    if output.done:
        tables["ledger"] = pa.table(
            {
                "stage": [stage] * len(output.done),
                "subject": [done.subject for done in output.done],
                "stage_digest": [done.stage_digest for done in output.done],
                "outcome": [done.outcome for done in output.done],
                "run_id": [run_id] * len(output.done),
            }
        )
    adds = [add for name, rows in tables.items() for add in lake.write(name, rows, key)]
    return UnitResult(key, tuple(adds), tuple(output.counts), output.detail)


def reject_rows(rejects: Sequence[Reject], run_id: str) -> pa.Table:
    """Lays rejects out as rows of their table."""
    return pa.Table.from_pylist(
        [
            {
                "uri": reject.uri,
                "stage": reject.stage,
                "reason": reject.reason,
                "detail": reject.detail,
                "subject": reject.subject,
                "run_id": run_id,
            }
            for reject in rejects
        ],
        schema=TABLES["rejects"].schema,
    )


class Process(beam.DoFn):
    """Runs a stage on units: `Stage.process` and `write_output` wired to a worker."""

    def __init__(self, stage: Stage, lake: Lake, run_id: str) -> None:
        self._stage = stage
        self._lake = lake
        self._run_id = run_id

    def setup(self) -> None:
        """Opens the stage once a worker."""
        self._stage.open()

    def process(self, unit: Unit) -> Iterator[UnitResult]:
        """Works one unit off and tells what it wrote."""
        output = self._stage.process(unit)
        result = write_output(self._lake, self._run_id, self._stage.name, unit.key, output)
        for count in output.counts:
            for outcome in ("kept", "filtered", "rejected"):
                name = f"{count.unit.replace(' ', '_')}_{outcome}"
                Metrics.counter(self._stage.name, name).inc(getattr(count, outcome))
        progress.advance(self._run_id)
        yield result
