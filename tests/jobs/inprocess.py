"""Runs the command in the test's own process, which saves the import of Beam."""

from __future__ import annotations

import contextlib
import io

from jobs import cli
from tests.conftest import Finished


def call(*arguments: object) -> Finished:
    """Runs `fleetmill ARGUMENTS…` and returns its exit code, stdout and stderr."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([str(argument) for argument in arguments])
    printed = [stream.buffer.getvalue() for stream in (out, err)]
    return Finished(code, *(text.decode("utf-8", "replace") for text in printed))


def binary(*arguments: object) -> bytes:
    """Runs a command that must succeed and returns what it wrote to stdout."""
    out = io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(out):
        assert cli.main([str(argument) for argument in arguments]) == 0
    out.flush()
    return out.buffer.getvalue()
