"""Repacking: frames have the pictures and times of the clip."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.config import CorpusConfig
from pipeline.stages.corpus import select
from pipeline.stages.label import plan_label
from pipeline.stages.repack import RepackTask, frames_members, plan_repack, subject
from tests.pipeline.stages.conftest import LABEL, Small
from transforms.corpora.pack import read_sample

FRAMES = CorpusConfig(name="c", payload="frames", frames_fps=2.0)


def members(small: Small, row: dict[str, object]) -> dict[str, bytes]:
    pack = Path(small.url, str(row["pack_uri"])).read_bytes()
    offset, length = int(str(row["offset"])), int(str(row["length"]))
    return read_sample(pack[offset : offset + length])


def test_every_clip_is_repacked_once_per_rate(labelled: Small) -> None:
    clips = [row for row in labelled.rows("parts") if row["part"] == "clip"]
    report = labelled.run(plan_repack, FRAMES)
    assert [(c.of, c.kept) for c in report.counts] == [("clips", len(clips))]
    frames = [row for row in labelled.rows("parts") if row["part"] == "frames"]
    assert {row["event_id"] for row in frames} == {row["event_id"] for row in clips}
    assert not plan_repack(labelled.lake(), FRAMES).tasks
    again = FRAMES.model_copy(update={"frames_fps": 1.0})
    assert plan_repack(labelled.lake(), again).tasks
    assert len({subject(row) for row in clips}) == len(clips)


def test_the_clips_of_a_log_are_repacked_together_whatever_packs_they_are_in(
    labelled: Small,
) -> None:
    labelled.run(plan_label, LABEL.model_copy(update={"crf": 30}))
    tasks = plan_repack(labelled.lake(), FRAMES).tasks
    for task in tasks:
        assert isinstance(task, RepackTask)
        assert len({row["log_id"] for row in task.clips}) == 1
        assert len({row["pack_uri"] for row in task.clips}) == len(task.clips) == 2
    assert len(tasks) == len(labelled.rows("logs"))
    labelled.run(plan_repack, FRAMES)
    parts = labelled.rows("parts")
    made = {
        (row["event_id"], row["source_digest"]): members(labelled, row)
        for row in parts
        if row["part"] == "frames"
    }
    for clip in (row for row in parts if row["part"] == "clip"):
        expected = frames_members(members(labelled, clip), FRAMES.frames_fps)
        assert made[clip["event_id"], clip["spec_digest"]] == expected


def test_a_corpus_of_frames_has_those_of_one_rate(labelled: Small) -> None:
    """Also where the lake has those of another one, of the same clips."""
    rates = {fps: FRAMES.model_copy(update={"frames_fps": fps}) for fps in (1.0, 2.0)}
    for config in rates.values():
        labelled.run(plan_repack, config)
    events = sorted(row["event_id"] for row in labelled.rows("events"))
    parts = {row["sha256"]: row for row in labelled.rows("parts")}
    for fps, config in rates.items():
        chosen = select(labelled.lake(), config).samples.to_pylist()
        assert sorted(row["event_id"] for row in chosen) == events
        for row in chosen:
            made = members(labelled, parts[row["parts"][0]["sha256"]])
            times = json.loads(made["pictures.json"])["frame_t_ns"]["front"]
            assert np.diff(times).min() >= 0.8e9 / fps


def test_frames_are_those_of_the_clip(labelled: Small) -> None:
    """Compared with PyAV's decoding of the clip, up to JPEG's loss."""
    row = next(row for row in labelled.rows("parts") if row["part"] == "clip")
    clip = members(labelled, row)
    made = frames_members(clip, 2.0)
    said = json.loads(made["pictures.json"])
    assert said["cameras"] == json.loads(clip["pictures.json"])["cameras"]
    times = said["frame_t_ns"]["front"]
    with av.open(io.BytesIO(clip["front.mp4"]), "r") as container:
        decoded = {
            round(float(frame.pts * frame.time_base) * 1e9): frame.to_ndarray(format="bgr24")
            for frame in container.decode(video=0)
            if frame.pts is not None and frame.time_base is not None
        }
    pictures = [made[f"front.{number:04d}.jpg"] for number in range(len(times))]
    assert len([name for name in made if name.endswith(".jpg")]) == len(times) > 1
    for t_ns, jpeg in zip(times, pictures, strict=True):
        nearest = min(decoded, key=lambda at: abs(at - t_ns))
        assert nearest == pytest.approx(t_ns, abs=1_000_000)
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert np.abs(picture.astype(int) - decoded[nearest].astype(int)).mean() < 6
