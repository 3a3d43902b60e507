"""How an attempt at a file of configuration ends, in the words for it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from schemas.errors import UsageError
from transforms.attempt import AttemptError, attempt
from transforms.isolation import Call, Limits

LIMITS = Limits(1.0, 200 << 20)


def doubled(number: int) -> int:
    return 2 * number


def refused() -> None:
    raise UsageError("no")


def failing() -> None:
    raise ValueError("a\nb")


def test_what_a_call_returns_or_refuses_is_passed_on() -> None:
    assert attempt(Call(doubled, (3,)), LIMITS) == 6
    with pytest.raises(UsageError, match=r"^no$"):
        attempt(Call(refused, ()), LIMITS)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (Call(time.sleep, (60,)), "does not end within 1 s"),
        (Call(bytes, (8 << 30,)), "needs more than 200 MB of memory"),
        (Call(os.abort, ()), "crashes a native library"),
        (Call(failing, ()), r"fails: ValueError at test_attempt.py:\d+: a b"),
        (Call(signal.raise_signal, (signal.SIGKILL,)), "fails: its process was killed"),
    ],
    ids=["time", "memory", "crash", "error", "killed"],
)
def test_how_it_ended_is_one_line(call: Call[object], says: str) -> None:
    with pytest.raises(AttemptError, match=f"^{says}") as failure:
        attempt(call, LIMITS)
    assert str(failure.value).isprintable()
