"""The sweep: keyframes at a rate, each log once; a bad file rejects only its own log."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

from pipeline.config import SweepConfig
from pipeline.stages.sweep import plan_sweep
from schemas.times import NS_PER_S
from tests.pipeline.stages.conftest import POLICY, Small, area_of

SWEEP = SweepConfig(fps=1.0, models=())


def test_rows_are_keyframes_at_most_at_the_rate(mined: Small) -> None:
    mined.run(plan_sweep, SWEEP)
    keyframes = {
        (row["log_id"], row["camera"], row["t_ns"])
        for row in mined.rows("frames")
        if row["is_keyframe"]
    }
    rows = mined.rows("scene")
    found = [(row["log_id"], row["camera"], row["t_ns"]) for row in rows]
    assert set(found) <= keyframes
    assert len(set(found)) == len(found) > 0
    for log_id in {row["log_id"] for row in rows}:
        times = [t_ns for log, _, t_ns in found if log == log_id]
        gaps = [later - t_ns for t_ns, later in pairwise(times)]
        # Keyframes are where the encoder put them, so the rate is kept only on average.
        assert sum(gaps) >= (len(gaps) - 1) * NS_PER_S
    assert all(0 <= row["brightness"] <= 255 and row["sharpness"] >= 0 for row in rows)
    assert {row["vehicles"] for row in rows} == {None}, "no detector counted"


def test_a_log_is_swept_once_whatever_the_rate(mined: Small) -> None:
    mined.run(plan_sweep, SWEEP)
    assert not plan_sweep(mined.lake(), SweepConfig(fps=0.5, models=())).tasks


def test_a_missing_file_rejects_its_log(mined: Small, tmp_path: Path) -> None:
    videos = {row["log_id"]: Path(row["uri"]) for row in mined.rows("videos")}
    lost, kept = sorted(videos)
    shutil.move(videos[lost], tmp_path / "away.mp4")
    try:
        report = mined.run(plan_sweep, SWEEP)
    finally:
        shutil.move(tmp_path / "away.mp4", videos[lost])
    (count,) = [count for count in report.counts if count.of == "logs"]
    assert (count.kept, count.rejected) == (1, 1)
    (note,) = report.notes
    assert note.startswith("1 inputs could not be read")
    assert str(videos[lost]) in note
    assert not mined.rows("rejects"), "it is no verdict"
    assert {row["log_id"] for row in mined.rows("scene")} == {kept}
    (count,) = [c for c in mined.run(plan_sweep, SWEEP).counts if c.of == "logs"]
    assert (count.kept, count.filtered, count.rejected) == (1, 1, 0), "it is back"
    assert {row["log_id"] for row in mined.rows("scene")} == {lost, kept}


def test_keyframes_that_the_policy_excludes_are_not_decoded(mined: Small, tmp_path: Path) -> None:
    inside, outside = sorted(row["log_id"] for row in mined.rows("logs"))
    (tmp_path / "blur.toml").write_text(POLICY + area_of(mined, inside, outside))
    report = mined.run(plan_sweep, SWEEP.model_copy(update={"policies": (str(tmp_path),)}))
    assert {row["log_id"] for row in mined.rows("scene")} == {outside}
    assert sum(count.kept for count in report.counts if count.of == "logs") == 2
    assert not plan_sweep(mined.lake(), SWEEP).tasks, "a log is swept once"
