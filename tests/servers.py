"""Servers of a test: processes with an own session, log and temporary folder.

Each is waited for by asking it, and is gone with all that it started when its block ends,
whatever happened.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc

READY_S = 90.0


@dataclass(frozen=True, slots=True)
class Server:
    """One process, in a session of its own, whose output goes to `log`."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kills the process and all that it started, with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Asks the process to end, and makes it."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.kill()

    def tail(self, lines: int = 30) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def serving(
    name: str, command: Sequence[str], folder: Path, ready: Callable[[], bool], **env: str
) -> Iterator[Server]:
    """Runs a server for the length of a block, once it answers.

    Args:
        name: what to call it.
        command: starts it.
        folder: where it runs; its log and its temporary folder are made there.
        ready: asks it; False or an OSError while it does not answer.
        env: more of its environment.

    Raises:
        RuntimeError: it ended, or did not answer in time; holds the end of its log.
    """
    temporary = folder / f"{name}.tmp"
    temporary.mkdir(parents=True)
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(temporary), **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(name, log, process)

    def settled() -> bool:
        try:
            return process.poll() is not None or ready()
        except OSError:
            return False

    try:
        try:
            wait_for(settled, f"{name} to answer")
        except TimeoutError as error:
            raise RuntimeError(f"{error}:\n{server.tail()}") from error
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}:\n{server.tail()}")
        yield server
    finally:
        server.stop()


def grpc_answers(port: int, host: str = "127.0.0.1") -> Callable[[], bool]:
    """Returns what asks whether a gRPC server answers."""

    def ask() -> bool:
        with grpc.insecure_channel(f"{host}:{port}") as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=1)
            except grpc.FutureTimeoutError:
                return False
            return True

    return ask


def free_ports(count: int) -> list[int]:
    """Finds TCP ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def wait_for(done: Callable[[], bool], what: str, seconds: float = READY_S) -> None:
    """Asks until it is so.

    Raises:
        TimeoutError: it is not, after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)
