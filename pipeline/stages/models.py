"""The models of a job and of its privacy policy, with their weights fetched."""

from __future__ import annotations

from collections.abc import Sequence

from auto_label.models import ModelSpec, load_models
from auto_label.models.trial import try_out
from auto_label.policies import PolicyDetector, load_policy
from auto_label.specs import PixelSpec
from auto_label.weights import available_models, fetch
from pipeline.config import LabelConfig
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


def ready_pixels(
    config: LabelConfig,
) -> tuple[PixelSpec, tuple[ModelSpec, ...], tuple[str, ...]]:
    """Loads a privacy policy, and fetches and tries out the models of its detectors.

    Returns:
        What clips are made with, the models that look, and a note for each that is left out.

    Raises:
        UsageError: a name is unknown or a file is invalid.
        FleetError: the weights of a model that is needed cannot be fetched, or those of any model
            have another hash than it names or cannot be opened or run.
    """
    policy = load_policy(config.privacy, config.policies)
    name = config.privacy
    used: list[tuple[PolicyDetector, ModelSpec]] = []
    notes: list[str] = []
    for one in () if policy is None else policy.detectors:
        (model,) = load_models([one.model], config.models_dir)
        try:
            missing = [] if one.needed else available_models([model])[1]
            if missing:
                notes += [f"privacy {name}: {why}; going on without it" for why in missing]
                continue
            try_out(model, fetch(model))
        except FleetError as error:
            raise FleetError(
                f"privacy {name}: {error}; no picture is written without it: see that the weights "
                "can be fetched, or choose another --privacy"
            ) from error
        used.append((one, model))
    spec = PixelSpec(config.crf, policy, tuple((one, model.identity) for one, model in used))
    return spec, tuple(dict.fromkeys(model for _, model in used)), tuple(dict.fromkeys(notes))
