"""The shipped triggers against the truth about a synthetic fleet, through real files."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.mine_truth import UNSEEN, mined
from synth.fleet import FleetSpec, write_fleet


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1.0, 1.5])
def test_precision_and_recall(tmp_path: Path, noise: float) -> None:
    """Mean F1 of 0.97, each trigger at most one event off, also with noisier sensors."""
    spec = FleetSpec(drives=6, minutes=10.0, seed=99, video=False, noise=noise)
    write_fleet(spec, str(tmp_path), True)
    scores = [score for score in mined(str(tmp_path)) if score.trigger not in UNSEEN]
    assert {score.trigger for score in scores} >= {"hard_brake", "lane_change", "swerve"}
    assert fmean(score.f1 for score in scores) >= 0.97
    for score in scores:
        assert score.matched >= max(score.truth, score.found) - 1, score
