"""Many short commands on a loaded machine: a command whose work is done ends with its exit code."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Finished, Fleetmill, Tell
from tests.jobs.conftest import Chain

pytestmark = pytest.mark.slow

COMMANDS = int(os.environ.get("FLEETMILL_STRESS", "40"))
"""Commands to run."""

SIGNS = ("terminate called", "Aborted", "Fatal Python error", "Traceback", "core dumped")
"""What a process that aborts says."""


def burn(over: object) -> None:
    """Keeps a core busy until it is told that it is over, or the test's process has died."""
    test = multiprocessing.parent_process()
    while not over.is_set() and test is not None and test.is_alive():  # type: ignore[attr-defined]
        sum(range(10_000))


def short_commands(chain: Chain, lake: Path, out: Path) -> list[tuple[int, tuple[object, ...]]]:
    """Commands of all kinds with little to do, each with the exit code that it has."""
    on = ("--lake", lake)
    corpus = lake / "corpora" / "first"
    machine = ("--topology", "gpu-8")
    return [
        (0, ("--help",)),
        (0, ("list", "formats")),
        (0, ("list", "triggers", "--json")),
        (0, ("query", *on, "SELECT count(*) FROM signals")),
        (0, ("query", *on, "--format", "csv", "SELECT * FROM first_samples")),
        (2, ("query", *on, "SELECT nothing FROM nowhere")),
        (0, ("plan", corpus, *machine, "--out", out)),
        (0, ("verify", lake)),
        (0, ("verify", corpus)),
        (1, ("verify", lake / "tables")),
        (0, ("ingest", "--input", chain.fleet, *on)),
        (2, ("ingest", "--input", chain.fleet / "gone", *on)),
        (0, ("sweep", *on, "--fps", "0.5")),
        (0, ("mine", *on)),
        (0, ("label", *on, "--label-fps", "1")),
        (0, ("corpus", "first", *on, "--topology", "dojo-tray")),
        (0, ("corpus", "other", *on, *machine, "--where", "trigger = 'uniform_sample'")),
        (1, ("mine", "--lake", out.with_name("nowhere"))),
        (0, ("synth", out.with_name(f"fleet-{out.name}"), "--drives", "1", "--no-video")),
        (0, ("run", "--input", chain.fleet, *on, "--sweep-fps", "0.5", "--label-fps", "1")),
    ]


def test_the_exit_code_is_that_of_the_work(
    chain: Chain, fleetmill: Fleetmill, tmp_path: Path, tell: Tell
) -> None:
    """Each kind in turn, as many at once as there are cores, beside a busy process a core."""
    cores = os.cpu_count() or 1
    lake = tmp_path / "lake"
    shutil.copytree(chain.lake, lake)
    spawn = multiprocessing.get_context("spawn")
    over = spawn.Event()
    busy = [spawn.Process(target=burn, args=(over,), daemon=True) for _ in range(cores)]
    for burner in busy:
        burner.start()

    def run(number: int) -> tuple[int, tuple[object, ...], Finished]:
        kinds = short_commands(chain, lake, tmp_path / str(number))
        expected, words = kinds[number % len(kinds)]
        return expected, words, fleetmill(*words)

    try:
        with ThreadPoolExecutor(cores) as pool:
            ended = list(pool.map(run, range(COMMANDS)))
    finally:
        over.set()
        for burner in busy:
            burner.join()
    wrong = [
        (words, done)
        for expected, words, done in ended
        if done.code != expected or any(sign in done.err for sign in SIGNS)
    ]
    assert not wrong
    codes = Counter((str(words[0]), done.code) for _, words, done in ended)
    counted = "\n".join(f"{kind}: {n} with {code}" for (kind, code), n in sorted(codes.items()))
    tell(f"{COMMANDS} commands\n{counted}")
