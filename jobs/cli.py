"""The console script: `fleetmill SUBCOMMAND`.

A subcommand is one file, jobs/NAME.py, and one row of SUMMARIES. It is imported when it is
called, so that `fleetmill --help` is quick. Everything after `--` goes to Beam.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from jobs.process import (
    Bare,
    Stopped,
    accept_any_text,
    provide_file_handles,
    provide_streams,
    quiet,
    stoppable,
)
from jobs.state import EXIT_FAILED, EXIT_USAGE, STATE
from schemas.errors import FleetError, UsageError, one_line
from schemas.registry import Registry

SUMMARIES = {
    "demo": "Run a small synthetic fleet through everything.",
    "synth": "Write a synthetic fleet in a real format, with the truth.",
    "run": "Ingest, sweep, mine, label and build a corpus in one go.",
    "ingest": "Read logs into the lake: signals and packet indexes, no pixels.",
    "sweep": "Look at keyframes of whole logs, at a rate.",
    "mine": "Find events with triggers.",
    "label": "Decode, label, cover and encode the events.",
    "corpus": "Build an immutable snapshot of shards for a training machine.",
    "plan": "Plan a published snapshot again for another machine.",
    "review push": "Make what labellers look at: proxies, tasks and a labelling configuration.",
    "review pull": "Take the answers of labellers into the table `verdicts`.",
    "review score": "Score triggers, models and reviewers by the answers in the lake.",
    "compact": "Merge small files of the lake, and delete what nothing needs any more.",
    "verify": "Recompute everything that a corpus or a lake promises.",
    "query": "Ask the lake in SQL.",
    "list": "List formats, triggers, models, policies, topologies, maps or named queries.",
}
GROUPS = {"review": "Show events to labellers in Label Studio, take their answers, score them."}
"""Commands that have subcommands of their own, which are named with both words."""
_NAMES = {name: name.replace(" ", "_") for name in SUMMARIES}
COMMANDS = Registry("command", {name: f"jobs.{own}:{own}" for name, own in _NAMES.items()})


class _Command(TyperCommand):
    """A command whose flags and arguments hold no secret, whatever they are called."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        from transforms.addresses import check_bare  # noqa: PLC0415 - `--help` needs none of it

        for parameter in self.params:
            given = ctx.params.get(parameter.name or "")
            for value in given if isinstance(given, list | tuple) else [given]:
                if isinstance(value, str):
                    check_bare(parameter.opts[0], value)
        return rest


class _Commands(TyperGroup):
    def list_commands(self, _ctx: object) -> list[str]:
        return list(dict.fromkeys(name.split()[0] for name in SUMMARIES))

    def get_command(self, _ctx: object, name: str) -> Any:
        own = [words for words in SUMMARIES if words.split()[0] == name]
        if not own:
            return None
        if name != STATE.command:  # the overview shows one line, which needs no import
            summary = GROUPS.get(name) or SUMMARIES[name]
            return TyperCommand(name=name, help=summary, callback=lambda: None)
        app = typer.Typer(add_completion=False, no_args_is_help=name in GROUPS)
        if name in GROUPS:
            app.callback(help=GROUPS[name])(lambda: None)
        for words in own:
            app.command(words.split()[-1], cls=_Command)(COMMANDS.load(words))
        return typer.main.get_command(app)


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits the arguments at the first `--` into ours and Beam's.

    >>> split_arguments(["mine", "--lake", "L", "--", "--runner=FlinkRunner"])
    (['mine', '--lake', 'L'], ['--runner=FlinkRunner'])
    """
    ours = list(arguments)
    if "--" not in ours:
        return ours, []
    at = ours.index("--")
    return ours[:at], ours[at + 1 :]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code, as `--help` lists them.

    Args:
        arguments: the command line. None: that of the process, which then ends with the
            command's exit code without waiting for its native threads.
    """
    if arguments is not None:
        return _run(arguments)
    # Registered before any library is imported, so that it is the last exit function.
    atexit.register(_end_process)
    provide_streams()
    STATE.exit_code = _run(sys.argv[1:])
    if STATE.stopped:  # threads of a job may be in the middle of their tasks
        _end_process()
    return STATE.exit_code


def _end_process() -> None:
    """Ends the process before the interpreter is finalized.

    Native threads of Arrow, DuckDB and others may still release Python objects. A thread
    that acquires the GIL during finalization is unwound through C++ frames that must not
    throw, which aborts a process whose work is done.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(STATE.exit_code)


def _run(arguments: Sequence[str]) -> int:
    ours, beam = split_arguments(arguments)
    STATE.debug = "--debug" in ours
    ours = [argument for argument in ours if argument != "--debug"] or ["--help"]
    STATE.beam = tuple(beam)
    STATE.command = next((argument for argument in ours if not argument.startswith("-")), "")
    with contextlib.redirect_stderr(Bare(sys.stderr)), quiet(STATE.debug), stoppable():
        try:
            for stream in (sys.stdout, sys.stderr):
                accept_any_text(stream)
            provide_file_handles()
            code = int(_group().main(ours, prog_name="fleetmill", standalone_mode=False) or 0)
            sys.stdout.flush()
        except Exception as error:  # noqa: BLE001 - one line for each
            return _failed(error)
        except SystemExit as error:  # of libraries, when the reader of our output has gone
            return error.code if isinstance(error.code, int) else EXIT_FAILED
        except Stopped as stopped:
            _say("stopped; run the same command again to continue")
            STATE.stopped = True
            return stopped.exit_code
    return code


def _group() -> _Commands:
    return _Commands(
        name="fleetmill",
        help=(
            "Mills what a vehicle fleet records into what a trainer reads.\n\n"
            "`fleetmill COMMAND --help` lists the flags of a command. "
            "`--debug` shows tracebacks. Everything after `--` goes to Beam. "
            "Exit codes: 0 done; 1 the job failed; 2 bad usage or configuration; "
            "3 finished, but more inputs were rejected than --max-reject-fraction allows; "
            "130 or 143 stopped by Ctrl-C or SIGTERM."
        ),
        no_args_is_help=True,
    )


def _failed(error: Exception) -> int:
    """Says in one line why a command failed, after the traceback if it is wanted."""
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        # The reader of our output has closed it; keep Python from failing at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    if STATE.debug:
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
    if isinstance(error, UsageError | TyperException):
        _say(error.format_message() if isinstance(error, TyperException) else str(error))
        return EXIT_USAGE
    if isinstance(error, FleetError):
        _say(str(error))
    elif isinstance(error, OSError):
        _say(f"{error}; run the same command again")
    else:
        _say(f"{type(error).__name__}: {error}; --debug shows where, which is worth a report")
    return EXIT_FAILED


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"fleetmill: {one_line(line)}\n")


if __name__ == "__main__":
    raise SystemExit(main())
