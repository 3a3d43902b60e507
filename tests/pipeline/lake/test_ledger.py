"""The ledger: its rows, and what other runs added to it since a job was planned."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.lake.intents import commit
from pipeline.lake.ledger import Done, joined, landed_since, ledger_rows, stage_digest
from pipeline.lake.tables import COMPACTED, Lake
from schemas.tables import TABLES
from tests.pipeline.lake.rows import run_row


def test_rows_are_those_of_the_table() -> None:
    done = [Done("b", "d", "kept"), Done("a", "d", "rejected")]
    rows = TABLES["ledger"].conform(ledger_rows("mine", "run", "key", done))
    assert rows.to_pylist() == [
        {
            "stage": "mine",
            "subject": subject,
            "stage_digest": "d",
            "outcome": outcome,
            "run_id": "run",
            "task": "key",
        }
        for subject, outcome in (("a", "rejected"), ("b", "kept"))
    ]


def test_what_other_runs_did_since_a_plan(tmp_path: Path) -> None:
    planned = Lake.create(str(tmp_path))
    assert landed_since(Lake.open(planned.url), planned, "mine") == set()
    done = [Done("a", joined(["one", "two"]), "kept"), Done("b", "one", "rejected")]
    adds = planned.write("ledger", ledger_rows("mine", "run", "m", done), "mine")
    done = [Done("a", "one", "kept"), Done("c", "x", "kept", stage="mine")]
    adds += planned.write("ledger", ledger_rows("label", "run", "l", done), "label")
    assert landed_since(Lake.open(planned.url), planned, "mine") == set(), "not committed yet"
    lake = Lake.open(planned.url)
    commit(lake, run_row("run"), adds)
    mined = {("a", "one"), ("a", "two"), ("b", "one"), ("c", "x")}
    assert landed_since(lake, planned, "mine") == mined
    assert landed_since(lake, planned, "label") == {("a", "one")}
    assert landed_since(lake, planned, "sweep") == set()


def test_compaction_lands_nothing(tmp_path: Path) -> None:
    """Rows that were there when a job was planned are not new in the file that they moved to."""
    lake = Lake.create(str(tmp_path))
    old = ledger_rows("mine", "old", "m", [Done("a", "one", "kept")])
    commit(lake, run_row("old"), lake.write("ledger", old, "mine"))
    planned = Lake.open(lake.url)
    new = ledger_rows("mine", "new", "n", [Done("b", "one", "kept")])
    commit(lake, run_row("new"), lake.write("ledger", new, "mine"))
    removes = [("ledger", file) for file in lake.files("ledger")]
    adds = lake.write("ledger", pa.concat_tables([old, new]), COMPACTED)
    commit(lake, run_row("compact"), adds, removes)
    assert landed_since(lake, planned, "mine") == {("b", "one")}


@pytest.mark.parametrize("other", [{"fps": 2.0, "version": 1}, {"fps": 1.0}, {}])
def test_a_digest_follows_every_part(other: dict[str, float]) -> None:
    digest = stage_digest(fps=1.0, version=1)
    assert digest == stage_digest(version=1, fps=1.0)
    assert digest != stage_digest(**other)


def test_digests_stay_the_same_for_ever() -> None:
    """A digest that changes makes every lake do all its work again."""
    assert stage_digest(version=1, fps=5.0) == "ac59e76dd431dcbf7060"
