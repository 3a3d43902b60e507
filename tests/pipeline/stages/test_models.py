"""Models on a worker: opened once, whatever bundles and threads come."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.stages.models import open_detectors, ready_models


def test_a_process_opens_a_model_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads, each with a copy of the specification as a runner hands it over."""
    monkeypatch.setenv("FLEETMILL_MODELS", str(data / "models"))
    ready, notes = ready_models(["yolox_nano"], [])
    assert not notes
    copies = [pickle.loads(pickle.dumps(ready)) for _ in range(8)]  # noqa: S301 - our own
    with ThreadPoolExecutor(8) as pool:
        opened = [detector for (detector,) in pool.map(open_detectors, copies)]
    assert len({id(detector) for detector in opened}) == 1
