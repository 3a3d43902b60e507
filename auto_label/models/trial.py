"""Trying a model out, in a child process with limits, before a job opens it.

Opening a file of a stranger may take any time and memory, and one operator cannot be
interrupted. What opens and runs here does so in a worker too, whatever is in the file: only
what depends on the picture is left, and auto_label.models.network limits that.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from auto_label.models import ModelSpec, open_detector
from schemas.errors import DataError, FleetError
from transforms.attempt import AttemptError, attempt
from transforms.isolation import Call, Limits

LIMITS = Limits(seconds=50, memory_bytes=2 << 30)
"""Of opening a model and two pictures: more than a run may take, so that its error is seen."""

_PICTURE = (720, 1280, 3)


@cache
def try_out(spec: ModelSpec, weights: Path) -> None:
    """Opens a model and runs it on two pictures, once a process.

    Args:
        spec: the model.
        weights: its verified weights.

    Raises:
        FleetError: that fails, or takes too much time or memory.
    """
    try:
        attempt(Call(_open_and_run, (spec, weights)), LIMITS)
    except AttemptError as error:
        raise FleetError(
            f"model {spec.name}: opening {weights} and running it on two pictures {error}; "
            "use another model"
        ) from error


def _open_and_run(spec: ModelSpec, weights: Path) -> None:
    random = np.random.default_rng(0).integers(0, 256, _PICTURE, dtype=np.uint8)
    try:
        open_detector(spec, weights).detect([np.zeros_like(random), random])
    except DataError as error:  # of no input, but of the model
        raise FleetError(str(error)) from error
