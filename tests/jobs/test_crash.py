"""A run that is killed at any moment and started again ends in the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.tables import TABLES
from tests.conftest import ROOT, Fleetmill, environment
from tests.servers import wait_for
from tests.weights import needed

pytestmark = pytest.mark.slow

MOMENTS = 10


def arguments(fleet: Path, lake: Path) -> list[str]:
    """The run that is killed."""
    plan = ["--corpus", "c", "--topology", "dojo-tray", "--label-fps", "1", "--json"]
    return ["run", "--input", str(fleet), "--lake", str(lake), "--sweep-fps", "0.5", *plan]


def readable(lake: Path) -> dict[str, int]:
    """Reads every table, checks references between them, and returns the rows by table."""
    try:
        opened = Lake.open(str(lake))
    except LakeError:
        return {}
    tables = {name: opened.read(name) for name in TABLES}
    logs = set(tables["logs"]["log_id"].to_pylist())
    events = set(tables["events"]["event_id"].to_pylist())
    for name, table in tables.items():
        if "log_id" in table.column_names:
            assert set(table["log_id"].to_pylist()) <= logs, name
        if "event_id" in table.column_names:
            assert set(table["event_id"].to_pylist()) <= events, name
    for row in tables["parts"].to_pylist():
        assert (lake / row["pack_uri"]).stat().st_size >= row["offset"] + row["length"]
    runs = tables["runs"].to_pylist()
    assert len({row["run_id"] for row in runs}) == len(runs)
    return {name: table.num_rows for name, table in tables.items()}


def snapshots(lake: Path) -> list[str]:
    """The published snapshots of the corpus: those with a manifest."""
    return sorted(path.parent.name for path in (lake / "corpora" / "c").glob("*/manifest.json"))


def test_killed_at_random_moments_it_ends_in_the_same_root_hash(
    fleetmill: Fleetmill, tmp_path: Path
) -> None:
    """SIGKILL at ten moments, all on one lake; a reader never sees part of a run."""
    fleet, calm, rough = tmp_path / "fleet", tmp_path / "calm", tmp_path / "rough"
    size = ("--size", "160x120", "--cameras", "front", "--minutes", "0.6")
    assert fleetmill("synth", fleet, "--drives", "2", *size).code == 0
    start = time.perf_counter()
    uninterrupted = fleetmill(*arguments(fleet, calm))
    seconds = time.perf_counter() - start
    assert uninterrupted.code == 0, uninterrupted.err
    moments = random.Random(20261123)  # noqa: S311 - when to kill, and the same every time
    env = environment(FLEETMILL_MODELS=str(needed()), HTTPS_PROXY="http://127.0.0.1:9")
    killed = 0
    while killed < MOMENTS:
        with subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *arguments(fleet, rough)],
            cwd=ROOT,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                code = process.wait(moments.uniform(0.2, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
                code = 0
        assert code == 0
        rows = readable(rough)
        if rows.get("parts") and snapshots(rough) and killed < MOMENTS:
            shutil.rmtree(rough)  # the run had finished: kill a new one next
    done = fleetmill(*arguments(fleet, rough))
    assert done.code == 0, done.err
    assert done.document["snapshot"]["root"] == uninterrupted.document["snapshot"]["root"]
    rows = readable(rough)
    expected = readable(calm)
    unlike = ("runs", "ledger")  # an interrupted run and its rest are two runs
    assert {n: rows[n] for n in rows if n not in unlike} == {
        n: expected[n] for n in expected if n not in unlike
    }
    assert fleetmill("verify", rough).code == 0
    assert snapshots(rough) == snapshots(calm)


def contents(lake: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table, without the times of the runs."""
    opened = Lake.open(str(lake))
    return {
        name: [
            {key: value for key, value in row.items() if not key.endswith("ed_ns")}
            for row in opened.read(name).to_pylist()
        ]
        for name in TABLES
    }


@pytest.mark.parametrize("finished", [1, 4])
def test_an_event_that_was_finished_before_the_kill_is_not_decoded_again(
    fleetmill: Fleetmill, tmp_path: Path, finished: int
) -> None:
    """All events are of one log. A pack that is written again would be another file."""
    fleet, calm, rough = tmp_path / "fleet", tmp_path / "calm", tmp_path / "rough"
    size = ("--size", "160x120", "--cameras", "front", "--minutes", "1")
    assert fleetmill("synth", fleet, "--drives", "1", *size).code == 0
    assert fleetmill("ingest", "--input", fleet, "--lake", calm).code == 0
    config = tmp_path / "more.toml"
    config.write_text("[mine.params.uniform_sample]\nevery_s = 6.0\n")
    assert fleetmill("mine", "--lake", calm, "--config", config).code == 0
    shutil.copytree(calm, rough)
    label = ("label", "--label-fps", "1", "--json", "--lake")
    assert fleetmill(*label, calm).code == 0
    events = len(contents(calm)["events"])
    assert events > finished + 1

    def done() -> set[str]:
        return {path.stem for path in rough.glob("work/*/*/*.done")}

    with subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *label, str(rough)],
        cwd=ROOT,
        env=environment(FLEETMILL_MODELS=str(needed()), HTTPS_PROXY="http://127.0.0.1:9"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        wait_for(lambda: len(done()) >= finished, "the moment to kill")
        os.killpg(process.pid, signal.SIGKILL)
    keys = done()
    assert finished <= len(keys) < events
    packs = {key: (rough / "packs" / f"{key}.tar").stat() for key in keys}

    again = fleetmill(*label, rough)
    assert again.code == 0, again.err
    (job,) = again.document["jobs"]
    assert job["metrics"]["tasks_resumed"] == len(keys)
    assert job["metrics"]["decode_ms"]["count"] == events - len(keys)
    for key, stat in packs.items():
        now = (rough / "packs" / f"{key}.tar").stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert contents(rough) == contents(calm)
    assert {path.name: path.read_bytes() for path in (rough / "packs").iterdir()} == {
        path.name: path.read_bytes() for path in (calm / "packs").iterdir()
    }
    assert fleetmill("verify", rough).code == 0
