"""The message about programs that are not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT, environment


def test_a_target_that_needs_no_program_is_let_through() -> None:
    command = [sys.executable, "-m", "tests.fetch", "review-test"]
    subprocess.run(command, cwd=ROOT, env=environment(PATH="/nonexistent"), check=True)


@pytest.mark.parametrize(
    ("target", "words"), [("flink-test", ("Java 17", "Maven")), ("s3-test", ("Go",))]
)
def test_missing_programs_are_reported_in_one_line(target: str, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.fetch", target]
    env = environment(PATH="/nonexistent")
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for word in (target, *words, "apt-get install"):
        assert word in line
