"""Fixtures for all tests: the recordings, an object store, the command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.deploy.s3.store import Store

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
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The document that --json printed."""
        return json.loads(self.out)


Fleetmill = Callable[..., Finished]


def environment(**extra: str) -> dict[str, str]:
    """Returns an environment in which a command uses this source tree from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **extra}


_LIMITED = """
import os, resource, sys
limit, number, *command = sys.argv[1:]
resource.setrlimit(getattr(resource, limit), (int(number), int(number)))
os.execv(command[0], command)
"""


def limited(limit: str, number: int, command: Sequence[str]) -> list[str]:
    """Returns a command that runs another one under a limit, such as RLIMIT_NOFILE.

    Not by `preexec_fn`: it would fork a process in which gRPC has threads, whose handlers may
    abort the child before it is the command.
    """
    return [sys.executable, "-c", _LIMITED, limit, str(number), *command]


@pytest.fixture(scope="session")
def fleetmill() -> Fleetmill:
    """Runs `fleetmill ARGUMENTS…` in a process and returns its exit code and output.

    By default there are only the model weights that privacy needs, and no network to fetch others.
    """
    from tests.weights import needed  # noqa: PLC0415 - it fetches them

    offline = {"FLEETMILL_MODELS": str(needed()), "HTTPS_PROXY": "http://127.0.0.1:9"}

    def run(*arguments: object, cwd: Path | None = None, **extra: str) -> Finished:
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


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A running S3 server; for tests with the mark `s3`."""
    from tests.deploy.s3.store import running  # noqa: PLC0415 - it imports this module

    with running(tmp_path_factory.mktemp("s3")) as started:
        yield started


Tell = Callable[[str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Prints a text at the end of the test run, also from a worker process of pytest-xdist."""
    return lambda text: record_property("told", text)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the texts of `tell`, and the table of the fuzzers."""
    tallies = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            if report.when != "call":
                continue
            texts = [text for name, text in report.user_properties if name == "told"]
            tallies += [tally for name, tally in report.user_properties if name == "fuzz"]
            if texts:
                terminalreporter.section(report.nodeid)
                terminalreporter.line("\n\n".join(texts))
    if tallies:
        from tests.fuzz.cases import table  # noqa: PLC0415 - it imports this module

        terminalreporter.section("fuzz")
        terminalreporter.line("\n".join(table(tallies)))
