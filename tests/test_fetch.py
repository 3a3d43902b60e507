"""What a fresh machine lacks is said in one line."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT, environment


def test_a_missing_java_or_maven_is_one_line() -> None:
    """It names both, and how to install them."""
    command = [sys.executable, "-m", "tests.fetch"]
    env = environment(PATH="/nonexistent")
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for word in ("Java 17", "Maven", "apt-get install"):
        assert word in line
