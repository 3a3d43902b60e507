"""The trial of a model: in a child, with limits, before a job opens it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from auto_label.models import network, trial
from auto_label.models.trial import try_out
from schemas.errors import FleetError
from tests import onnx_file
from tests.memory import living_bytes
from transforms.isolation import Limits, close_idle


def tried(folder: Path, raw: bytes) -> None:
    path = folder / "mine.onnx"
    try_out(onnx_file.specified(path, raw), path)


def test_a_good_one_passes_and_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried(tmp_path, onnx_file.good())
    monkeypatch.setattr(trial, "attempt", None)
    tried(tmp_path, onnx_file.good())


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (onnx_file.REFUSED["uint8 input"](), r"maps tensor\(uint8\)"),
        (onnx_file.FAILING["NaN"](), "126 numbers of its output are infinite or NaN"),
        (onnx_file.FAILING["memory"](), "needs more than 1536 MB of memory"),
    ],
    ids=["uint8", "NaN", "memory"],
)
def test_what_fails_on_a_picture_is_said_before_a_job(
    tmp_path: Path, raw: bytes, says: str
) -> None:
    close_idle()  # so that the child of this trial is the only one
    with pytest.raises(FleetError, match=f"^model mine: .*{says}"):
        tried(tmp_path, raw)
    assert living_bytes() < network.MEMORY_BYTES


def test_a_model_that_does_not_end_ends_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LIMITS", Limits(3, 1 << 30))
    start = time.monotonic()
    with pytest.raises(FleetError, match="on two pictures does not end within 3 s; use another"):
        tried(tmp_path, onnx_file.ENDLESS["picture"]())
    assert time.monotonic() - start < 60
