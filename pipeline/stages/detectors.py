"""Detectors of a process that looks at pictures: opened once, and shared by its calls.

A process of the local runner has its own. Where a runner starts worker processes, one of them
hosts each model for all: pipeline.stages.shared_detector.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from auto_label.models import Detector, ModelSpec, open_detector
from auto_label.weights import fetch

_lock = threading.Lock()
_open: dict[ModelSpec, Detector] = {}


def open_detectors(models: Sequence[ModelSpec], *, shared: bool) -> list[Detector]:
    """Opens models, fetching their weights if the machine's cache lacks them.

    Args:
        models: the models.
        shared: whether one process of the machine hosts them.

    Raises:
        FleetError: weights cannot be fetched, or have another hash than the model names.
    """
    with _lock:
        for model in models:
            if model not in _open:
                _open[model] = _shared(model) if shared else _opened(model)
        return [_open[model] for model in models]


def _opened(model: ModelSpec) -> Detector:
    return open_detector(model, fetch(model))


def _shared(model: ModelSpec) -> Detector:
    # It imports Beam, which a child of the local runner does without.
    from pipeline.stages.shared_detector import SharedDetector  # noqa: PLC0415

    return SharedDetector(model, _opened)
