"""Steps: every instant belongs to one of them, and they add up."""

from __future__ import annotations

import random
import time
from contextvars import copy_context
from threading import Thread

import pytest

from transforms.timing import OTHER, StepTimes, recording, round_to_sum, step, timed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock that stands still but where a test moves it, in ns."""
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


def test_a_step_within_a_step_interrupts_it(clock: list[int]) -> None:
    with recording() as times:
        clock[0] += 1_000_000
        with step("label"):
            clock[0] += 2_000_000
            with step("decode"):
                clock[0] += 4_000_000
            clock[0] += 8_000_000
        clock[0] += 16_000_000
        assert times.milliseconds() == {OTHER: 17, "label": 10, "decode": 4}


def test_an_error_ends_its_step(clock: list[int]) -> None:
    def fail() -> None:
        with step("read"):
            clock[0] += 3_000_000
            raise KeyError

    with recording() as times:
        with pytest.raises(KeyError):
            fail()
        clock[0] += 1_000_000
        assert times.milliseconds() == {OTHER: 1, "read": 3}


def test_a_generator_is_charged_for_what_it_makes_alone(clock: list[int]) -> None:
    def frames() -> object:
        for number in range(3):
            clock[0] += 5_000_000
            yield number

    with recording() as times:
        for _ in timed("decode", frames()):  # type: ignore[arg-type]
            clock[0] += 1_000_000
        assert times.milliseconds() == {OTHER: 3, "decode": 15}


def test_a_thread_with_the_context_of_a_task_is_recorded(clock: list[int]) -> None:
    def read() -> None:
        with step("read"):
            clock[0] += 7_000_000

    with recording() as times:
        thread = Thread(target=copy_context().run, args=(read,))
        thread.start()
        thread.join()
        assert times.milliseconds() == {OTHER: 0, "read": 7}


def test_outside_a_recording_nothing_is_recorded() -> None:
    with recording() as times:
        pass
    before = times.milliseconds()
    with step("read"):
        pass
    assert set(times.milliseconds()) == set(before) == {OTHER}


def test_rounding_keeps_the_sum() -> None:
    dice = random.Random(3)  # noqa: S311 - a test's choice
    for _ in range(200):
        values = {
            str(k): dice.random() * 10 ** dice.randint(-2, 3) for k in range(dice.randint(1, 9))
        }
        rounded = round_to_sum(values)
        assert sum(rounded.values()) == round(sum(values.values()))
        assert all(abs(rounded[name] - values[name]) <= 1 for name in values)


def test_a_step_is_there_although_it_took_no_time(clock: list[int]) -> None:
    times = StepTimes()
    times.switch("put")
    clock[0] += 1
    assert times.milliseconds() == {OTHER: 0, "put": 0}
