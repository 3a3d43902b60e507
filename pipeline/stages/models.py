"""The models of a job, with their weights fetched."""

from __future__ import annotations

from collections.abc import Sequence

from auto_label.models import ModelSpec, load_models
from auto_label.models.trial import try_out
from auto_label.weights import available_models, fetch
from schemas.errors import FleetError, UsageError

DEFAULT_MODELS = ("yolox_nano",)
"""The models of a job that names none."""


def ready_models(
    names: Sequence[str] | None, dirs: Sequence[str]
) -> tuple[tuple[ModelSpec, ...], tuple[str, ...]]:
    """Loads models, fetches their weights, and tries each model out.

    Args:
        names: the models; None takes the default ones whose weights can be fetched.
        dirs: the user's folders of model files.

    Returns:
        The models that are ready, and a note for each default one that is left out.

    Raises:
        UsageError: a name is unknown, a file is invalid, or the weights of a named model
            cannot be fetched, opened or run.
        FleetError: the weights of a default model have another hash than it names, or
            cannot be opened or run.
    """
    if names is None:
        ready, missing = available_models(load_models(DEFAULT_MODELS, dirs))
        for model in ready:
            try_out(model, fetch(model))
        return ready, tuple(f"{why}; going on without this model" for why in missing)
    models = load_models(names, dirs)
    for model in models:
        try:
            try_out(model, fetch(model))
        except UsageError:
            raise
        except FleetError as error:
            raise UsageError(str(error)) from error
    return models, ()


def privacy_models(privacy: str, names: Sequence[str] | None) -> tuple[ModelSpec, ...]:
    """Returns the models whose persons and vehicles are blurred: the default ones that are ready.

    They do not depend on the models that label, so that another one leaves the clips as they
    are. A job without any model has none for this either.

    Args:
        privacy: "blur" or "none".
        names: the models of the job, as `ready_models` takes them.

    Raises:
        FleetError: the weights of one have another hash than it names, or cannot be opened.
    """
    if privacy == "none" or (names is not None and not names):
        return ()
    return ready_models(None, ())[0]
