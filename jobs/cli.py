"""The console script: `fleetmill SUBCOMMAND`.

A subcommand is one file, jobs/NAME.py, and one row of SUMMARIES. It is imported when it is
called, so that `fleetmill --help` is quick. Everything after `--` goes to Beam.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import resource
import sys
from collections.abc import Sequence

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from jobs.state import STATE
from schemas.errors import FleetError, UsageError, one_line
from schemas.registry import Registry

EXIT_FAILED = 1
EXIT_USAGE = 2

FILES_NEEDED, FILES_WANTED = 256, 4096
"""File handles of a process. Native libraries abort where they get none, so a job does not begin
with too few; and a lake has many files."""

SUMMARIES = {
    "demo": "Run a small synthetic fleet through everything.",
    "synth": "Write a synthetic fleet in a real format, with the truth.",
    "run": "Ingest, sweep, mine, label and build a corpus in one go.",
    "ingest": "Read logs into the lake: signals and packet indexes, no pixels.",
    "sweep": "Look at keyframes of whole logs, at a rate.",
    "mine": "Find events with triggers.",
    "label": "Decode, label, blur and encode the events.",
    "corpus": "Build an immutable snapshot of shards for a training machine.",
    "plan": "Plan a published snapshot again for another machine.",
    "compact": "Merge small files of the lake, and delete what nothing needs any more.",
    "verify": "Recompute everything that a corpus or a lake promises.",
    "query": "Ask the lake in SQL.",
    "list": "List formats, triggers, models, topologies, CAN maps or named queries.",
}
COMMANDS = Registry("command", {name: f"jobs.{name}:{name}" for name in SUMMARIES})


class _Commands(TyperGroup):
    def list_commands(self, _ctx: object) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, _ctx: object, name: str) -> TyperCommand | None:
        if name not in SUMMARIES:
            return None
        if name != STATE.command:  # the overview shows one line, which needs no import
            return TyperCommand(name=name, help=SUMMARIES[name], callback=lambda: None)
        app = typer.Typer(add_completion=False)
        app.command(name)(COMMANDS.load(name))
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand)
        return command


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
    """Runs one command and returns its exit code: 0, 1, 2 or 3 as in `--help`.

    Args:
        arguments: the command line. None: that of the process, which then ends with the
            command's exit code without waiting for its native threads.
    """
    if arguments is not None:
        return _run(arguments)
    # Registered before any library is imported, so that it is the last exit function.
    atexit.register(_end_process)
    STATE.exit_code = _run(sys.argv[1:])
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


def _provide_file_handles() -> None:
    """Raises the soft limit of open files.

    Raises:
        FleetError: the hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    if most < FILES_NEEDED:
        raise FleetError(
            f"this process may open {hard} files, and {FILES_NEEDED} are needed: raise the hard "
            "limit (`ulimit -n` in a shell)"
        )
    if soft != resource.RLIM_INFINITY and soft < FILES_WANTED:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, FILES_WANTED), hard))


def _run(arguments: Sequence[str]) -> int:
    ours, beam = split_arguments(arguments)
    STATE.debug = "--debug" in ours
    if not STATE.debug:
        # An error of a worker is printed in one line below; Beam would log its traceback too.
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        logging.getLogger().setLevel(logging.ERROR)
    ours = [argument for argument in ours if argument != "--debug"] or ["--help"]
    STATE.beam = tuple(beam)
    STATE.command = next((argument for argument in ours if not argument.startswith("-")), "")
    group = _Commands(
        name="fleetmill",
        help=(
            "Mills what a vehicle fleet records into what a trainer reads.\n\n"
            "`fleetmill COMMAND --help` lists the flags of a command. "
            "`--debug` shows tracebacks. Everything after `--` goes to Beam. "
            "Exit codes: 0 done; 1 the job failed; 2 bad usage or configuration; "
            "3 finished, but more inputs were rejected than --max-reject-fraction allows."
        ),
        no_args_is_help=True,
    )
    try:
        _provide_file_handles()
        code = group.main(ours, prog_name="fleetmill", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has closed it; keep Python from failing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (UsageError, FleetError, TyperException) as error:
        if STATE.debug:
            raise
        usage = not isinstance(error, FleetError) or isinstance(error, UsageError)
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        sys.stderr.write(f"fleetmill: {one_line(text)}\n")
        return EXIT_USAGE if usage else EXIT_FAILED
    except OSError as error:
        if STATE.debug:
            raise
        sys.stderr.write(f"fleetmill: {one_line(str(error))}; run the same command again\n")
        return EXIT_FAILED
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("fleetmill: stopped; run the same command again to continue\n")
        return EXIT_FAILED
    return int(code or 0)


if __name__ == "__main__":
    raise SystemExit(main())
