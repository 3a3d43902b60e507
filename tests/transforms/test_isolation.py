"""Calls in child processes: results, errors, limits, and how children end."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.errors import (
    CorruptError,
    CrashedError,
    InternalError,
    KilledError,
    TimeLimitError,
    TooLargeError,
)
from tests.conftest import ROOT
from tests.servers import wait_for
from transforms.isolation import Call, Limits, isolated
from transforms.timing import recording, step

URI = "a.mp4"
MB = 1 << 20


def process_id() -> int:
    return os.getpid()


def torn() -> None:
    raise CorruptError("a.mp4: torn; export it again")


def buggy() -> None:
    int("not a number")


def unpicklable() -> object:
    return lambda: None


def slow_step(seconds: float) -> None:
    with step("decode"):
        time.sleep(seconds)


def hang() -> None:
    """Hangs in native code that holds the interpreter's lock."""
    ctypes.PyDLL(None).pause()


def crash() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def leave() -> None:
    os._exit(7)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_numpy(mb: int) -> int:
    filled = np.ones(mb * MB, dtype=np.uint8)
    time.sleep(0.2)
    return int(filled.nbytes)


def fill_arrow(mb: int) -> int:
    buffer = pa.allocate_buffer(mb * MB)
    np.frombuffer(buffer, dtype=np.uint8)[:] = 1
    time.sleep(0.2)
    return len(buffer)


def fill_bytes(mb: int) -> int:
    filled = b"x" * (mb * MB)
    time.sleep(0.2)
    return len(filled)


_held: list[bytes] = []


def hold(mb: int) -> None:
    _held.append(b"x" * (mb * MB))


def call(function: object, *arguments: object, seconds: float = 60, mb: int = 0) -> object:
    return isolated(Call(function, arguments), Limits(seconds, mb * MB), URI)  # type: ignore[arg-type]


def test_a_call_is_made_in_another_process_which_is_used_again() -> None:
    first = call(process_id)
    assert first != os.getpid()
    assert call(process_id) == first


def test_errors_of_the_input_are_passed_on_and_others_become_internal() -> None:
    child = call(process_id)
    with pytest.raises(CorruptError, match="torn"):
        call(torn)
    with pytest.raises(
        InternalError, match=r"a\.mp4: ValueError at test_isolation\.py:\d+: invalid"
    ):
        call(buggy)
    with pytest.raises(InternalError, match="pickle"):
        call(unpicklable)
    assert call(process_id) == child, "none of them ends the child"


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (crash, CrashedError, "SIGSEGV"),
        (abort, CrashedError, "SIGABRT"),
        (leave, CrashedError, "exit code 7"),
        (kill_itself, KilledError, "tries it again"),
    ],
)
def test_a_child_that_ends_costs_its_own_call(
    function: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call(function)
    assert call(process_id)


def test_a_call_that_hangs_in_native_code_is_stopped() -> None:
    child = call(process_id)
    with pytest.raises(TimeLimitError, match=r"a\.mp4: not done after 0\.3 s"):
        call(hang, seconds=0.3)
    assert not Path(f"/proc/{child}").exists()
    assert call(process_id) != child


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the limits of Linux")
@pytest.mark.parametrize("fill", [fill_numpy, fill_arrow, fill_bytes])
def test_memory_is_limited(fill: object) -> None:
    for mb in (200, 2000):  # what is taken is seen, and what would be too much is refused
        with pytest.raises(TooLargeError, match=r"0\.105 GB that an input may take"):
            call(fill, mb, mb=100)
    assert call(fill, 50, mb=100) == 50 * MB
    assert call(fill, 200) == 200 * MB, "no limit stays behind"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the limits of Linux")
def test_what_was_prepared_does_not_count() -> None:
    limits = Limits(60, 100 * MB)
    prepared = Call(fill_bytes, (50,), prepare=hold_200)
    assert isolated(prepared, limits, URI) == 50 * MB


def hold_200() -> None:
    hold(200)


def test_threads_have_a_child_each() -> None:
    with ThreadPoolExecutor(3) as pool:
        start = threading.Barrier(3)

        def one(_: int) -> object:
            start.wait()
            return call(slow_process_id)

        assert len(set(pool.map(one, range(3)))) == 3


def slow_process_id() -> int:
    time.sleep(0.5)
    return os.getpid()


def test_steps_of_the_child_count_as_the_callers() -> None:
    call(process_id)
    with recording() as times:
        with step("read"):
            call(slow_step, 0.05)
        spent = times.milliseconds()
    assert spent["decode"] >= 50
    assert spent["read"] >= 0, "what is left of the call"


PARENT = """
import os, sys, time
from tests.transforms.test_isolation import call, slow_process_id, process_id
print(call(process_id), flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["", "time.sleep(60)", "os._exit(0)", "raise SystemExit(3)"])
def test_children_end_with_their_parent(then: str) -> None:
    """Whether it ends by itself or is killed."""
    program = [sys.executable, "-c", PARENT.format(then=then)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        if "sleep" in then:
            parent.kill()
    wait_for(lambda: not Path(f"/proc/{child}").exists(), "the child's end")


def same(value: object) -> object:
    return value


@pytest.mark.parametrize("rows", [0, 1, 3, 1_000_000])
def test_tables_and_arrays_come_through_in_both_directions(rows: int) -> None:
    table = pa.table({"n": np.arange(rows), "s": pa.array(["x", None, "abc"] * rows)[:rows]})
    arrays: tuple[Any, ...] = (np.arange(rows), np.full((rows, 3), 2.5), b"z" * rows)
    first, second = call(same, (table, arrays)), call(same, (table, arrays))
    for found in (first, second):
        assert isinstance(found, tuple)
        assert found[0].equals(table)
        found[0].validate(full=True)
        assert all(np.array_equal(one, other) for one, other in zip(found[1], arrays, strict=True))


def table_where_files_are_small(rows: int) -> pa.Table:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    return pa.table({"n": np.arange(rows), "none": pa.nulls(rows)})


def test_a_limit_on_the_size_of_files_is_none_on_answers() -> None:
    """`ulimit -f` holds for shared memory too."""
    expected = pa.table({"n": np.arange(100_000), "none": pa.nulls(100_000)})
    for _ in range(2):
        assert call(table_where_files_are_small, 100_000) == expected
    with pytest.raises(CrashedError):
        call(abort)  # the child that has the limit
