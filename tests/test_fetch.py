"""Programs that are not installed: the message about them, and how Chromium is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment


@pytest.mark.parametrize(
    ("target", "words"),
    [("flink-test", ("Java 17", "Maven")), ("s3-test", ("Go",)), ("review-test", ("Chromium",))],
)
def test_missing_programs_are_reported_in_one_line(target: str, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.fetch", target]
    env = environment(PATH="/nonexistent")
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for word in (target, *words, "apt-get install"):
        assert word in line


_APT = """#!/bin/sh -e
here=$(dirname "$0")
echo "$@" >> "$here/asked"
case "$*" in
    *update) [ -e "$here/failed" ] || { touch "$here/failed"; exit 100; } ;;
    *chromium*) ln -s /bin/true "$here/chromium" ;;
esac
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
def test_root_installs_chromium_once_also_where_a_mirror_fails(tmp_path: Path) -> None:
    for program in ("dirname", "env", "ln", "sh", "touch"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    (tmp_path / "apt-get").write_text(_APT)
    (tmp_path / "apt-get").chmod(0o755)
    command = [sys.executable, "-m", "tests.fetch", "review-test"]
    env = environment(PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    for _ in range(2):
        subprocess.run(command, cwd=ROOT, env=env, check=True)
    asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    assert ["update" in words for words in asked] == [True, True, False]
    assert {"install", "-y", "chromium"} < set(asked[-1])
