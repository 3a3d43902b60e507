"""The shipped triggers against the ground truth of a synthetic fleet, through files."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from auto_label.models import load_models, open_detector
from benchmarks.mine_truth import mined, seen
from synth.fleet import FleetSpec, write_fleet


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1.0, 1.5])
def test_precision_and_recall(tmp_path: Path, noise: float) -> None:
    """Mean F1 of at least 0.97, each trigger at most one event off, also with noisy sensors."""
    spec = FleetSpec(drives=6, minutes=10.0, seed=99, video=False, noise=noise)
    write_fleet(spec, str(tmp_path), True)
    scores = [score for score in mined(str(tmp_path)) if score.trigger != "vru_near"]
    assert {score.trigger for score in scores} >= {"hard_brake", "lane_change", "swerve"}
    assert fmean(score.f1 for score in scores) >= 0.97
    for score in scores:
        assert score.matched >= max(score.truth, score.found) - 1, score


@pytest.mark.slow
def test_pedestrians_are_seen(data: Path) -> None:
    """By day and by night, by the real detector on drawn pictures, without false positives."""
    (model,) = load_models(["yolox_nano"])
    detector = open_detector(model, data / "models" / model.name / model.file)
    score = seen(detector, drives=12, seed=5)
    assert score.truth >= 3
    assert score.precision >= 0.95
    assert score.recall >= 0.95
