"""What `main` takes off the command line before a subcommand sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class State:
    """Set once, by `jobs.cli.main`."""

    command: str = ""
    debug: bool = False
    beam: tuple[str, ...] = ()
    exit_code: int = 1
    """Of the process, until its command ends with another."""


STATE = State()
