"""What is left to do: against the same told apart row by row in Python."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.lake.intents import commit
from pipeline.lake.ledger import Done, joined, ledger_rows
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import mined_logs, parts_done, recognised, standing
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


def test_parts_of_random_ledgers(tmp_path: Path) -> None:
    """What is done together, and what is left, subject by subject."""
    dice = random.Random(8)  # noqa: S311 - a test's choice
    lake = Lake.create(str(tmp_path))
    subjects = [f"log-{k:02}" for k in range(40)]
    add_logs(lake, *subjects)
    wanted = ("clip", "link", "look")
    done: dict[str, set[str]] = {subject: set() for subject in subjects}
    rejected: set[str] = set()
    for run in range(4):
        rows = []
        for subject in dice.sample(subjects, 25):
            new = sorted({*dice.sample([*wanted, "old", "older"], 2)} - done[subject])
            if not new:
                continue
            outcome: Outcome = dice.choice(("kept", "kept", "rejected"))
            rows.append(Done(subject, joined(new), outcome))
            done[subject] |= {*new}
            if outcome == "rejected" and {*new} & {*wanted}:
                rejected.add(subject)
        add_done(lake, f"run-{run}", "label", rows)
    add_done(
        lake, "other", "mine", [Done(subject, "clip+link+look", "kept") for subject in subjects]
    )
    found = parts_done(lake, "label", "SELECT log_id AS subject FROM logs", wanted)
    due = {subject: group.done for group in found.due for subject in group.subjects}
    left = {s: frozenset(done[s] & {*wanted}) for s in subjects if not {*wanted} <= done[s]}
    assert due == left
    assert len(found.due) == len(set(left.values())), "one group for each that is done"
    whole = [subject for subject in subjects if subject not in left]
    assert found.rejected == len(rejected & {*whole}) > 0
    assert found.kept == len(whole) - found.rejected > 0
    assert found.total == len(subjects)
    count = found.known("label", "logs")
    assert (count.filtered, count.rejected) == (found.kept, found.rejected)


def test_parts_of_a_lake_without_a_ledger(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    add_logs(lake, "a")
    found = parts_done(lake, "label", "SELECT log_id AS subject FROM logs", ("x",))
    assert [(group.done, group.subjects) for group in found.due] == [(frozenset(), ("a",))]
