"""Detectors of a process: opened once for all its threads."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from auto_label.models import ModelSpec
from pipeline.stages import detectors
from pipeline.stages.detectors import open_detectors


def test_threads_of_a_process_share_one(
    models: tuple[ModelSpec, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads, each with a copy of the specification as a runner hands it over."""
    monkeypatch.setattr(detectors, "_open", {})
    copies = [pickle.loads(pickle.dumps(models)) for _ in range(8)]  # noqa: S301 - our own
    with ThreadPoolExecutor(8) as pool:
        opened = [
            detector for (detector,) in pool.map(partial(open_detectors, shared=False), copies)
        ]
    assert len({id(detector) for detector in opened}) == 1
