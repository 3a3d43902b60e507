"""`fleetmill compact`: what it says, and that nothing that happens to it changes an answer."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import CompactConfig, IngestConfig
from pipeline.graph.execute import execute
from pipeline.lake.tables import Lake
from pipeline.lake.vacuum import checkpoint, vacuum
from pipeline.lake.verify import verify
from pipeline.queries.catalog import query
from pipeline.stages.compact import plan_compact
from pipeline.stages.ingest import plan_ingest
from schemas.tables import TABLES
from synth.fleet import FleetSpec, write_fleet
from tests.conftest import ROOT, environment
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call

ANSWER = "SELECT trigger, count(*) AS n, sum(score) AS s FROM events GROUP BY 1 ORDER BY 1"


@pytest.fixture
def lake(chain: Chain, tmp_path: Path) -> Path:
    """A copy of the lake, with some more small files."""
    shutil.copytree(chain.lake, tmp_path / "lake")
    done = call(
        "mine", "--lake", tmp_path / "lake", "--only", "swerve", "--config", _weak(tmp_path)
    )
    assert done.code == 0, done.err
    return tmp_path / "lake"


def _weak(folder: Path) -> Path:
    """A configuration that mines again."""
    path = folder / "weak.toml"
    path.write_text("[mine.params.swerve]\non_mps2 = 2.0\n")
    return path


def rows(lake: Path) -> dict[str, object]:
    """The rows of every table but `runs`, to which compaction adds one."""
    opened = Lake.open(str(lake))
    return {table: opened.read(table).to_pylist() for table in TABLES if table != "runs"}


def test_a_dry_run_says_what_would_happen_and_changes_nothing(lake: Path) -> None:
    (lake / "packs" / "stray.tar").write_bytes(b"x")
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*") if path.is_file()}
    done = call("compact", "--lake", lake, "--dry-run", "--keep", "0", "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["merge"]["ledger"] == len(Lake.open(str(lake)).files("ledger"))
    assert "packs/stray.tar" in said["deleted"]
    assert {path: path.stat().st_mtime_ns for path in lake.rglob("*") if path.is_file()} == before
    text = call("compact", "--lake", lake, "--dry-run", "--keep", "0").out
    assert "would delete" in text


def test_it_merges_deletes_and_changes_no_row(lake: Path) -> None:
    (lake / "packs" / "stray.tar").write_bytes(b"x")
    before = rows(lake)
    done = call("compact", "--lake", lake, "--keep", "0", "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert "packs/stray.tar" in said["deleted"]
    assert said["files"]["ledger"] == 1
    assert rows(lake) == before
    assert verify(str(lake)).problems == ()
    again = json.loads(call("compact", "--lake", lake, "--keep", "0", "--json").out)
    assert (again["deleted"], again["jobs"][0]["tasks"]) == ([], 0)
    root = ("corpus", "first", "--lake", lake, "--topology", "dojo-tray", "--json")
    first = json.loads(call(*root).out)["snapshot"]["root"]
    assert first in (lake / "corpora" / "first").glob("*/manifest.json").__next__().read_text()


def test_a_lake_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for more in ((), ("--dry-run",)):
        done = call("compact", "--lake", tmp_path / "none", *more)
        assert (done.code, "no lake at" in done.err) == (1, True)
    assert call("compact", "--lake", tmp_path / "none", "--keep", "-1").code == 2


READER = """
import sys
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from pipeline.queries.catalog import query
url, sql, answer = sys.argv[1:]
print("ready", flush=True)
for line in sys.stdin:
    found = str(query(Lake.open(url), sql).to_pylist())
    assert found == answer, found
    problems = verify(url).problems
    assert not problems, problems
    print("same", flush=True)
"""


@pytest.mark.slow
def test_killed_at_random_moments_beside_a_reader(
    lake: Path, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """SIGKILL at 20 moments of `compact`; a process queries and verifies all the time."""
    rounds = int(os.environ.get("FLEETMILL_KILLS", "6"))
    answer = str(query(Lake.open(str(lake)), ANSWER).to_pylist())
    before = rows(lake)
    env = environment(FLEETMILL_MODELS=str(tmp_path / "none"))
    command = [sys.executable, "-c", "import sys; from jobs.cli import main; sys.exit(main())"]
    command += ["compact", "--lake", str(lake)]
    dice = random.Random(11)  # noqa: S311 - when to kill, and the same every time
    calm = tmp_path / "calm"
    shutil.copytree(lake, calm)
    start = time.perf_counter()
    subprocess.run([*command[:-1], str(calm)], cwd=ROOT, env=env, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    killed = 0
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(lake), ANSWER, answer],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for _ in range(rounds):
            with subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                reader.stdin.write("look\n")
                reader.stdin.flush()
                try:
                    # The first half of it is Python's imports.
                    process.wait(seconds * (0.4 + 0.6 * dice.random()))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    killed += 1
            assert reader.stdout.readline() == "same\n"
        reader.stdin.close()
        assert reader.wait() == 0
    assert call("compact", "--lake", lake).code == 0
    assert rows(lake) == before == rows(calm)
    assert {
        table: len(Lake.open(str(lake)).files(table)) for table in TABLES if table != "runs"
    } == {table: len(Lake.open(str(calm)).files(table)) for table in TABLES if table != "runs"}
    assert verify(str(lake)).problems == ()
    tell(f"compact: killed at {killed} of {rounds} moments, each time the same answers")


@pytest.mark.slow
def test_years_of_runs(tmp_path: Path, tell: Callable[[str], None]) -> None:
    """One new log a run, compacted now and then; FLEETMILL_RUNS sets the number of runs.

    Prints how long the first and the last runs took, which should be the same.
    """
    runs = int(os.environ.get("FLEETMILL_RUNS", "60"))
    every = max(runs // 10, 1)
    fleet, url = tmp_path / "fleet", str(tmp_path / "lake")
    spec = FleetSpec(drives=1, minutes=0.1, seed=3, video=False)
    write_fleet(spec, str(fleet), False)
    (source,) = (path for path in fleet.glob("*/TeslaCam/*/*") if path.is_dir())
    Lake.create(url)
    seconds: list[float] = []
    counts: list[tuple[int, int]] = []
    for number in range(runs):
        config = IngestConfig(input=(str(_varied(source, tmp_path / "now", number)),))
        start = time.perf_counter()
        lake = Lake.open(url)
        execute(lake, "ingest", config.model_dump(mode="json"), plan_ingest(lake, config))
        seconds.append(time.perf_counter() - start)
        if number % every == every - 1:
            before = _files(url)
            _compact(url)
            counts.append((before, _files(url)))
    first, last = (statistics.median(part) for part in (seconds[:every], seconds[-every:]))
    tell(
        f"{runs} runs of one log, compacted every {every}: a run took {first * 1000:.0f} ms among "
        f"the first {every} and {last * 1000:.0f} ms among the last; files of tables before and "
        f"after each compaction: {counts}"
    )
    lake = Lake.open(url)
    assert lake.read("logs").num_rows == runs
    assert lake.number == runs + len(counts)
    assert verify(url).problems == ()
    assert counts[-1][1] < 2 * counts[0][1]


def _varied(source: Path, target: Path, number: int) -> Path:
    """Copies a log with another serial number in a file of its own content."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target / source.name)
    for path in (target / source.name).glob("*.mp4"):
        with path.open("ab") as file:  # a box that players skip
            file.write(b"\0\0\0\x10free" + number.to_bytes(8, "big"))
    return target


def _compact(url: str) -> None:
    lake, config = Lake.open(url), CompactConfig(keep_hours=0)
    execute(lake, "compact", config.model_dump(mode="json"), plan_compact(lake, config))
    vacuum(lake, hours=0)
    checkpoint(Lake.open(url))


def _files(url: str) -> int:
    lake = Lake.open(url)
    return sum(len(lake.files(table)) for table in TABLES)
