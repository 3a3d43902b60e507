"""Runs commands in processes of their own, without the import of Beam for each.

The processes are forked from a server that has imported every command and used none. They are
real: they share nothing with each other but the lake, and can be killed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from jobs import cli
from tests.conftest import ROOT

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(
    [
        *(f"jobs.{command.replace(' ', '_')}" for command in cli.SUMMARIES),
        "apache_beam.runners.portability.fn_api_runner.fn_runner",
        "av",
        "cv2",
        "onnxruntime",
        "scipy.optimize",
        __name__,
    ]
)


@dataclass(frozen=True, slots=True)
class Running:
    """A command in a process; `output` is where its stdout and stderr go."""

    arguments: tuple[str, ...]
    process: ForkServerProcess
    output: Path

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.process.kill()

    def wait(self) -> int:
        """Waits for the end; returns the exit code, or -9 if it was killed."""
        self.process.join()
        code = self.process.exitcode
        assert code is not None
        return code


def start(output: Path, *arguments: object) -> Running:
    """Starts `fleetmill ARGUMENTS…`."""
    words = tuple(map(str, arguments))
    os.environ["PYTHONPATH"] = str(ROOT)  # for the server, which the first call starts
    environment = dict(os.environ)
    process = _FORKSERVER.Process(target=_command_line, args=(words, str(output), environment))
    process.start()
    return Running(words, process, output)


def _command_line(arguments: tuple[str, ...], output: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.exit(cli.main(arguments))
