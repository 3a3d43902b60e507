"""Repairing: a lake that two runs doubled is as if only the first had run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.graph.execute import execute
from pipeline.lake import intents
from pipeline.lake.intents import commit
from pipeline.lake.repair import repair
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from pipeline.stages.corpus import plan_corpus
from schemas.records import Count
from schemas.tables import TABLES
from tests.pipeline.lake.whole import CORPUS, commit_robot, robot_tables, run

Rows = dict[str, list[dict[str, Any]]]
ONE = (Count("ingest", "logs", 1), Count("label", "events", 1))


def rows_of(lake: Lake) -> Rows:
    """Reads every table but `runs`, in an order that rows with equal keys have too."""
    opened = Lake.open(lake.url)
    return {
        table: sorted(opened.read(table).to_pylist(), key=repr)
        for table in TABLES
        if table != "runs"
    }


def commit_twin(lake: Lake, tables: dict[str, pa.Table], stem: str, run_id_of: str) -> None:
    adds = [add for table, rows in tables.items() for add in lake.write(table, rows, stem)]
    commit(lake, run("ingest", run_id_of, *ONE), adds)


def test_a_run_that_did_everything_again_is_removed(whole: Lake) -> None:
    before = rows_of(whole)
    commit_robot(Lake.open(whole.url), "twin")
    assert rows_of(whole) != before
    problems = verify(whole.url).problems
    assert any(problem.startswith("ledger: 8 keys have more than one row") for problem in problems)
    removed = repair(Lake.open(whole.url))
    assert removed["logs"] == 1
    assert removed["ledger"] == 4
    assert removed["rejects"] == 1
    assert rows_of(whole) == before
    assert verify(whole.url).problems == ()
    assert repair(Lake.open(whole.url)) == {}
    assert rows_of(whole) == before
    config = CORPUS.model_copy(update={"name": "second", "topology": "gpu-8"})
    execute(Lake.open(whole.url), "corpus", config.model_dump(mode="json"),
            plan_corpus(Lake.open(whole.url), config))  # fmt: skip
    assert verify(whole.url).problems == ()


def test_the_rows_that_only_the_later_run_has_stay(whole: Lake) -> None:
    """Its files are written again without the rows of what the first run had done."""
    ours = robot_tables(whole, "mixed")
    other = robot_tables(whole, "mixed", fingerprint="other")
    both = {table: pa.concat_tables([ours[table], other[table]]) for table in ours}
    before = rows_of(whole)
    commit_twin(whole, both, "mixed", "mixed")
    assert verify(whole.url).problems
    repair(Lake.open(whole.url))
    after = rows_of(whole)
    for table, rows in other.items():
        wanted = before[table] + TABLES[table].conform(rows).to_pylist()
        if table == "rejects":
            wanted = before[table] + both[table].to_pylist()
        assert after[table] == sorted(wanted, key=repr), table
    report = verify(whole.url)
    assert report.problems == ()


def test_two_runs_of_one_task_share_its_files(whole: Lake) -> None:
    """Only the ledger and rejects name the run; the other files have one name and stay."""
    before = rows_of(whole)
    tables = robot_tables(whole, "robot")
    name = run("ingest", "twin").run_id
    for table in ("ledger", "rejects"):
        at = tables[table].column_names.index("run_id")
        ids = pa.array([name] * tables[table].num_rows)
        tables[table] = tables[table].set_column(at, TABLES[table].schema.field("run_id"), ids)
    commit_twin(whole, tables, "robot", "twin")
    assert verify(whole.url).problems
    assert repair(Lake.open(whole.url)) == {"ledger": 4, "rejects": 1}
    assert rows_of(whole) == before
    assert verify(whole.url).problems == ()


def test_a_repair_that_was_killed_is_finished(whole: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows_of(whole)
    commit_robot(Lake.open(whole.url), "twin")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(intents, "_apply", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(Lake.open(whole.url))
    assert rows_of(whole) != before
    assert list(Path(whole.url, "commits").glob("*.json"))
    repair(Lake.open(whole.url))
    assert rows_of(whole) == before
    assert verify(whole.url).problems == ()
