"""The message about programs that are not installed."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT, environment


def test_missing_java_and_maven_are_reported_in_one_line() -> None:
    command = [sys.executable, "-m", "tests.fetch"]
    env = environment(PATH="/nonexistent")
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for word in ("Java 17", "Maven", "apt-get install"):
        assert word in line
