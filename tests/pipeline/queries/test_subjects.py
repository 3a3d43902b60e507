"""What is left to do: against the same told apart row by row in Python."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.lake.intents import commit
from pipeline.lake.ledger import Done, joined, ledger_rows
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import mined_logs, recognised, standing
from schemas.errors import LakeError
from schemas.records import Count, Outcome
from tests.pipeline.lake.rows import one_row, run_row

LOGS = "SELECT log_id AS subject, '' AS stage_digest FROM logs"


def add_logs(lake: Lake, *log_ids: str) -> None:
    """Commits logs."""
    row = one_row("logs")
    at = row.column_names.index("log_id")
    rows = [row.set_column(at, "log_id", pa.array([log_id])) for log_id in log_ids]
    stem = f"logs-{'-'.join(log_ids)}"[:40]
    commit(lake, run_row(stem), lake.write("logs", pa.concat_tables(rows), stem))


def add_done(lake: Lake, run_id: str, stage: str, done: list[Done]) -> None:
    """Commits rows of the ledger."""
    rows = ledger_rows(stage, run_id, run_id, done)
    commit(lake, run_row(run_id), lake.write("ledger", rows, run_id))


def test_new_subjects_and_how_the_others_ended(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    add_logs(lake, "a", "b", "c", "d", "e")
    assert standing(lake, "sweep", LOGS).new == ("a", "b", "c", "d", "e")
    done = [Done("a", "x", "kept"), Done("b", "x", "rejected"), Done("c", "y", "filtered")]
    add_done(lake, "r", "sweep", done)
    add_done(lake, "other", "label", [Done("e", "x", "kept")])
    found = standing(lake, "sweep", LOGS)
    assert (found.new, found.total) == (("d", "e"), 5)
    assert found.known("sweep", "logs") == Count("sweep", "logs", filtered=2, rejected=1)
    assert standing(lake, "sweep", LOGS, "x").new == ("c", "d", "e")


def test_given_subjects_and_those_done_otherwise(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    add_done(lake, "r", "ingest", [Done("a", "old", "kept"), Done("b", "now", "kept")])
    given = pa.table({"subject": ["a", "b", "c"], "stage_digest": ["now", "now", "now"]})
    found = standing(lake, "ingest", given)
    assert (found.new, found.stale, found.outcomes) == (("c",), 1, {"kept": 2})
    assert standing(lake, "ingest", given.slice(0, 0)).total == 0


def test_random_ledgers(tmp_path: Path) -> None:
    dice = random.Random(5)  # noqa: S311 - a test's choice
    outcomes: tuple[Outcome, ...] = ("kept", "filtered", "rejected")
    for round_ in range(3):
        lake = Lake.create(str(tmp_path / str(round_)))
        logs = [f"log{k}" for k in range(40)]
        add_logs(lake, *logs)
        rows = {
            (log_id, digest): dice.choice(outcomes)
            for log_id in logs
            for digest in "xyz"
            if dice.random() < 0.4
        }
        add_done(lake, "r", "label", [Done(*key, outcome) for key, outcome in rows.items()])
        for digest in "xyz":
            found = standing(lake, "label", LOGS, digest)
            assert found.new == tuple(sorted(log for log in logs if (log, digest) not in rows))
            wanted = [outcome for (_, of), outcome in rows.items() if of == digest]
            assert found.outcomes == {o: wanted.count(o) for o in outcomes if o in wanted}


def test_logs_are_recognised_by_their_listing(tmp_path: Path) -> None:
    """If they are ingested: an entry whose log is not counts for nothing."""
    lake = Lake.create(str(tmp_path))
    listed = [
        Done("listing-a", "a", "kept", "discover"),
        Done("listing-b", "b", "kept", "discover"),
    ]
    add_done(lake, "r", "ingest", [Done("a", "d", "kept"), *listed])
    assert recognised(lake, ["listing-a", "listing-b", "listing-c"]) == {"listing-a": "a"}
    assert recognised(lake, []) == {}


def test_logs_are_grouped_by_what_they_are_mined_with(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    add_logs(lake, "a", "b", "c", "d")
    add_done(lake, "first", "mine", [Done(log, joined(["x", "y"]), "kept") for log in "ab"])
    add_done(lake, "later", "mine", [Done("b", "z", "filtered"), Done("c", "z", "rejected")])
    add_done(lake, "swept", "sweep", [Done("d", "s", "kept")])
    with mined_logs(lake) as groups:
        found = {
            (tuple(sorted(group.done)), group.sweep): [row[0] for row in group.rows()]
            for group in groups
        }
        assert sum(group.logs for group in groups) == 4
        failed = {row[0]: group.failed for group in groups for row in group.rows()}
    assert found == {
        (("x", "y"), None): ["a"],
        (("x", "y", "z"), None): ["b"],
        (("z",), None): ["c"],
        ((), "s"): ["d"],
    }
    assert failed == {"a": set(), "b": set(), "c": {"z"}, "d": set()}


def test_a_damaged_ledger_is_one_line(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    add_done(lake, "r", "sweep", [Done("a", "x", "kept")])
    (file,) = lake.files("ledger")
    content = bytearray(Path(file).read_bytes())
    content[4:300] = b"\0" * 296
    Path(file).write_bytes(content)
    with pytest.raises(LakeError, match="fleetmill verify"):
        standing(lake, "sweep", "SELECT subject, stage_digest FROM ledger")
