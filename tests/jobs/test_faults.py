"""A fleet with one of each fault that strangers' files have: each costs its own log alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.lake.tables import Lake
from tests.conftest import Fleetmill, Tell
from tests.fuzz.crafted import CRAFTED, burst
from tests.fuzz.logs import write_video
from tests.segments import DRAWN, write_segments

pytestmark = pytest.mark.slow

GOOD = int(os.environ.get("FLEETMILL_GOOD_LOGS", DRAWN))
"""Logs without a fault; a multiple of DRAWN."""

SMALL = ("--json", "--max-reject-fraction", 1)


def by_fault(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Sorts rows by the fault whose log they are of."""
    return {name: [row for row in rows if f"/faults/{name}/" in row["uri"]] for name in CRAFTED}


def reasons(rows: Sequence[dict[str, Any]], stages: set[str]) -> dict[str, tuple[str, ...]]:
    """Returns the reasons of the rejects of stages, by fault."""
    found = by_fault([row for row in rows if row["stage"] in stages])
    return {name: tuple(row["reason"] for row in mine) for name, mine in found.items()}


def test_each_fault_costs_its_own_log_and_every_good_one_comes_through(
    fleetmill: Fleetmill, tmp_path: Path, tell: Tell
) -> None:
    fleet = write_segments(fleetmill, tmp_path / "made", GOOD)
    write_video(tmp_path / "clip.mp4", telemetry=True)
    clip = (tmp_path / "clip.mp4").read_bytes()
    for name, crafted in CRAFTED.items():
        crafted.write(fleet / "faults" / name, clip)
    lake = tmp_path / "lake"
    done = fleetmill("ingest", "--input", fleet, "--lake", lake, *SMALL)
    assert done.code == 0, done.err
    (logs,) = (count for count in done.document["jobs"][0]["counts"] if count["of"] == "logs")
    rejects = Lake.open(str(lake)).read("rejects").to_pylist()
    expected = {name: crafted.rejects for name, crafted in CRAFTED.items()}
    assert reasons(rejects, {"discover", "ingest"}) == expected, rejects
    assert len(rejects) == sum(map(len, expected.values()))
    assert logs["in"] == GOOD + sum(bool(crafted.format) for crafted in CRAFTED.values())
    kept = Lake.open(str(lake)).read("logs").to_pylist()
    assert sum("/faults/" not in log["uri"] for log in kept) == GOOD
    assert {name: len(mine) for name, mine in by_fault(kept).items()} == {
        name: crafted.logs for name, crafted in CRAFTED.items()
    }
    swept = fleetmill("sweep", "--lake", lake, "--fps", 25, *SMALL)
    assert swept.code == 0, swept.err
    rejects = Lake.open(str(lake)).read("rejects").to_pylist()
    looked_at = {name: crafted.swept for name, crafted in CRAFTED.items()}
    assert reasons(rejects, {"sweep"}) == looked_at, rejects
    assert len(rejects) == sum(map(len, [*expected.values(), *looked_at.values()]))
    assert all(row["detail"].isprintable() for row in rejects)
    over = fleetmill("ingest", "--input", fleet, "--lake", tmp_path / "again",
                     "--max-reject-fraction", 0)  # fmt: skip
    assert over.code == 3, over.err
    tell(f"{GOOD} good logs beside {len(CRAFTED)} faults: all of them, and {len(rejects)} rejects")


def test_a_burst_of_large_pictures_is_labelled_within_the_memory_of_an_input(
    fleetmill: Fleetmill, tmp_path: Path
) -> None:
    """600 pictures of 1920x1080 within 0.07 s are 3.7 GB: blurring must not hold them all."""
    lake = tmp_path / "lake"
    burst(tmp_path / "fleet" / "many", 600)
    for job in (
        ("ingest", "--input", tmp_path / "fleet"),
        ("mine", "--only", "aeb"),
        ("label", "--privacy", "blur", "--input-memory", 1),
    ):
        done = fleetmill(*job, "--lake", lake, *SMALL)
        assert done.code == 0, done.err
    opened = Lake.open(str(lake))
    assert opened.read("rejects").num_rows == 0
    clips = [row for row in opened.read("parts").to_pylist() if row["part"] == "clip"]
    assert [row["cameras"] for row in clips] == [["front"]]
    (count,) = [count for count in done.document["jobs"][0]["counts"] if count["of"] == "frames"]
    assert count["kept"] == 600
