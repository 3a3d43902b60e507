"""The limit of time for one input."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.graph.deadline import within
from schemas.errors import CorruptError, TimeLimitError
from transforms.timing import recording, step


def test_a_result_or_error_in_time_is_passed_on() -> None:
    def broken() -> None:
        raise CorruptError("a.mp4: torn; export it again")

    def slow_inside() -> None:
        raise TimeoutError("of its own")

    assert within(60, lambda: 7, "a.mp4") == 7
    with pytest.raises(CorruptError, match="torn"):
        within(60, broken, "a.mp4")
    with pytest.raises(TimeoutError, match="of its own"):
        within(60, slow_inside, "a.mp4")


def test_a_late_read_is_an_error_and_its_thread_is_stopped() -> None:
    stopped, forever = threading.Event(), threading.Event()

    def read() -> None:
        try:
            while not forever.wait(0.01):
                pass
        finally:
            stopped.set()

    with pytest.raises(TimeLimitError, match=r"a\.mp4: not done after 0\.05 s"):
        within(0.05, read, "a.mp4")
    assert stopped.wait(30), "it stops at its next Python instruction"


def test_steps_of_the_read_count_as_the_callers() -> None:
    def read() -> None:
        with step("read"):
            time.sleep(0.02)

    with recording() as times:
        within(60, read, "a.mp4")
        assert times.milliseconds()["read"] >= 20
