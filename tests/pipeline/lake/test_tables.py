"""The lake: what is committed is seen whole, whatever is killed, and by whom else."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pipeline.lake import tables as lake_module
from pipeline.lake.tables import Lake, RunRow
from schemas.errors import LakeError, UsageError
from schemas.records import Count
from schemas.tables import TABLES
from tests.conftest import ROOT
from transforms.parquet import statistics
from transforms.storage import put, put_new


def rejects(*uris: str, run_id: str = "r") -> pa.Table:
    """Makes one row a URI."""
    names = TABLES["rejects"].schema.names
    rows = [dict.fromkeys(names, "x") | {"uri": uri, "run_id": run_id} for uri in uris]
    return pa.Table.from_pylist(rows, schema=TABLES["rejects"].schema)


def annotation_rows(log_id: str, n: int) -> pa.Table:
    """Makes n annotations of a log."""
    rows = [{"log_id": log_id, "t_ns": k, "reason": "honk"} for k in range(n)]
    return pa.Table.from_pylist(rows, schema=TABLES["annotations"].schema)


def run_row(run_id: str) -> RunRow:
    """Makes a run with a balance."""
    return RunRow(run_id, "ingest", "digest", "{}", 1, (Count("ingest", "logs", kept=1),))


# A program of its own too: delta-rs does not survive a fork.
APPEND = """
import sys
from pipeline.lake.tables import Lake, RunRow
from schemas.records import Count
from schemas.tables import TABLES
import pyarrow as pa

def append(url, run_id):
    lake = Lake.create(url)
    lake.recover()
    rows = [{name: "x" for name in TABLES["rejects"].schema.names} | {"run_id": run_id}]
    adds = lake.write("rejects", pa.Table.from_pylist(rows), run_id)
    rows = [{"log_id": run_id, "t_ns": 0, "reason": "honk"}]
    adds += lake.write("annotations", pa.Table.from_pylist(rows), run_id)
    lake.commit(RunRow(run_id, "ingest", "d", "{}", 1, (Count("ingest", "logs", 1),)), adds)

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


def test_open_says_that_there_is_no_lake(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        Lake.open(str(tmp_path / "none"))


def test_per_cent_sign_is_refused() -> None:
    with pytest.raises(UsageError, match="per cent"):
        Lake("/lakes/a%20b")


def test_reading_without_pins_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Lake\.open"):
        Lake(str(tmp_path)).files("logs")


@pytest.mark.parametrize("name", ["lake", "a lake|é#?x[1]"])
def test_what_is_committed_is_read_back(tmp_path: Path, name: str) -> None:
    lake = Lake.create(str(tmp_path / name))
    assert lake.read("rejects").equals(TABLES["rejects"].empty())
    adds = lake.write("rejects", rejects("b", "a", "c"), "task")
    assert Lake.open(lake.url).read("rejects").num_rows == 0
    before = pickle.loads(pickle.dumps(Lake.open(lake.url)))  # noqa: S301 - our own bytes
    lake.commit(run_row("r1"), adds)
    assert lake.read("rejects")["uri"].to_pylist() == ["a", "b", "c"]
    assert lake.read("rejects", ["detail"], pc.field("uri") == "c").num_rows == 1
    assert lake.read("rejects", ["detail"]).column_names == ["detail"]
    assert before.read("rejects").num_rows == 0, "an opened lake keeps its versions"
    row = lake.read("runs").to_pylist()[0]
    assert row["counts"] == [
        {"stage": "ingest", "of": "logs", "kept": 1, "filtered": 0, "rejected": 0}
    ]
    assert {v["table"] for v in row["versions"]} == set(TABLES) - {"runs"}
    assert lake.versions == Lake.open(lake.url).versions


def test_every_table_takes_rows_of_its_schema(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    adds = []
    for name, table in TABLES.items():
        if name == "runs":
            continue
        columns = []
        for field in table.schema:
            value = pa.scalar(None, field.type)
            if not field.nullable:
                value = pa.scalar([] if pa.types.is_nested(field.type) else 1).cast(field.type)
            columns.append(pa.repeat(value, 2))
        adds += lake.write(name, pa.Table.from_arrays(columns, schema=table.schema), "u")
    lake.commit(run_row("r"), adds)
    for name, table in TABLES.items():
        read = lake.read(name)
        assert read.schema.equals(table.schema), name
        assert read.num_rows == (1 if name == "runs" else 2), name


def test_writing_is_deterministic_and_never_overwrites(tmp_path: Path) -> None:
    one, two = Lake(str(tmp_path / "1")), Lake(str(tmp_path / "2"))
    rows = annotation_rows("log", 1000)
    shuffled = rows.take(pa.array(random.Random(1).sample(range(1000), 1000)))  # noqa: S311 - a test's order
    chunks = pa.concat_tables([shuffled.slice(0, 7), shuffled.slice(7)])
    first, second = one.write("annotations", rows, "u"), two.write("annotations", chunks, "u")
    assert first == second
    path = f"tables/annotations/{first[0].path}"
    assert (tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes()
    other = one.write("annotations", annotation_rows("log", 999), "u")
    assert other[0].path != first[0].path
    assert one.write("annotations", rows.slice(0, 0), "u") == []
    with pytest.raises(ValueError, match="stem"):
        one.write("annotations", rows, "../u")


def test_statistics_match_the_file_and_cut_strings_safely() -> None:
    high = "z" * 31 + "\U0010ffff" + "tail"
    table = rejects("a" * 40, high, "é")
    found = json.loads(statistics(table))
    assert found["numRecords"] == 3
    assert found["minValues"]["uri"] == "a" * 32
    assert found["maxValues"]["uri"] >= max(table["uri"].to_pylist())
    assert len(found["maxValues"]["uri"]) <= 32
    nothing = json.loads(statistics(rejects("\U0010ffff" * 40)))
    assert "uri" not in nothing["maxValues"]
    floats = TABLES["annotations"].conform(
        pa.table(
            {
                "log_id": ["l", "l"],
                "t_ns": [5, -5],
                "reason": ["a", "b"],
                "lat_deg": [1.0, float("nan")],
                "lon_deg": [2.5, None],
            }
        )
    )
    found = json.loads(statistics(floats))
    assert found["minValues"] == {"log_id": "l", "t_ns": -5, "reason": "a", "lon_deg": 2.5}
    assert found["nullCount"]["lon_deg"] == 1
    assert found["nullCount"]["camera"] == 2


def test_a_run_commits_once(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    adds = lake.write("rejects", rejects("a"), "u")
    for _ in range(3):
        lake.commit(run_row("r1"), adds)
    assert lake.versions["runs"] == 1
    assert lake.read("rejects").num_rows == 1
    lake.commit(RunRow("r2", "ingest", "d", "{}", 1), [])
    assert lake.versions["runs"] == 1, "a run that says nothing leaves no row"
    lake.commit(run_row("r3"), [])
    assert lake.versions["runs"] == 2


def test_rows_can_be_taken_away(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    lake.commit(run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    old = lake.files("rejects")
    kept = lake.write("rejects", rejects("b"), "u")
    lake.commit(run_row("r2"), kept, [("rejects", uri) for uri in old])
    assert lake.read("rejects")["uri"].to_pylist() == ["b"]


def test_vacuum_takes_only_what_nobody_names(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    lake.commit(run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    stray = lake.write("rejects", rejects("stray"), "u")[0].path
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "stray.tar").write_bytes(b"x")
    (tmp_path / "tables" / "annotations" / ".tmp-1").write_bytes(b"x")
    assert lake.vacuum() == [], "young files stay"
    assert lake.vacuum(hours=-1) == [
        "packs/stray.tar",
        "tables/annotations/.tmp-1",
        f"tables/rejects/{stray}",
    ]
    assert Lake.open(lake.url).read("rejects").num_rows == 1
    lake.commit(run_row("r2"), lake.write("rejects", rejects("b"), "u"))
    assert lake.vacuum(hours=-1) == ["commits/00000000000000000001.json"]
    lake.commit(run_row("r3"), lake.write("rejects", rejects("c"), "u"))
    assert lake.read("runs").num_rows == 3


def test_damage_is_a_lake_error(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    lake.commit(run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    file = Path(lake.files("rejects")[0])
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(LakeError, match="rejects"):
        lake.read("rejects")
    file.unlink()
    with pytest.raises(LakeError, match="rejects"):
        lake.read("rejects")
    runs = Path(lake.files("runs")[0])
    runs.write_bytes(b"PAR1")
    with pytest.raises(LakeError, match="runs"):
        Lake.open(lake.url)


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

    monkeypatch.setattr(lake_module, "put", guarded(put))
    monkeypatch.setattr(lake_module, "put_new", guarded(put_new))

    class Table(DeltaTable):
        def create_write_transaction(self, *args: object, **named: object) -> None:
            guarded(super().create_write_transaction)(*args, **named)

    monkeypatch.setattr(lake_module, "DeltaTable", Table)


def test_a_crash_between_any_two_steps_is_rolled_forward(tmp_path: Path) -> None:
    # Steps: 4 files, the intent, 3 or more tables, the file of runs, runs.
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
        rolled = Lake.open(url).recover()
        after = runs_seen(Lake.open(url))
        assert after[0] == after[1] == after[2]
        outcomes.add((crashed, bool(rolled), "torn" in after[0]))
        assert Lake.open(url).recover() == []
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
        Lake.open(url).recover()
        seen = runs_seen(Lake.open(url))
        assert seen[0] == seen[1] == seen[2]
        last = seen[0]
    append(url, "last")
    lake = Lake.open(url)
    assert "last" in runs_seen(lake)[0]
    assert lake.read("rejects").num_rows == len(runs_seen(lake)[0]), "nothing twice"
    assert list(lake.pending()) == []


def test_files_are_plain_parquet(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    lake.commit(run_row("r1"), lake.write("annotations", annotation_rows("log", 3), "u"))
    (uri,) = lake.files("annotations")
    assert pq.read_table(uri).equals(lake.read("annotations"))
    (add,) = lake.adds("annotations")
    assert (add.size, add.rows) == (Path(uri).stat().st_size, 3)
    if sys.platform != "win32":
        umask = os.umask(0)
        os.umask(umask)
        assert Path(uri).stat().st_mode & 0o777 == 0o666 & ~umask
