"""A job: its commit, its balance, its metrics, its errors, and its restart after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.reporting import Reporter, exit_code, job_documents
from pipeline.graph.stage import Output
from pipeline.lake.tables import Lake
from schemas.errors import FleetError, InternalError, LakeError
from schemas.records import Count, Reject
from tests.pipeline.graph.annotate import Annotate, Number, annotate, numbers


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(str(tmp_path / "lake"))


def test_a_job_commits_all_tables_at_once_and_counts_every_task(lake: Lake, log: Path) -> None:
    """Also rejects and the ledger; the balance is in `runs`."""
    counts = annotate(lake, Annotate(str(log)), range(12), 12).counts
    assert counts == (Count("annotate", "numbers", 9, 0, 3),)
    after = Lake.open(lake.url)
    assert [after.read(t).num_rows for t in ("annotations", "ledger", "rejects")] == [9, 9, 3]
    assert after.read("runs")["counts"].to_pylist()[0][0]["rejected"] == 3
    assert list(Path(lake.url, "work").iterdir()) == []


def test_beam_counts_what_the_balance_counts(lake: Lake, log: Path) -> None:
    metrics = annotate(lake, Annotate(str(log)), range(12), 12).metrics
    assert metrics["tasks"] == 12
    assert (metrics["numbers_kept"], metrics["numbers_rejected"]) == (9, 3)
    written = [
        path.stat().st_size
        for table in ("annotations", "ledger", "rejects")
        for path in Path(lake.url, "tables", table).glob("*.parquet")
    ]
    assert metrics["files"] == len(written)
    assert metrics["task_bytes"]["sum"] == metrics["commit_bytes"]["sum"] == sum(written)
    assert metrics["tasks_listed"] == 12
    assert metrics["task_ms"]["count"] == 12
    assert metrics["list_ms"]["count"] == metrics["commit_ms"]["count"] == 1


def test_steps_add_up_to_the_time_of_the_tasks(lake: Lake, log: Path) -> None:
    metrics = annotate(lake, Annotate(str(log)), range(12), 12).metrics
    outside = {"task_ms", "list_ms", "commit_ms"}
    steps = {name for name in metrics if name.endswith("_ms")} - outside
    assert {"put_ms", "read_ms", "other_ms"} <= steps
    assert sum(metrics[name]["sum"] for name in steps) == metrics["task_ms"]["sum"]
    assert all(metrics[name]["count"] <= 12 for name in steps)


def test_a_lost_input_fails_the_job(lake: Lake, log: Path) -> None:
    with pytest.raises(FleetError, match="13 numbers went into annotate, 12 came out"):
        annotate(lake, Annotate(str(log)), range(12), 13)


def test_an_error_on_a_worker_reaches_the_driver_and_nothing_is_visible(
    lake: Lake, log: Path
) -> None:
    """As the class that was raised, not as Beam's wrapper."""
    with pytest.raises(LakeError, match=r"p\.tar is gone"):
        annotate(lake, Annotate(str(log), broken=7), range(12), 12)
    assert Lake.open(lake.url).read("annotations").num_rows == 0


def test_tasks_done_before_a_crash_are_not_repeated(lake: Lake, log: Path) -> None:
    """Except for a task with a missing file."""
    with pytest.raises(LakeError):
        annotate(lake, Annotate(str(log), broken=7), range(12), 12)
    first = set(numbers(log))
    assert 7 not in first
    (journal,) = Path(lake.url, "work").iterdir()
    incomplete = next(value for value in sorted(first) if value % 5)
    (file,) = Path(lake.url, "tables", "annotations").glob(f"{Number(incomplete).key}-*.parquet")
    file.unlink()
    log.unlink()
    assert journal.name.isalnum()
    again = annotate(lake, Annotate(str(log)), range(12), 12)
    assert again.counts == (Count("annotate", "numbers", 9, 0, 3),)
    # Recorded before: the one with a missing file, and not the one that failed.
    assert (again.metrics["numbers_repeated"], again.metrics["tasks_repeated"]) == (1, 1)
    assert again.metrics["tasks_resumed"] == len(first) - 1
    assert set(numbers(log)) == set(range(12)) - first | {incomplete}
    rows = Lake.open(lake.url).read("annotations")
    assert rows["t_ns"].to_pylist() == [value for value in range(12) if value % 5]


class Buggy(Annotate):
    """A stage whose reader has a bug at every third number."""

    def process(self, task: Number) -> Output:
        """Turns what is raised into a reject."""
        output = super().process(task)
        error = InternalError(f"number {task.value}: KeyError at reader.py:7: 'x'")
        if task.value % 3 == 0:
            output.rejects = [Reject.of(error, uri=f"number {task.value}", stage=self.name)]
        return output


def test_a_bug_costs_its_own_inputs_and_is_loud(lake: Lake, log: Path) -> None:
    report = annotate(lake, Buggy(str(log)), range(6), 6)
    assert report.internal == 2
    assert "A BUG" in report.notes[-1]
    assert "number 0: KeyError at reader.py:7" in report.notes[-1]
    after = Lake.open(lake.url)
    reasons = after.read("rejects")["reason"].to_pylist()
    assert reasons.count("internal") == 2
    assert after.read("annotations").num_rows > 0, "the others come through"
    assert exit_code(Reporter(as_json=True), [report], 1.0) == 1
    (document,) = job_documents([report])
    assert document["internal"] == 2
