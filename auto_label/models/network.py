"""ONNX networks of strangers on onnxruntime: opened, run and checked within limits.

- Memory: all networks of a process share one arena of `MEMORY_BYTES`; what needs more fails.
  A run that fails is repeated with no other run beside it, as others may hold the memory.
- Time: a run is told to end after `TIME_LIMIT_S`, which it does after its current operator.
  At the exit of the process, runs are told to end at once.
- Every output is checked: its type, its shape, and that every number is finite.

One operator cannot be interrupted, nor can opening a file, so models are tried out in a child
process first (auto_label.models.trial).
"""

from __future__ import annotations

import atexit
import contextlib
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from schemas.arrays import Float32Array
from schemas.errors import FleetError, ModelError, TimeLimitError, excerpt

TIME_LIMIT_S = 30.0
"""Of one run: yolox_nano takes 0.05 s, a large detector some seconds."""
MEMORY_BYTES = 1536 << 20
"""Weights and intermediate results of all networks of a process: less than an input may take, so
that it is the model which is named."""

_FLOAT = "tensor(float)"
_FATAL = 4
_LOOK_S = 1.0
_EXIT_S = 5.0
_PREFIX = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |.*Status Message: |Load model from .*? failed: ?|"
    r"/onnxruntime_src/.*?\) |\w+\.cc:\d+ \w+ ",
    re.DOTALL,
)
_SHRINK = ("memory.enable_memory_arena_shrinkage", "cpu:0")


class Network:
    """A network of one float32 input and one float32 output, of fixed shapes.

    Args:
        name: of the model, for messages.
        weights: the verified ONNX file.
        takes: the shape of its input.
        gives: the shape of its output.
        threads: threads inside one operator.

    Raises:
        FleetError: the file is not such a network, or cannot be opened.
    """

    def __init__(
        self, name: str, weights: Path, takes: Sequence[int], gives: Sequence[int], threads: int
    ) -> None:
        self._name = name
        self._gives = tuple(gives)
        self._session = _session(name, weights, threads)
        found = [_described(self._session.get_inputs()), _described(self._session.get_outputs())]
        wanted = [f"{_FLOAT}{list(shape)}" for shape in (takes, gives)]
        if found != wanted:
            raise FleetError(
                f"model {name}: {weights} maps {found[0]} to {found[1]}, but its .toml asks for "
                f"{wanted[0]} to {wanted[1]}; correct width, height or classes, or export the "
                "network with one such input and output"
            )
        self._input = self._session.get_inputs()[0].name

    def run(self, tensor: Float32Array) -> Float32Array:
        """Runs the network on one input.

        Raises:
            TimeLimitError: the run does not end in time.
            ModelError: it fails, or its output is not what the model promises.
        """
        return self._checked(self._output(tensor))

    def _output(self, tensor: Float32Array) -> Any:
        with contextlib.suppress(ModelError), _turns.beside_others():
            return self._run(tensor)
        # Other runs may have held the memory that it needed, or left the arena in small parts,
        # which a run with _SHRINK gives back at its end, also if it fails.
        with _turns.alone():
            with contextlib.suppress(ModelError):
                return self._run(tensor, _SHRINK)
            return self._run(tensor, _SHRINK)

    def _run(self, tensor: Float32Array, *settings: tuple[str, str]) -> Any:
        options = onnxruntime.RunOptions()
        options.log_severity_level = _FATAL
        for key, value in settings:
            options.add_run_config_entry(key, value)
        try:
            with _ending(options):
                (output,) = self._session.run(None, {self._input: tensor}, options)
        except Exception as error:  # onnxruntime's errors have no base class but this
            if options.terminate:
                raise TimeLimitError(
                    f"model {self._name}: not done after {TIME_LIMIT_S:g} s; use a smaller model"
                ) from error
            raise ModelError(
                f"model {self._name}: fails: {_worded(error)}; use another model"
            ) from error
        return output

    def _checked(self, output: Any) -> Float32Array:
        wanted = f"float32{list(self._gives)}"
        found = f"{getattr(output, 'dtype', type(output).__name__)}{list(np.shape(output))}"
        if found != wanted:
            raise ModelError(f"model {self._name}: its output is {found}, not {wanted}")
        # Both are NaN where one number is, and faster than to look at each.
        if not (np.isfinite(output.min()) and np.isfinite(output.max())):
            wrong = int(output.size - np.isfinite(output).sum())
            raise ModelError(
                f"model {self._name}: {wrong} numbers of its output are infinite or NaN; "
                "use another model"
            )
        checked: Float32Array = output
        return checked


def _session(name: str, weights: Path, threads: int) -> onnxruntime.InferenceSession:
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return onnxruntime.InferenceSession(
            str(weights), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors have no base class but this
        raise FleetError(
            f"model {name}: {weights} is not an ONNX model that can be opened: {_worded(error)}"
        ) from error


@cache
def _limit_memory() -> None:
    """Makes the arena that the process's networks share."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    limits = onnxruntime.OrtArenaCfg({"max_mem": MEMORY_BYTES})
    onnxruntime.create_and_register_allocator(place, limits)


def _described(values: Sequence[Any]) -> str:
    """Words what a network takes or gives: `tensor(float)[1, 3, 416, 416]`."""
    texts = [f"{value.type}{list(value.shape)}" for value in values]
    return excerpt(" and ".join(texts) or "nothing")


def _worded(error: Exception) -> str:
    """Words an error of onnxruntime without its code, the file and the place in its source."""
    said = str(error)
    if "Available memory of" in said:
        return f"it needs more than {MEMORY_BYTES >> 20} MB of memory"
    said = _PREFIX.sub("", said)
    return excerpt(said) or type(error).__name__


class _Turns:
    """Lets runs be at the same time, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._one_alone = False

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._one_alone)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._one_alone)
            self._one_alone = True
            self._changed.wait_for(lambda: not self._running)
        try:
            yield
        finally:
            with self._changed:
                self._one_alone = False
                self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Waits until no run is going on, so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running, seconds)


_turns = _Turns()
_ends: dict[Any, float] = {}
"""The options of each run that is going on, and when it has to end."""


@contextmanager
def _ending(options: Any) -> Iterator[None]:
    """Tells a run to end after the time limit, or when the process ends."""
    _watch()
    _ends[options] = time.monotonic() + TIME_LIMIT_S
    try:
        yield
    finally:
        del _ends[options]


@cache
def _watch() -> None:
    """Starts the thread that looks once a second for runs that have to end."""

    def look() -> None:
        while True:
            time.sleep(_LOOK_S)
            now = time.monotonic()
            for options, end in tuple(_ends.items()):
                options.terminate = options.terminate or now > end

    threading.Thread(target=look, name="time limit of models", daemon=True).start()


@atexit.register
def _end_all() -> None:
    """Ends the runs of threads that nobody waits for: a process that ends around them aborts."""
    for options in tuple(_ends):
        options.terminate = True
    _turns.wait(_EXIT_S)
