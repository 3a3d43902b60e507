"""Two thousand segments on one machine: memory does not grow with the tasks done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT, Fleetmill, Tell, environment
from tests.segments import write_segments
from tests.weights import needed

pytestmark = pytest.mark.slow

SEGMENTS = 2000
GROWTH = 1.10
MEASURED = ("ingest", "label")
"""The jobs with tasks for every segment."""

ALLOCATOR = {"MALLOC_ARENA_MAX": "2"}
"""As in our image. By default glibc keeps memory freed by threads in eight heaps a core."""

LINES = 40


@dataclass(slots=True)
class Watched:
    """The resident memory of a finished command over time, and when its jobs began and ended."""

    seconds: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    begins: dict[str, float] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)

    def spans(self) -> list[tuple[str, list[float]]]:
        """The memory during each measured job, less the job's first tenth."""
        found = []
        for job in MEASURED:
            begin, end = self.begins[job], self.ends[job]
            after = begin + (end - begin) / 10
            times = zip(self.seconds, self.mib, strict=True)
            found.append((job, [mib for at, mib in times if after <= at < end]))
        return found


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def watch(arguments: list[str], folder: Path) -> Watched:
    """Runs the command and samples its memory ten times a second."""
    watched, log = Watched(), folder / "log"
    env = environment(FLEETMILL_MODELS=str(needed()), HTTPS_PROXY="http://127.0.0.1:9", **ALLOCATOR)
    start = time.monotonic()
    with (
        (folder / "out").open("wb") as out,
        log.open("wb") as err,
        subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *arguments],
            cwd=ROOT,
            env=env,
            stdout=out,
            stderr=err,
        ) as process,
    ):
        while process.poll() is None:
            at = time.monotonic() - start
            said = log.read_text()
            for job in re.findall(r"^(\w+): \d+ tasks$", said, re.M):
                watched.begins.setdefault(job, at)
            for job, _ in re.findall(r"^(\w+): (\d+) of \2$", said, re.M):
                watched.ends.setdefault(job, at)
            watched.seconds.append(at)
            watched.mib.append(resident_mib(process.pid))
            time.sleep(0.1)
    assert process.returncode == 0, log.read_text()
    return watched


def test_memory_is_flat_over_two_thousand_segments(
    fleetmill: Fleetmill, tmp_path: Path, tell: Tell
) -> None:
    """After the first tenth of each job; and every segment is accounted for to the end."""
    fleet, lake = write_segments(fleetmill, tmp_path / "fleet", SEGMENTS), tmp_path / "lake"
    plan = ["--corpus", "c", "--topology", "dojo-tray", "--label-fps", "1", "--json"]
    watched = watch(["run", "--input", str(fleet), "--lake", str(lake), *plan], tmp_path)
    document = json.loads((tmp_path / "out").read_text())
    lines = [f"{SEGMENTS} segments: {watched.seconds[-1]:.0f} s", "seconds  RSS (MiB)"]
    every = max(1, len(watched.mib) // LINES)
    for at, mib in list(zip(watched.seconds, watched.mib, strict=True))[::every]:
        begun = [job for job, begin in watched.begins.items() if begin <= at]
        lines.append(f"{at:7.0f}  {mib:9.0f}  {' '.join(begun[-1:])}")
    spans = watched.spans()
    for job, sizes in spans:
        grown = max(sizes) / sizes[0]
        lines.append(
            f"{job}: {sizes[0]:.0f} MiB after its first tenth, at most {grown:.3f} of that"
        )
    tell("\n".join(lines))
    assert all(max(sizes) <= GROWTH * sizes[0] for _, sizes in spans)
    counts = {(c["stage"], c["of"]): c for job in document["jobs"] for c in job["counts"]}
    for count in counts.values():
        assert count["in"] == count["kept"] + count["filtered"] + count["rejected"]
    assert counts["ingest", "logs"]["kept"] == counts["mine", "logs"]["kept"] == SEGMENTS
    assert counts["mine", "events"]["kept"] == counts["label", "events"]["kept"] >= SEGMENTS
    splits = document["snapshot"]["splits"].values()
    assert sum(split["samples"] for split in splits) == counts["label", "events"]["kept"]
    assert fleetmill("verify", lake).code == 0
