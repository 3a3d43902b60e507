"""A time limit for one input, so that one that hangs does not block the others."""

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
    """Returns what `read` returns, or raises what it raises, if it ends in time.

    `read` runs in a thread. After the limit the thread is asked to stop, which it does at its
    next Python instruction; one that hangs in a system call is abandoned. So `read` must have
    no side effects.

    Args:
        seconds: the limit.
        read: reads one input.
        uri: the input, for the message.

    Raises:
        TimeLimitError: `read` does not end in time.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(read())
        except BaseException as error:  # noqa: BLE001 - the caller's to catch
            answer.set_exception(error)

    # A daemon, so that a thread that hangs does not keep the process from ending. It gets the
    # caller's context, so that its steps count as the caller's.
    work = copy_context().run
    reader = threading.Thread(target=work, args=(run,), name=f"read {uri}", daemon=True)
    reader.start()
    try:
        return answer.result(seconds)
    except FutureTimeoutError as error:
        if answer.done():  # `read` itself raised a TimeoutError
            raise
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(reader.ident or 0), ctypes.py_object(SystemExit)
        )
        raise TimeLimitError(
            f"{uri}: not done after {seconds:g} s; the next run tries it again: check that its "
            "storage answers, raise --input-timeout, or remove the input"
        ) from error
