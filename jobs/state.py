"""The state of the process that `main` sets from the command line before a subcommand runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class State:
    """Set once, by `jobs.cli.main`."""

    command: str = ""
    """The subcommand's name."""
    debug: bool = False
    """Show tracebacks."""
    beam: tuple[str, ...] = ()
    """The options for Beam: everything after `--`."""
    exit_code: int = 1
    """The exit code of the process, until its command ends with another."""
    stopped: bool = False
    """Whether Ctrl-C or SIGTERM ended the command."""


STATE = State()
