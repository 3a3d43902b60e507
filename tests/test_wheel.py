"""The wheel: built, installed away from the source, and a job run from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fetch import build_wheel


@pytest.mark.slow
def test_the_wheel_runs_a_job_outside_the_repository(tmp_path: Path) -> None:
    """Fails if a folder is not in the package list, or a file not in the package data."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env["FLEETMILL_MODELS"] = str(tmp_path / "models")

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [str(argument) for argument in arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    wheel = build_wheel(tmp_path)
    run(sys.executable, "-m", "venv", tmp_path / "empty")
    pip = tmp_path / "empty" / "bin" / "pip"
    run(pip, "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    command = tmp_path / "empty" / "bin" / "fleetmill"
    for kind in ("formats", "triggers", "models", "policies", "topologies", "queries"):
        assert run(command, "list", kind, "--json").startswith("[")
    run(command, "synth", "fleet", "--drives", 1, "--minutes", 0.5, "--no-video")
    run(command, "run", "--input", "fleet", "--lake", "lake", "--corpus", "c")
    assert "all promises hold" in run(command, "verify", "lake")
