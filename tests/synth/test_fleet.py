"""Whole fleets: equal bytes in any process, and any filesystem."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.errors import UsageError
from synth import WRITERS
from synth.fleet import FleetSpec, write_fleet
from tests.conftest import ROOT, environment
from tests.synth.conftest import Fleet
from transforms.readers.discover import discover


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_equal_specs_give_equal_bytes(blind: Fleet, seeing: Fleet, tmp_path: Path) -> None:
    for name, (spec, folder, _) in (("blind", blind), ("seeing", seeing)):
        write_fleet(spec, str(tmp_path / name), truth=True)
        assert _digests(tmp_path / name) == _digests(folder)


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    small = FleetSpec(2, 0.05, 8, width=96, height=64, cameras=("front",))
    specs = [replace(small, format=name) for name in WRITERS]
    source = """
import json, sys
from synth.fleet import FleetSpec, write_fleet
for fields in json.loads(sys.argv[2]):
    fields["cameras"] = tuple(fields["cameras"])
    write_fleet(FleetSpec(**fields), f"{sys.argv[1]}/{fields['format']}", truth=True)
"""
    subprocess.run(
        [sys.executable, "-c", source, tmp_path / "theirs", json.dumps([asdict(s) for s in specs])],
        env=environment(PYTHONHASHSEED="7"),
        cwd=ROOT,
        check=True,
    )
    for spec in specs:
        write_fleet(spec, str(tmp_path / "ours" / spec.format), truth=True)
    ours = _digests(tmp_path / "ours")
    assert ours == _digests(tmp_path / "theirs")
    assert {path.split("/")[0] for path in ours} == set(WRITERS)


def test_pictures_are_the_same_without_the_truth(seeing: Fleet, tmp_path: Path) -> None:
    spec, folder, report = seeing
    bare = write_fleet(spec, str(tmp_path), truth=False)
    assert (bare.logs, bare.files, bare.truth) == (report.logs, report.files, None)
    whole = _digests(folder)
    assert _digests(tmp_path) == {p: d for p, d in whole.items() if not p.startswith("truth/")}


def test_another_seed_gives_other_drives(blind: Fleet, tmp_path: Path) -> None:
    other = FleetSpec(drives=1, minutes=4.0, seed=6, video=False, events_per_minute=3)
    write_fleet(other, str(tmp_path), truth=True)
    mine = pq.read_table(tmp_path / "truth" / "ego.parquet")["x_m"].to_numpy()
    theirs = pq.read_table(blind[1] / "truth" / "ego.parquet")["x_m"].to_numpy()
    assert not np.array_equal(mine, theirs[: len(mine)])


def test_a_drive_is_the_same_in_a_larger_fleet(blind: Fleet, tmp_path: Path) -> None:
    write_fleet(FleetSpec(1, 4.0, 5, video=False, events_per_minute=3), str(tmp_path), truth=False)
    assert _digests(tmp_path).items() <= _digests(blind[1]).items()


def test_the_report_says_what_was_written(blind: Fleet, seeing: Fleet) -> None:
    for spec, folder, report in (blind, seeing):
        assert len(report.logs) == spec.drives
        assert report.files == len(list(folder.rglob("*.mp4")))
        assert report.truth == f"{folder}/truth"
        events = pq.read_table(folder / "truth" / "events.parquet")["type"].to_pylist()
        assert report.events == {name: events.count(name) for name in sorted(set(events))}


def test_any_filesystem_will_do() -> None:
    lines: list[str] = []
    spec = FleetSpec(1, 0.05, 2, video=False)
    report = write_fleet(spec, "memory://synth-fleet", truth=True, progress=lines.append)
    assert report.truth == "memory:///synth-fleet/truth"
    assert len(lines) == 1
    assert discover(["memory://synth-fleet"]).logs[0].name == report.logs[0]


def test_an_unknown_format_is_answered_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'tape'.*teslacam"):
        write_fleet(FleetSpec(1, 1.0, 1, format="tape"), str(tmp_path), truth=False)
    assert list(tmp_path.iterdir()) == []
