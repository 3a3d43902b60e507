"""Intents: a run is seen complete or not at all, whatever is killed and whoever commits too."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from deltalake import CommitProperties, Transaction
from deltalake.transaction import AddAction

from pipeline.lake import intents, tables
from pipeline.lake.adds import Adds
from pipeline.lake.delta_log import Action, created, put_commit
from pipeline.lake.intents import Intent, RunRow, commit, is_committed, pending, recover
from pipeline.lake.tables import Lake, Remove
from pipeline.lake.vacuum import vacuum
from schemas.errors import LakeError
from schemas.ids import canonical
from schemas.records import AddFile
from schemas.tables import TABLES
from tests.conftest import ROOT
from tests.pipeline.lake.rows import one_row, rejects, run_row
from transforms.storage import names, put, put_new

# Also run by processes of its own: delta-rs does not survive a fork.
APPEND = """
import sys
from pipeline.lake.intents import RunRow, commit, recover
from pipeline.lake.tables import Lake, Remove
from pipeline.lake.vacuum import vacuum
from schemas.records import Count
from schemas.tables import TABLES
import pyarrow as pa

def append(url, run_id):
    lake = Lake.create(url)
    recover(lake)
    rows = [{name: "x" for name in TABLES["rejects"].schema.names} | {"run_id": run_id}]
    adds = lake.write("rejects", pa.Table.from_pylist(rows), run_id)
    rows = [{"log_id": run_id, "t_ns": 0, "reason": "honk"}]
    adds += lake.write("annotations", pa.Table.from_pylist(rows), run_id)
    commit(lake, RunRow(run_id, "ingest", "d", "{}", 1, (Count("ingest", "logs", 1),)), adds)

def main(url, stem, times):
    print("ready", flush=True)
    for k in range(int(times)):
        append(url, f"{stem}-{k}")
"""


def append(url: str, run_id: str) -> None:
    """Commits one run that adds one row to each of two tables."""
    scope: dict[str, Any] = {}
    exec(APPEND, scope)  # noqa: S102 - our own program, as the other processes run it
    scope["append"](url, run_id)


def appender(url: str, stem: str, times: int) -> subprocess.Popen[str]:
    """Starts a process that commits runs, and waits until it is about to."""
    program = f"{APPEND}\nmain({url!r}, {stem!r}, {times})"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def runs_seen(lake: Lake) -> tuple[set[str], set[str], set[str]]:
    """Returns the run ids that three tables know: equal, if no run is torn."""
    return (
        set(lake.read("rejects", ["run_id"])["run_id"].to_pylist()),
        set(lake.read("annotations", ["log_id"])["log_id"].to_pylist()),
        set(lake.read("runs", ["run_id"])["run_id"].to_pylist()),
    )


def test_a_run_commits_once(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    adds = lake.write("rejects", rejects("a"), "u")
    for _ in range(3):
        commit(lake, run_row("r1"), adds)
    assert lake.versions["runs"] == 1
    assert lake.read("rejects").num_rows == 1
    commit(lake, RunRow("r2", "ingest", "d", "{}", 1), [])
    assert lake.versions["runs"] == 1, "a run that says nothing leaves no row"
    commit(lake, run_row("r3"), [])
    assert lake.versions["runs"] == 2


def test_rows_can_be_taken_away(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    commit(lake, run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    old = lake.files("rejects")
    kept = lake.write("rejects", rejects("b"), "u")
    commit(lake, run_row("r2"), kept, [("rejects", uri) for uri in old])
    assert lake.read("rejects")["uri"].to_pylist() == ["b"]


class CrashError(Exception):
    """Stands for the power going off."""


def _crash_after(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Lets `limit` durable steps of a commit through, then crashes before the next."""
    done = 0

    def guarded(step: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object, **named: object) -> object:
            nonlocal done
            if done >= limit:
                raise CrashError
            done += 1
            return step(*args, **named)

        return run

    monkeypatch.setattr(tables, "put", guarded(put))
    monkeypatch.setattr(intents, "put_new", guarded(put_new))
    monkeypatch.setattr(intents, "put_commit", guarded(put_commit))


def test_a_crash_between_any_two_steps_is_rolled_forward(tmp_path: Path) -> None:
    # Steps: 2 files, the intent, 2 tables, the file of runs, runs.
    outcomes = set()
    for limit in range(20):
        url = str(tmp_path / str(limit))
        append(url, "before")
        with pytest.MonkeyPatch.context() as patch:
            _crash_after(patch, limit)
            try:
                append(url, "torn")
                crashed = False
            except CrashError:
                crashed = True
        seen = runs_seen(Lake.open(url))
        assert seen[0] == seen[1] == seen[2], f"torn after step {limit}"
        rolled = recover(Lake.open(url))
        after = runs_seen(Lake.open(url))
        assert after[0] == after[1] == after[2]
        outcomes.add((crashed, bool(rolled), "torn" in after[0]))
        assert recover(Lake.open(url)) == []
        append(url, "torn")
        append(url, "after")
        assert runs_seen(Lake.open(url)) == ({"before", "torn", "after"},) * 3
        assert Lake.open(url).read("rejects").num_rows == 3
        if not crashed:
            break
    assert outcomes == {
        (True, False, False),  # before the intent: nothing happened
        (True, True, True),  # after it: rolled forward
        (False, False, True),
    }


@pytest.mark.slow
def test_appends_at_once_all_land(tmp_path: Path) -> None:
    """Appends at once all land, and nobody ever sees a part of one."""
    url = str(tmp_path)
    with ThreadPoolExecutor(8) as starter:
        workers = list(starter.map(lambda k: appender(url, f"w{k}", 2), range(8)))
    while any(worker.poll() is None for worker in workers):
        try:
            lake = Lake.open(url)
        except LakeError:  # not made yet
            continue
        seen = runs_seen(lake)
        assert seen[0] == seen[1] == seen[2], "a reader saw a part of a run"
        time.sleep(0.02)
    assert [worker.wait() for worker in workers] == [0] * 8
    for worker in workers:
        worker.communicate()
    wanted = {f"w{worker}-{k}" for worker in range(8) for k in range(2)}
    assert runs_seen(Lake.open(url)) == (wanted,) * 3
    # Every row of runs must name a state that was whole.
    for row in Lake.open(url).read("runs").to_pylist():
        versions = {entry["table"]: entry["version"] for entry in row["versions"]}
        seen = runs_seen(Lake(url, {**versions, "runs": 0}))
        assert seen[0] == seen[1]
        assert row["run_id"] in seen[0]


@pytest.mark.slow
def test_sigkill_at_any_point_leaves_no_trace(tmp_path: Path) -> None:
    url = str(tmp_path)
    append(url, "first")
    dice = random.Random(7)  # noqa: S311 - a test's choice
    last: set[str] = set()
    for round_ in range(10):
        workers = [appender(url, f"{round_}-{k}", 10_000) for k in range(2)]
        time.sleep(dice.random() * 0.3)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            worker.communicate()
        seen = runs_seen(Lake.open(url))
        assert seen[0] == seen[1] == seen[2]
        assert last <= seen[0], "what was committed stays"
        recover(Lake.open(url))
        seen = runs_seen(Lake.open(url))
        assert seen[0] == seen[1] == seen[2]
        last = seen[0]
    append(url, "last")
    lake = Lake.open(url)
    assert "last" in runs_seen(lake)[0]
    assert lake.read("rejects").num_rows == len(runs_seen(lake)[0]), "nothing twice"
    assert list(pending(lake)) == []


def test_an_intent_is_read_back_as_it_was_written() -> None:
    lake = Lake("/lake")
    adds = Adds.of([AddFile("rejects", "b", 1, 2, "{}"), AddFile("events", "a", 3, 4, "")])
    intent = Intent(7, run_row("r"), 5, adds, (("rejects", "/lake/tables/rejects/x"),))
    assert Intent.decode(7, intent.encode()) == intent
    assert intents.intent_url(lake, 7) == "/lake/commits/00000000000000000007.json"


def test_a_queued_run_is_committed_before_its_row_is_there(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    adds = lake.write("rejects", rejects("a"), "u")
    intent = Intent(1, run_row("queued"), 1, Adds.of(adds))
    assert not is_committed(lake, "queued")
    assert put_new(intents.intent_url(lake, 1), intent.encode())
    assert [queued.run.run_id for queued in pending(lake)] == ["queued"]
    assert is_committed(lake, "queued")
    assert Lake.open(lake.url).read("rejects").num_rows == 0
    commit(lake, run_row("next"), [])
    assert lake.read("rejects").num_rows == 1
    assert lake.read("runs", ["run_id"])["run_id"].to_pylist() == ["next", "queued"]
    assert lake.number == 2
    assert names(f"{lake.url}/commits") == [f"{number:020d}.json" for number in (1, 2)]


def test_a_run_that_an_older_version_queued_and_half_applied_is_finished(tmp_path: Path) -> None:
    """Format 1 committed to each table under the run's id."""
    lake = Lake.create(str(tmp_path))
    adds = [*lake.write("rejects", rejects("a"), "u"), *lake.write("logs", one_row("logs"), "u")]
    # It stored the files as a list of objects.
    content: dict[str, Any] = {
        "run": asdict(run_row("old")),
        "finished_ns": 1,
        "adds": [asdict(add) for add in adds],
        "removes": [],
    }
    put_new(intents.intent_url(lake, 1), canonical(content))
    (add,) = (add for add in adds if add.table == "rejects")
    action = AddAction(add.path, add.size, {}, 1, True, add.stats)
    put_commit(lake.table_url("rejects"), 0, created("rejects", "format 1", 1))
    lake.delta("rejects").create_write_transaction(
        [action],
        mode="append",
        schema=TABLES["rejects"].schema,
        commit_properties=CommitProperties(app_transactions=[Transaction("old", 1)]),
    )
    assert recover(lake) == ["old"]
    assert (lake.read("rejects").num_rows, lake.read("logs").num_rows) == (1, 1)
    assert is_committed(lake, "old")


def test_a_version_that_another_tool_took_is_passed_over(tmp_path: Path) -> None:
    """An analyst's own tool may change a table; the next run follows on what it left."""
    lake = Lake.create(str(tmp_path))
    commit(lake, run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    lake.delta("rejects").alter.set_table_properties({"owner": "me"}, raise_if_not_exists=False)
    commit(lake, run_row("r2"), lake.write("rejects", rejects("b"), "u"))
    assert lake.versions["rejects"] == 2
    assert lake.read("rejects")["uri"].to_pylist() == ["a", "b"]
    assert lake.delta("rejects").metadata().configuration["owner"] == "me"


def test_a_process_that_was_stopped_in_a_commit_changes_nothing_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have finished its run meanwhile, and ten more."""
    lake = Lake.create(str(tmp_path))
    adds = lake.write("rejects", rejects("slow"), "u")
    stopped_at: list[str] = []

    def stop(table_url: str, version: int, actions: Iterable[Action]) -> bool:
        table = table_url.rpartition("/")[2]
        if not stopped_at:
            stopped_at.append(table)
            other = Lake.open(lake.url)
            assert recover(other) == ["slow"]
            for number in range(10):
                rows = rejects(f"fast {number}")
                commit(other, run_row(f"fast {number}"), other.write("rejects", rows, "u"))
        return put_commit(table_url, version, actions)

    monkeypatch.setattr(intents, "put_commit", stop)
    commit(lake, run_row("slow"), adds)
    assert stopped_at == ["rejects"]
    assert lake.read("rejects").num_rows == lake.number == 1
    lake.refresh()
    assert lake.read("rejects").num_rows == lake.number == 11
    logs = (tmp_path / "tables" / "rejects" / "_delta_log").glob("*.json")
    lines = [line for log in logs for line in log.read_text().splitlines()]
    assert sum('{"add":' in line for line in lines) == 11


@pytest.mark.parametrize("compacted", [False, True])
def test_a_lake_that_was_pinned_long_ago_commits_after_the_last_run(
    tmp_path: Path, compacted: bool
) -> None:
    """Whether the intents in between are still there or not."""
    early = Lake.create(str(tmp_path))
    commit(early, run_row("first"), early.write("rejects", rejects("first"), "u"))
    other = Lake.open(early.url)
    for number in range(3):
        rows = other.write("rejects", rejects(str(number)), "u")
        commit(other, run_row(f"r{number}"), rows)
    if compacted:
        assert len(vacuum(other, hours=-1)) == 3
    seen: list[int] = []

    def revise(lake: Lake) -> tuple[RunRow, list[AddFile], list[Remove]]:
        seen.append(lake.read("rejects").num_rows)
        return run_row("late"), lake.write("rejects", rejects("late"), "u"), []

    assert commit(early, run_row("late"), revise=revise, new_at=1)
    assert seen == [4], "revised on the lake as it stands"
    assert early.number == 5
    assert Lake.open(early.url).read("rejects").num_rows == 5
    assert not commit(early, run_row("r1"), early.write("rejects", rejects("again"), "u"))


def test_transactions_do_not_pile_up(tmp_path: Path) -> None:
    """One id with a rising version, whatever the number of runs."""
    lake = Lake.create(str(tmp_path))
    for number in range(3):
        commit(lake, run_row(f"r{number}"), lake.write("rejects", rejects(str(number)), "u"))
    for table in ("rejects", "runs"):
        logs = sorted((tmp_path / "tables" / table / "_delta_log").glob("*.json"))
        actions = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        found = [action["txn"] for action in actions if "txn" in action]
        assert [(txn["appId"], txn["version"]) for txn in found] == [
            ("fleetmill", number) for number in (1, 2, 3)
        ]


def test_jobs_write_checkpoints(tmp_path: Path) -> None:
    """What a reader replays does not grow with the number of runs."""
    lake = Lake.create(str(tmp_path))
    for number in range(12):
        commit(lake, run_row(f"r{number}"), lake.write("rejects", rejects(str(number)), "u"))
    for table in ("rejects", "runs"):
        log = tmp_path / "tables" / table / "_delta_log"
        last = json.loads((log / "_last_checkpoint").read_text())["version"]
        assert lake.versions[table] - last < 10
