"""ONNX networks of strangers on onnxruntime: opened, run and checked within limits.

- Memory: all networks of a process share one arena of `MEMORY_BYTES`; what needs more fails.
  A run that fails is repeated with no other run beside it, as others may hold the memory.
- Time: a run is told to end after `TIME_LIMIT_S`, which it does after its current operator.
  At the exit of the process, runs are told to end at once.
- Every output is checked: its type, its shape, and that every number is finite.

Where a run chooses lengths of its input, those that the file fixes are freed first
(auto_label.models.onnx_file).

One operator cannot be interrupted, nor can opening a file, so models are tried out in a child
process first (auto_label.models.trial).
"""

from __future__ import annotations

import atexit
import contextlib
import re
import threading
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from auto_label.models.onnx_file import freed
from schemas.arrays import Float32Array
from schemas.errors import FleetError, ModelError, TimeLimitError, excerpt

TIME_LIMIT_S = 30.0
"""Of one run: yolox_nano takes 0.05 s, a large detector some seconds."""
MEMORY_BYTES = 1536 << 20
"""Weights and intermediate results of all networks of a process: less than an input may take, so
that it is the model which is named."""

Shape = tuple[int | None, ...]
"""The lengths of a tensor's axes; None where each run chooses."""

_FLOAT = "tensor(float)"
_FATAL = 4
_LOOK_S = 1.0
_EXIT_S = 5.0
_PREFIX = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |.*Status Message: |Load model from .*? failed: ?|"
    r"/onnxruntime_src/.*?\) |\w+\.cc:\d+ \w+ ",
    re.DOTALL,
)
_FOLDER_KEY = "session.model_external_initializers_file_folder_path"
_SHRINK = ("memory.enable_memory_arena_shrinkage", "cpu:0")


class Network:
    """A network of one float32 input and some float32 outputs.

    Args:
        name: of the model, for messages.
        weights: the verified ONNX file.
        takes: the shape of its input.
        gives: the shapes of its outputs. Of the file's outputs, each is the first that fits and is
            not one of those before.
        threads: threads inside one operator.
        keys: those of the model's .toml that the shapes follow from, for messages.
        others: whether the file may have more outputs.

    Raises:
        FleetError: the file is not such a network, or cannot be opened.
    """

    def __init__(
        self,
        name: str,
        weights: Path,
        takes: Shape,
        gives: Sequence[Shape],
        threads: int,
        *,
        keys: str,
        others: bool = False,
    ) -> None:
        self._name = name
        self._gives = tuple(gives)
        self._session = _session(name, weights, _chosen([takes]), _chosen(gives), threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._inputs, self._outputs = _names(inputs, [takes]), _names(outputs, gives)
        complete = len(self._inputs) == 1 and len(self._outputs) == len(gives)
        more = len(inputs) > 1 or (len(outputs) > len(gives) and not others)
        if more or not complete:
            wanted = " and ".join(_typed(_FLOAT, shape) for shape in gives)
            raise FleetError(
                f"model {name}: {weights} maps {_described(inputs)} to {_described(outputs)}, but "
                f"its .toml asks for {_typed(_FLOAT, takes)} to {wanted}; correct {keys}, or "
                "export the network with one such input and such outputs"
            )

    def run(self, tensor: Float32Array, *gives: Shape) -> list[Float32Array]:
        """Runs the network on one input.

        Args:
            tensor: the input.
            gives: the shapes that its outputs must have, if the input's lengths are chosen.

        Raises:
            TimeLimitError: the run does not end in time.
            ModelError: it fails, or its outputs are not what the model promises.
        """
        outputs = self._outputs_of(tensor)
        shapes = gives or self._gives
        return [self._checked(*each) for each in zip(outputs, shapes, strict=True)]

    def _outputs_of(self, tensor: Float32Array) -> Any:
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
                inputs = dict.fromkeys(self._inputs, tensor)
                outputs = self._session.run(self._outputs, inputs, options)
        except Exception as error:  # onnxruntime's errors have no base class but this
            if options.terminate:
                raise TimeLimitError(
                    f"model {self._name}: not done after {TIME_LIMIT_S:g} s; use a smaller model"
                ) from error
            raise ModelError(
                f"model {self._name}: fails: {_worded(error)}; use another model"
            ) from error
        return outputs

    def _checked(self, output: Any, shape: Shape) -> Float32Array:
        wanted = f"float32{list(shape)}"
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


def _chosen(shapes: Sequence[Shape]) -> Set[int]:
    """Returns the axes whose lengths a run chooses."""
    return {axis for shape in shapes for axis, length in enumerate(shape) if length is None}


def _session(
    name: str, weights: Path, takes: Set[int], gives: Set[int], threads: int
) -> onnxruntime.InferenceSession:
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.use_env_allocators", "1")
    model: str | bytes = str(weights)
    try:
        if takes or gives:
            model = freed(weights.read_bytes(), takes, gives)
            # Or else other files that it names would be sought in the current folder.
            options.add_session_config_entry(_FOLDER_KEY, str(weights.parent))
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
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


def _names(values: Sequence[Any], shapes: Sequence[Shape]) -> list[str]:
    """Returns the names of the inputs or outputs of some shapes; fewer if some are missing."""
    names: list[str] = []
    for shape in shapes:
        names += [
            value.name for value in values if value.name not in names and _fits(value, shape)
        ][:1]
    return names


def _fits(value: Any, shape: Shape) -> bool:
    return (
        value.type == _FLOAT
        and len(value.shape) == len(shape)
        and all(wanted in {None, found} for wanted, found in zip(shape, value.shape, strict=True))
    )


def _described(values: Sequence[Any]) -> str:
    """Words what a network takes or gives: `tensor(float)[1, 3, 416, 416]`."""
    return excerpt(" and ".join(_typed(each.type, each.shape) for each in values) or "nothing")


def _typed(kind: str, shape: Sequence[int | str | None]) -> str:
    lengths = ("any" if length is None else repr(length) for length in shape)
    return f"{kind}[{', '.join(lengths)}]"


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
