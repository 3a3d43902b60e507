"""The process of a command: its streams, its logs, its signals and its file handles."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from schemas.errors import FleetError
from schemas.redaction import redact

FILES_NEEDED, FILES_WANTED = 256, 4096
"""File handles of a process. Native libraries abort where they get none, so a job does not begin
with too few; and a lake has many files."""


def provide_file_handles() -> None:
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


def provide_streams() -> None:
    """Opens the null device for an output stream that the process was started without."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


class Bare:
    """A stream that is written to without the secrets of URLs, whoever writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text without secrets."""
        return self._stream.write(redact(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes texts without secrets."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def accept_any_text(stream: Any) -> None:
    """Lets a stream escape what its encoding lacks, which by default is an error."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def quiet(debug: bool) -> Iterator[None]:
    """Switches off logs and warnings of libraries: the error behind them is said in one line."""
    if debug:
        yield
        return
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; libraries that handle KeyboardInterrupt their own way let it pass."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Stops the command in an orderly way by Ctrl-C or SIGTERM, and at once by a second one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A shell lets what it runs in the background ignore Ctrl-C.
    before = {number: found for number, found in before.items() if found is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
