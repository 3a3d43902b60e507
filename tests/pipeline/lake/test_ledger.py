"""The ledger: what a stage is done with is read back by subject and configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.lake.intents import commit
from pipeline.lake.ledger import Done, done_subjects, ledger_rows, stage_digest
from pipeline.lake.tables import Lake
from schemas.tables import TABLES
from tests.pipeline.lake.rows import run_row


def test_rows_are_those_of_the_table() -> None:
    done = [Done("b", "d", "kept"), Done("a", "d", "rejected")]
    rows = TABLES["ledger"].conform(ledger_rows("mine", "run", done))
    assert rows.to_pylist() == [
        {
            "stage": "mine",
            "subject": subject,
            "stage_digest": "d",
            "outcome": outcome,
            "run_id": "run",
        }
        for subject, outcome in (("a", "rejected"), ("b", "kept"))
    ]


def test_what_a_stage_is_done_with_is_read_back(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    assert done_subjects(lake, "mine") == {}
    done = [Done("a", "one", "kept"), Done("a", "two", "filtered"), Done("b", "one", "rejected")]
    adds = lake.write("ledger", ledger_rows("mine", "run", done), "mine")
    adds += lake.write("ledger", ledger_rows("label", "run", [Done("a", "one", "kept")]), "label")
    assert done_subjects(Lake.open(lake.url), "mine") == {}, "nothing is committed yet"
    commit(lake, run_row("run"), adds)
    assert done_subjects(lake, "mine") == {
        ("a", "one"): "kept",
        ("a", "two"): "filtered",
        ("b", "one"): "rejected",
    }
    assert done_subjects(lake, "label") == {("a", "one"): "kept"}
    assert done_subjects(lake, "sweep") == {}


@pytest.mark.parametrize("other", [{"fps": 2.0, "version": 1}, {"fps": 1.0}, {}])
def test_a_digest_follows_every_part(other: dict[str, float]) -> None:
    digest = stage_digest(fps=1.0, version=1)
    assert digest == stage_digest(version=1, fps=1.0)
    assert digest != stage_digest(**other)


def test_digests_stay_the_same_for_ever() -> None:
    """A digest that changes makes every lake do all its work again."""
    assert stage_digest(version=1, fps=5.0) == "ac59e76dd431dcbf7060"
