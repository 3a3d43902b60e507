"""Inputs that cannot be used: each is one reject with its reason; the others are processed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.lake.tables import Lake
from tests.conftest import ROOT, Fleetmill, environment
from tests.weights import needed

pytestmark = pytest.mark.slow

PLAIN_USER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: from linux/capability.h
    if os.geteuid() == 0 and libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
        raise OSError(ctypes.get_errno(), "cannot drop a capability")
os.execv(sys.executable, [sys.executable, "-m", "jobs.cli", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def inputs(
    fleetmill: Fleetmill, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A fleet with every kind of damage; the damaged path by name."""
    root = tmp_path_factory.mktemp("hostile")
    size = ("--size", "160x120", "--cameras", "front,back", "--minutes", "0.5")
    assert fleetmill("synth", root, "--drives", "3", *size).code == 0
    clips = sorted(root.rglob("*-front.mp4"))
    backs = sorted(root.rglob("*-back.mp4"))
    backs[0].write_bytes(b"")
    whole = clips[1].read_bytes()
    clips[1].write_bytes(whole[: len(whole) // 2])
    (root / "notes.mp4").write_text("not a video at all\n" * 100)
    corrupt = clips[2].parent / "event.json"
    corrupt.write_text('{"timestamp": "2026-')
    closed = root / "closed"
    closed.mkdir()
    (closed / "inside.mp4").write_bytes(whole)
    (segment,) = (data / "comma2k19").glob("*/*")
    copied = root / segment.parent.name / segment.name
    copied.parent.mkdir()
    shutil.copytree(segment, copied)
    wrong = copied / "processed_log" / "IMU" / "gyro" / "value"
    with wrong.open("wb") as file:
        np.save(file, np.zeros((3, 7)))
    closed.chmod(0)
    return {
        "empty": backs[0],
        "half": clips[1],
        "text": root / "notes.mp4",
        "json": corrupt,
        "closed": closed,
        "npy": wrong,
        "root": root,
    }


def test_each_is_one_reject_and_everything_else_is_processed(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    """Runs as a user for whom permissions count: root drops the capability to override them."""
    lake = tmp_path / "lake"
    plan = ["--corpus", "c", "--label-fps", "1", "--max-reject-fraction", "0.9", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_USER, "run", "--input", inputs["root"], "--lake", lake, *plan],
        cwd=ROOT,
        env=environment(FLEETMILL_MODELS=str(needed()), HTTPS_PROXY="http://127.0.0.1:9"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rejects = Lake.open(str(lake)).read("rejects").to_pylist()
    by_uri = {name: [r for r in rejects if r["uri"] == str(path)] for name, path in inputs.items()}
    expected = {
        "empty": "empty",
        "half": "truncated",
        "text": "corrupt",
        "json": "corrupt",
        "npy": "corrupt",
    }
    found = {name: [row["reason"] for row in by_uri[name]] for name in expected}
    assert found == {name: [reason] for name, reason in expected.items()}, rejects
    assert len(rejects) == len(expected)
    ingested = json.loads(done.stdout)["jobs"][0]
    (note,) = ingested["notes"]
    assert str(inputs["closed"]) in note, "a missing permission is no verdict"
    assert all(row["uri"] in row["detail"] for row in rejects)
    logs = Lake.open(str(lake)).read("logs").to_pylist()
    assert sorted(row["format"] for row in logs) == ["comma2k19"] + 3 * ["teslacam"]


def test_over_the_limit_the_exit_code_is_three(
    inputs: dict[str, Path], fleetmill: Fleetmill, tmp_path: Path
) -> None:
    """The valid inputs are processed, and the message says where to look."""
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(inputs["text"], one)
    done = fleetmill("ingest", "--input", one, "--lake", tmp_path / "lake", "--json")
    assert done.code == 3
    assert "rejects" in done.err
    again = fleetmill("ingest", "--input", one, "--lake", tmp_path / "lake", "--json")
    assert again.code == 3
    assert Lake.open(str(tmp_path / "lake")).read("rejects").num_rows == 1
