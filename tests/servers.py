"""Runs servers for tests: processes with a session, log and temporary folder of their own.

A server is ready once it answers; it and all its child processes are killed when the `with` block
ends, also by an exception.
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
from http.client import HTTPConnection
from pathlib import Path

import grpc

READY_S = 300.0
"""How long a server may take: other tests may keep the machine busy."""


@dataclass(frozen=True, slots=True)
class Server:
    """One process, in a session of its own, whose output goes to `log`."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kills the process and all its children with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Terminates the process, and kills it if it does not end."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.kill()

    def tail(self, lines: int = 30) -> str:
        """Returns the end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def serving(
    name: str, command: Sequence[str], folder: Path, ready: Callable[[], bool], **env: str
) -> Iterator[Server]:
    """Starts a server and waits until it answers; stops it at the end of the block.

    Args:
        name: its name, in messages and for its files.
        command: the command that starts it.
        folder: its working directory, which gets its log and its temporary folder.
        ready: asks it; False or an OSError while it does not answer.
        env: additional environment variables.

    Raises:
        RuntimeError: it ended, or did not answer in time; the message ends with its log.
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
    """Returns a function that tells whether a gRPC server answers."""

    def ask() -> bool:
        with grpc.insecure_channel(f"{host}:{port}") as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=1)
            except grpc.FutureTimeoutError:
                return False
            return True

    return ask


def http_answers(port: int, path: str) -> Callable[[], bool]:
    """Returns a function that tells whether a server on this machine answers a GET with 200."""

    def ask() -> bool:
        with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=1)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status == 200

    return ask


def free_ports(count: int) -> list[int]:
    """Finds unused TCP ports of the loopback interface."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def wait_for(done: Callable[[], bool], what: str, seconds: float = READY_S) -> None:
    """Waits until `done` returns True.

    Raises:
        TimeoutError: it does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)
