"""Which models a job can use: those whose weights are at hand or can be fetched."""

from __future__ import annotations

from collections.abc import Sequence

from auto_label.models import ModelSpec, load_models
from auto_label.weights import available_models


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
