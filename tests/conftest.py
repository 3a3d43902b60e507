"""What every test may use: the real recordings, and the command as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real recordings; the test skips where it is absent."""
    root = os.environ.get("FLEETMILL_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs the recordings folder: set FLEETMILL_DATA")
    return Path(root).resolve()


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What --json printed."""
        return json.loads(self.out)


Fleetmill = Callable[..., Finished]


def environment(**extra: str) -> dict[str, str]:
    """The environment of a command that runs from this source tree in any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **extra}


@pytest.fixture(scope="session")
def fleetmill(tmp_path_factory: pytest.TempPathFactory) -> Fleetmill:
    """Runs `fleetmill ARGUMENTS…` in a process of its own and returns how it ended.

    Unless told otherwise it finds no model weights, and nothing to fetch them from.
    """
    empty = tmp_path_factory.mktemp("no-models")

    def run(*arguments: object, cwd: Path | None = None, **extra: str) -> Finished:
        offline = {"FLEETMILL_MODELS": str(empty), "HTTPS_PROXY": "http://127.0.0.1:9"}
        done = subprocess.run(
            [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
            cwd=cwd or ROOT,
            env=environment(**{**offline, **extra}),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


Tell = Callable[[str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Shows a text at the end of the test run, whichever process the test ran in."""
    return lambda text: record_property("told", text)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Shows what tests told."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            told = [text for name, text in report.user_properties if name == "told"]
            if told and report.when == "call":
                terminalreporter.section(report.nodeid)
                terminalreporter.line("\n\n".join(told))
