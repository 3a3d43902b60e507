"""The graph against its twin: the same units through Beam and in a plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from apache_beam.testing import test_pipeline

from pipeline.execute import Work, execute
from pipeline.graph import build
from pipeline.lake import Lake
from pipeline.stage import Done, Output, UnitResult, write_output
from schemas.errors import FleetError, LakeError
from schemas.ids import digest
from schemas.records import Count, Reject


@dataclass(frozen=True, slots=True)
class Number:
    """A unit of work."""

    value: int

    @property
    def key(self) -> str:
        """Names the unit."""
        return digest("number", self.value)


@dataclass(slots=True)
class Marks:
    """A stage that writes a mark for each number, and rejects those divisible by five."""

    name: str = "marks"
    broken: int = -1

    def open(self) -> None:
        """Has nothing to load."""

    def process(self, unit: Number) -> Output:
        """Marks the number."""
        if unit.value == self.broken:
            raise LakeError("the pack p.tar is gone; label again")
        if unit.value % 5 == 0:
            reject = Reject("u", self.name, "corrupt", str(unit.value))
            return Output(rejects=[reject], counts=[Count(self.name, "numbers", rejected=1)])
        rows = pa.table({"log_id": ["a"], "t_ns": [unit.value], "reason": ["test"]})
        return Output(
            tables={"marks": rows},
            done=[Done(str(unit.value), "v1", "kept")],
            counts=[Count(self.name, "numbers", kept=1)],
        )


@dataclass(slots=True)
class Remember:
    """A last step that writes down what it was given."""

    path: str
    seen: list[UnitResult] = field(default_factory=list)

    def __call__(self, results: Sequence[UnitResult]) -> None:
        """Writes the results down."""
        Path(self.path).write_text(repr(list(results)))


def test_the_graph_gives_what_a_plain_loop_gives(tmp_path: Path) -> None:
    """Same files, same counts, in the order of keys."""
    lake = Lake.create(str(tmp_path / "lake"))
    units = [Number(value) for value in range(12)]
    stage = Marks()
    expected = [
        write_output(lake, "r", stage.name, unit.key, stage.process(unit))
        for unit in sorted(units, key=lambda unit: unit.key)
    ]
    finish = Remember(str(tmp_path / "seen"))
    with test_pipeline.TestPipeline() as root:
        build(root, lake, "r", stage=stage, units=[*units, units[3]], finish=finish)
    assert (tmp_path / "seen").read_text() == repr(expected)


def run(lake: Lake, stage: Marks, values: range, expected: int) -> tuple[Count, ...]:
    """Runs the stage as a job."""
    work = Work(
        stage=stage,
        units=[Number(value) for value in values],
        expected={("marks", "numbers"): expected},
    )
    return execute(lake, "marks", {}, work).counts


def test_a_job_commits_all_tables_at_once_and_counts_every_unit(tmp_path: Path) -> None:
    """Marks, rejects and the ledger are visible together, and the balance is in `runs`."""
    lake = Lake.create(str(tmp_path / "lake"))
    assert run(lake, Marks(), range(12), 12) == (Count("marks", "numbers", 9, 0, 3),)
    after = Lake.open(lake.url)
    assert [after.read(t).num_rows for t in ("marks", "ledger", "rejects")] == [9, 9, 3]
    assert after.read("runs")["counts"].to_pylist()[0][0]["rejected"] == 3


def test_an_input_that_is_lost_fails_the_job(tmp_path: Path) -> None:
    """Thirteen were promised, twelve were worked off."""
    lake = Lake.create(str(tmp_path / "lake"))
    with pytest.raises(FleetError, match="13 numbers went into marks, 12 came out"):
        run(lake, Marks(), range(12), 13)


def test_an_error_on_a_worker_reaches_the_driver_and_nothing_is_visible(tmp_path: Path) -> None:
    """As what it is, not as Beam's wrapping of it."""
    lake = Lake.create(str(tmp_path / "lake"))
    with pytest.raises(LakeError, match=r"p\.tar is gone"):
        run(lake, Marks(broken=7), range(12), 12)
    assert Lake.open(lake.url).read("marks").num_rows == 0
