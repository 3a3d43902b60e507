"""Commands side by side on one lake, in processes of which some are killed."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.lake.ledger import parted
from pipeline.lake.tables import Lake
from schemas.tables import TABLES
from tests.conftest import Tell
from tests.jobs.forked import Running, start
from tests.jobs.inprocess import call

pytestmark = pytest.mark.slow

SCHEDULES = int(os.environ.get("FLEETMILL_RACES", "6"))
"""Schedules to race; there are 28 pairs of jobs."""

LEFT_OUT = {"pack_uri", "offset", "run_id"}
"""Columns that say who wrote a row and where, which depends on how the work was cut."""

Words = tuple[str, ...]


def jobs_of(fleet: Path) -> dict[str, tuple[Words, ...]]:
    """The jobs that race: of each two commands, which overlap."""
    # Named one by one, because a log is named by its path in the input that it came from.
    first, *_ = drives = [str(drive) for drive in sorted(fleet.glob("*/TeslaCam/*/*"))]
    inputs = tuple(word for drive in reversed(drives) for word in ("--input", drive))
    corpus = ("--topology", "dojo-tray")
    rest = ("--sweep-fps", "1", "--label-fps", "1", "--corpus")
    unblurred = ("--privacy", "none")
    return {
        "run": (
            ("run", *inputs, *rest, "all", *corpus),
            ("run", *inputs[2:], *rest, "open", *corpus, *unblurred),
        ),
        "ingest": (("ingest", "--input", first), ("ingest", *inputs)),
        "sweep": (("sweep", "--fps", "1"), ("sweep", "--fps", "1", "--input-timeout", "500")),
        "mine": (("mine",), ("mine", "--only", "uniform_sample", "--only", "hard_brake")),
        "label": (("label", "--label-fps", "1"), ("label", "--label-fps", "1", *unblurred)),
        "corpus": (
            ("corpus", "all", *corpus),
            ("corpus", "some", *corpus, "--where", "trigger = 'uniform_sample'"),
        ),
        "compact": (("compact",), ("compact", "--keep", "1")),
    }


@dataclass(frozen=True, slots=True)
class Start:
    """A fleet, its lakes to start from, and how the work on any of them has to end."""

    fleet: Path
    lakes: tuple[Path, ...]
    rows: dict[str, Counter[Any]]
    roots: dict[str, str]
    seconds: float

    def finish(self, lake: Path) -> None:
        """Does what is left, one command after the other."""
        jobs = jobs_of(self.fleet)
        for words in (jobs["run"][0], *jobs["label"], jobs["run"][1], *jobs["corpus"]):
            done = call(*words, "--lake", lake)
            assert done.code == 0, done.err


def contents(lake: Path) -> dict[str, Counter[Any]]:
    """The rows of every table but `runs`; of the ledger, what was done, once for each digest."""
    opened = Lake.open(str(lake))
    rows: dict[str, Counter[Any]] = {
        table: Counter(
            repr([(name, value) for name, value in row.items() if name not in LEFT_OUT])
            for row in opened.read(table).to_pylist()
        )
        for table in TABLES
        if table not in {"runs", "ledger"}
    }
    rows["ledger"] = Counter(
        (row["stage"], row["subject"], part)
        for row in opened.read("ledger").to_pylist()
        for part in parted(row["stage_digest"])
    )
    return rows


def roots(lake: Path) -> dict[str, str]:
    """The root hash of the latest snapshot of every corpus."""
    found: dict[str, str] = {}
    for latest in sorted(lake.glob("corpora/*/latest.json")):
        snapshot = json.loads(latest.read_text())["snapshot"]
        manifest: Any = json.loads((latest.parent / snapshot / "manifest.json").read_text())
        found[latest.parent.name] = manifest["root"]
    return found


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """One drive of three through every job, a second one through none, one, two, … of them."""
    folder = tmp_path_factory.mktemp("races")
    fleet, lake = folder / "fleet", folder / "lake"
    size = ("--minutes", "0.1", "--size", "32x32", "--cameras", "front", "--seed", "3")
    assert call("synth", fleet, "--drives", "3", *size).code == 0
    jobs = jobs_of(fleet)
    every, (_, *inputs) = jobs["run"][0], jobs["ingest"][1]
    began = time.monotonic()
    steps: list[Words] = [
        ("run", "--input", inputs[-1], *every[7:]),
        ("ingest", "--input", inputs[-3]),
        *(jobs[job][0] for job in ("sweep", "mine", "label")),
    ]
    lakes: list[Path] = []
    for words in steps:
        done = call(*words, "--lake", lake)
        assert done.code == 0, done.err
        if not lakes:
            seconds = time.monotonic() - began
        lakes.append(folder / f"after-{words[0]}")
        shutil.copytree(lake, lakes[-1])
    start = Start(fleet, tuple(lakes), {}, {}, seconds)
    start.finish(lake)
    return Start(fleet, tuple(lakes), contents(lake), roots(lake), seconds)


def race(
    dice: random.Random, ready: Start, pair: tuple[str, str], lake: Path, out: Path
) -> list[Running]:
    """Starts two of each of a pair of jobs and two readers at random moments; kills some."""
    jobs = jobs_of(ready.fleet)
    readers = [("query", "SELECT count(*) FROM events JOIN parts USING (event_id)"), ("verify",)]
    commands = [dice.choice(jobs[job]) for job in (*pair, *pair)] + readers
    moments: list[tuple[float, str, int]] = []
    for number, _ in enumerate(commands):
        begin = dice.uniform(0, ready.seconds)
        moments.append((begin, "start", number))
        if dice.random() < 0.35:
            moments.append((begin + dice.uniform(0.02, 1.2) * ready.seconds, "kill", number))
    running: dict[int, Running] = {}
    began = time.monotonic()
    for at, what, number in sorted(moments):
        time.sleep(max(0.0, began + at - time.monotonic()))
        words = commands[number]
        place = (str(lake),) if words[0] == "verify" else ("--lake", str(lake))
        if what == "start":
            running[number] = start(out / f"{number}-{words[0]}.txt", *words, *place)
        else:
            running[number].kill()
    return list(running.values())


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_processes_side_by_side_end_in_the_rows_of_one(
    ready: Start, tmp_path: Path, tell: Tell, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - a test's choice, the same every time
    pairs = list(itertools.combinations_with_replacement(jobs_of(ready.fleet), 2))
    lake = tmp_path / "lake"
    shutil.copytree(dice.choice(ready.lakes), lake)
    # 11 and 28 have no common factor: few schedules are of pairs that have little in common.
    running = race(dice, ready, pairs[11 * seed % len(pairs)], lake, tmp_path)
    codes = [command.wait() for command in running]
    for command, code in zip(running, codes, strict=True):
        output = command.output.read_text()
        assert code in {0, -9}, f"{command.arguments}: {code}\n{output}"
        assert "Traceback" not in output, f"{command.arguments}\n{output}"
    ready.finish(lake)
    rows = contents(lake)
    for table, expected in ready.rows.items():
        assert rows[table] == expected, table
    assert roots(lake) == ready.roots
    verified = call("verify", lake)
    assert verified.code == 0, verified.out + verified.err
    tell(f"{len(codes)} processes, {codes.count(-9)} killed")
