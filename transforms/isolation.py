"""Calls on strangers' input: in a child process, within limits of time and memory.

A decoder, a model or a parser of another library may hang in native code, crash, or take all the
memory of the machine, and no thread can be stopped for certain. So such a call is made in a child
process, which is killed when its time is over or when it has taken too much memory. The kernel
refuses what it would take at once beyond that.

A child makes one call after the other, and is replaced when it ends; threads that call at the same
time have a child each.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import mmap
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from schemas.errors import (
    CrashedError,
    FleetError,
    InternalError,
    KilledError,
    TimeLimitError,
    TooLargeError,
    one_line,
)
from transforms.budget import UNLIMITED
from transforms.timing import charge, recording

GRACE_S = 30
"""An orphan, whose parent was killed, ends so much later than its parent would have killed it."""

SLACK_BYTES = 512 << 20
"""Memory beyond the limit that the kernel gives: what is not used yet, and what is taken before
the next look."""

_LOOK_S = 0.02
"""Time between looks at the memory of a child: some 100 MB can be filled meanwhile."""

START = "start"
"""The step to which it is charged that a child starts and loads what its calls use."""

_ALIGNED = 64
"""Buffers begin at multiples of so many bytes, as Arrow wants them."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_WATCHES = sys.platform.startswith("linux")

_PROGRAM = "import sys; sys.path[:] = {!r}; from transforms.isolation import serve; serve({})"
_MAX_CHARS = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one input may take.

    Args:
        seconds: of time.
        memory_bytes: of memory, beyond what the process has before; UNLIMITED for any amount.
            Watched on Linux only.
    """

    seconds: float = 900.0
    memory_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A function that can be pickled by its name, and its arguments.

    `prepare` is called before it without a limit of memory: it loads what later calls use too.
    """

    function: Callable[..., T]
    arguments: tuple[Any, ...]
    prepare: Callable[[], object] | None = None


def isolated(call: Call[T], limits: Limits, uri: str) -> T:
    """Makes a call in a child process; returns what it returns, and raises what it raises.

    Args:
        call: what to do; it must have no side effects, since it may be stopped at any moment.
        limits: its time and memory.
        uri: the input, for messages.

    Raises:
        FleetError: as the call raised it.
        TimeLimitError: it was not done in time.
        TooLargeError: it needed more memory.
        CrashedError: the process crashed.
        KilledError: another process killed it.
        InternalError: the call raised anything else.
    """
    child = _take()
    try:
        answer = child.ask(call, limits)
    except EOFError:
        raise _ended(child.ended(), uri) from None
    except _OverTimeError:
        child.kill()
        raise TimeLimitError(
            f"{uri}: not done after {limits.seconds:g} s; the next run tries it again: check that "
            "its storage answers, raise --input-timeout, or remove the input"
        ) from None
    except _OverMemoryError:
        child.kill()
        raise _too_large(limits, uri) from None
    except BaseException:  # an interrupt, while the child is at work
        child.kill()
        raise
    _give_back(child)
    charge(answer.spent_ns)
    if answer.error is None:
        result: T = answer.value
        return result
    if isinstance(answer.error, MemoryError):
        raise _too_large(limits, uri)
    if isinstance(answer.error, FleetError):
        raise answer.error
    raise InternalError(f"{uri}: {answer.error}")


def _too_large(limits: Limits, uri: str) -> TooLargeError:
    return TooLargeError(
        f"{uri}: needs more memory than the {limits.memory_bytes / 1e9:.3g} GB that an input may "
        "take; raise --input-memory, or split the input"
    )


def _ended(status: int, uri: str) -> FleetError:
    """Returns the error for a child that ended within a call."""
    if status in {-signal.SIGKILL, -signal.SIGTERM}:
        return KilledError(
            f"{uri}: its process was killed, perhaps because the machine has too little memory; "
            "the next run tries it again: use fewer workers, or lower --input-memory"
        )
    how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
    return CrashedError(
        f"{uri}: its process crashed ({how}): a fault in a native library, or too little memory "
        "for it; remove the input, or raise --input-memory"
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a child says: a result or an error, and nanoseconds by step."""

    value: Any
    error: Exception | str | None
    spent_ns: dict[str, int]


class _OverTimeError(Exception):
    pass


class _OverMemoryError(Exception):
    pass


class _Child:
    """A child process, as its parent sees it."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        # Popen without a function to call before exec does not run our code in a forked process,
        # which gRPC's threads would not survive.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(sys.path, theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection = ours

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ask(self, call: Call[Any], limits: Limits) -> _Answer:
        """Makes a call.

        Raises:
            EOFError: the child ended.
            _OverTimeError, _OverMemoryError: it is still at work, beyond its limits.
        """
        over = time.monotonic() + limits.seconds
        began_ns = time.perf_counter_ns()
        try:
            _send(self._connection, _pack((call, limits)))
            self._await(over, None)
            # The child says what it holds: it is at work already when the message is read.
            held_bytes = int(self._connection.recv_bytes())
            charge({START: time.perf_counter_ns() - began_ns})
            allowed = limits.memory_bytes
            watched = _WATCHES and allowed != UNLIMITED
            self._await(over, held_bytes + allowed if watched else None)
            answer: _Answer = _receive(self._connection)
        except OSError as error:
            raise EOFError from error
        return answer

    def _await(self, over: float, most_bytes: int | None) -> None:
        """Waits for the child's next message, and looks at its memory when that is there too."""
        look_s = _LOOK_S if most_bytes is not None else float("inf")
        waits = True
        while waits:
            waits = not self._connection.poll(max(0.0, min(look_s, over - time.monotonic())))
            if waits and time.monotonic() >= over:
                raise _OverTimeError
            if most_bytes is not None and _memory_bytes(self._process.pid) > most_bytes:
                raise _OverMemoryError

    def ended(self) -> int:
        """Returns how it ended, which it did or is about to."""
        try:
            return self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()
        finally:
            self._connection.close()

    def kill(self) -> None:
        """Ends it, whatever it is at."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


_idle: list[_Child] = []
_lock = threading.Lock()


def _take() -> _Child:
    """Returns a child that nobody uses."""
    with _lock:
        while _idle:
            child = _idle.pop()
            if child.alive:
                return child
            child.kill()
    return _Child()


def _give_back(child: _Child) -> None:
    with _lock:
        _idle.append(child)


@atexit.register
def close_idle() -> None:
    """Ends the children that nobody uses."""
    with _lock:
        while _idle:
            _idle.pop().kill()


Packed = tuple[bytes, list[memoryview]]
"""What is sent: a pickled object, and the buffers of its tables and arrays."""


def _pack(value: object) -> Packed:
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    return content, [buffer.raw() for buffer in buffers]


def _send(connection: Connection, packed: Packed) -> None:
    """Sends an object; its buffers go through shared memory, and are copied once."""
    content, views = packed
    shared = _shared(views)
    connection.send_bytes(content)
    connection.send_bytes(pickle.dumps(([view.nbytes for view in views], shared is not None)))
    if shared is not None:
        with shared:
            reduction.send_handle(connection, shared.fileno(), 0)
        return
    for view in views:
        if view.nbytes:
            connection.send_bytes(view)


def _shared(views: Sequence[memoryview]) -> BinaryIO | None:
    """Copies buffers to shared memory; returns None if there is nothing, or no memory to share.

    A limit on the size of files (`ulimit -f`) holds for shared memory too.
    """
    if not any(view.nbytes for view in views):
        return None
    shared = _shared_memory()
    try:
        for view in views:
            shared.write(view)
            shared.write(bytes(-view.nbytes % _ALIGNED))
        shared.flush()
    except OSError:
        with contextlib.suppress(OSError):  # it tries once more to write the rest
            shared.close()
        return None
    return shared


def _receive(connection: Connection) -> Any:
    """Receives what `_send` sent."""
    content = connection.recv_bytes()
    sizes, is_shared = pickle.loads(connection.recv_bytes())  # noqa: S301 - our own process
    if is_shared:
        handle = reduction.recv_handle(connection)
        try:
            # The object keeps it as long as it needs it.
            memory = memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(handle)
        starts = itertools.accumulate((size + -size % _ALIGNED for size in sizes), initial=0)
        buffers = [memory[at : at + size] for at, size in zip(starts, sizes, strict=False)]
    else:
        buffers = [memoryview(connection.recv_bytes() if size else b"") for size in sizes]
    return pickle.loads(content, buffers=buffers)  # noqa: S301 - our own process


def _shared_memory() -> BinaryIO:
    """Opens a file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("fleetmill"), "wb")
    return tempfile.TemporaryFile()


def serve(handle: int) -> None:
    """Answers calls until the parent is gone: what a child process does."""
    connection = Connection(handle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    while True:
        try:
            call, limits = _receive(connection)
        except EOFError:
            return
        # The kernel ends an orphan, whatever it is at.
        signal.setitimer(signal.ITIMER_REAL, limits.seconds + GRACE_S)
        answer = _answer(call, limits, connection)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            packed = _pack(answer)
        except Exception as error:  # noqa: BLE001 - whatever a result's pickling raises
            packed = _pack(_Answer(None, described(error), {}))
        _send(connection, packed)


def _answer(call: Call[Any], limits: Limits, connection: Connection) -> _Answer:
    value: Any = None
    error: Exception | str | None = None
    with recording() as times:
        try:
            try:
                if call.prepare is not None:
                    call.prepare()
            finally:
                held_bytes = _memory_bytes(os.getpid()) if _WATCHES else 0
                connection.send_bytes(b"%d" % held_bytes)
            with _memory(limits.memory_bytes):
                value = call.function(*call.arguments)
        except MemoryError:
            error = MemoryError()
        except FleetError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 - whatever a plug-in raises
            error = described(raised)
        return _Answer(value, error, times.nanoseconds())


def described(error: Exception) -> str:
    """Names an error that is none of the input, and where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"{type(error).__name__} at {where}: {one_line(error)[:_MAX_CHARS]}"


@contextlib.contextmanager
def _memory(limit_bytes: int) -> Iterator[None]:
    """Limits what the process may allocate in the block, where the kernel can."""
    if not _WATCHES or limit_bytes == UNLIMITED:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = _writable_bytes() + limit_bytes + SLACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _memory_bytes(pid: int) -> int:
    """Returns the memory that is a process's own: pages of files are not."""
    statm = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(statm[1]) - int(statm[2])) * _PAGE_BYTES


def _writable_bytes() -> int:
    """Returns the private writable memory of this process, used or not: what RLIMIT_DATA limits."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * _PAGE_BYTES
