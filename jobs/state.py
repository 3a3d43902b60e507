"""The state of the process that `main` sets from the command line before a subcommand runs."""

from __future__ import annotations

from dataclasses import dataclass

EXIT_FAILED, EXIT_USAGE, EXIT_REJECTS = 1, 2, 3
"""The exit codes of a job that failed or met a bug, of wrong usage, and of too many rejects."""


@dataclass(slots=True)
class State:
    """Set once, by `jobs.cli.main`."""

    command: str = ""
    """The subcommand's name."""
    debug: bool = False
    """Show tracebacks."""
    beam: tuple[str, ...] = ()
    """The options for Beam: everything after `--`."""
    exit_code: int = EXIT_FAILED
    """The exit code of the process, until its command ends with another."""
    stopped: bool = False
    """Whether Ctrl-C or SIGTERM ended the command."""


STATE = State()
