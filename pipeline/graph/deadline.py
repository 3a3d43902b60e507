"""A limit of time for one input: what takes longer is left alone, and the rest goes on."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import copy_context
from typing import TypeVar

from schemas.errors import TimeLimitError

T = TypeVar("T")


def within(seconds: float, read: Callable[[], T], uri: str) -> T:
    """Returns what `read` returns, or raises what it raises, if it does so in time.

    A thread of its own reads. One that is late is told to stop, which it does at its next
    step in Python; one that hangs in a system call for good is left behind. So `read` must
    only compute: a late one may not have written anything.

    Args:
        seconds: the limit.
        read: reads one input.
        uri: the input, for the message.

    Raises:
        TimeLimitError: `read` is not done in time.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(read())
        except BaseException as error:  # noqa: BLE001 - the caller's to catch
            answer.set_exception(error)

    # A daemon, for a process must not wait at its end for a thread that hangs.
    # It has the caller's context, so that its steps are timed as the caller's.
    work = copy_context().run
    reader = threading.Thread(target=work, args=(run,), name=f"read {uri}", daemon=True)
    reader.start()
    try:
        return answer.result(seconds)
    except FutureTimeoutError as error:
        if answer.done():  # it was `read` itself that raised a TimeoutError
            raise
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(reader.ident or 0), ctypes.py_object(SystemExit)
        )
        raise TimeLimitError(
            f"{uri}: not done after {seconds:g} s; it is tried again by the next run: see that "
            "its storage answers, allow it more with --input-timeout, or take it out"
        ) from error
