"""Which models a job can use: those whose weights are at hand or can be fetched."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from auto_label.models import Detector, ModelSpec, load_models, open_detector
from auto_label.weights import available_models, fetch


def ready_models(
    names: Sequence[str], dirs: Sequence[str]
) -> tuple[tuple[ModelSpec, ...], tuple[str, ...]]:
    """Loads models by name, and leaves out, with a note, those without weights.

    Returns:
        The models that are ready, and a note for each that is not.

    Raises:
        UsageError: a name is unknown.
    """
    ready, notes = available_models(load_models(tuple(names), tuple(dirs)))
    return tuple(ready), tuple(notes)


_lock = threading.Lock()
_open: dict[ModelSpec, Detector] = {}


def open_detectors(models: Sequence[ModelSpec]) -> list[Detector]:
    """Opens models on a worker, fetching their weights if its cache lacks them.

    Once a process: its threads and bundles share them, for a session may be run by many
    threads at a time.
    """
    with _lock:
        for model in models:
            if model not in _open:
                _open[model] = open_detector(model, fetch(model))
        return [_open[model] for model in models]
