"""Labelling: each event once per specification; a bad video rejects only its own events."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.stages.label import TASK_EVENTS, LabelTask, plan_label, video_files
from tests.pipeline.stages.conftest import LABEL, Small
from transforms.corpora.pack import read_sample


def tasks(small: Small, **changes: object) -> list[LabelTask]:
    planned = plan_label(small.lake(), LABEL.model_copy(update=changes)).tasks
    return [task for task in planned if isinstance(task, LabelTask)]


def test_every_event_is_in_one_task_of_its_log(mined: Small) -> None:
    events = mined.rows("events")
    planned = tasks(mined)
    assert sorted(e.event_id for task in planned for e in task.events) == [
        row["event_id"] for row in sorted(events, key=lambda row: str(row["event_id"]))
    ]
    for task in planned:
        assert {event.log_id for event in task.events} == {task.log_id}
        assert len(task.events) <= TASK_EVENTS


def test_an_event_is_labelled_again_only_with_another_specification(labelled: Small) -> None:
    assert tasks(labelled) == []
    assert len(tasks(labelled, privacy="none")) == len(tasks(labelled, crf=30)) > 0


def test_a_sample_is_where_its_row_says(labelled: Small) -> None:
    for row in labelled.rows("samples"):
        pack = Path(labelled.url, row["pack_uri"]).read_bytes()
        members = read_sample(pack[row["offset"] : row["offset"] + row["length"]])
        assert {"json", "signals.npz", "front.mp4"} <= set(members)
        assert row["cameras"] == ["front"]


def test_a_missing_video_rejects_only_its_own_events(mined: Small, tmp_path: Path) -> None:
    """The note names the file."""
    videos = {row["log_id"]: Path(row["uri"]) for row in mined.rows("videos")}
    lost, kept = sorted(videos)
    events = [row["log_id"] for row in mined.rows("events")]
    shutil.move(videos[lost], tmp_path / "away.mp4")
    try:
        report = mined.run(plan_label, LABEL)
    finally:
        shutil.move(tmp_path / "away.mp4", videos[lost])
    (count,) = [count for count in report.counts if count.of == "events"]
    assert (count.rejected, count.kept) == (events.count(lost), events.count(kept))
    (note,) = report.notes
    assert f"{events.count(lost)} inputs could not be read" in note
    assert str(videos[lost]) in note
    assert not mined.rows("rejects"), "it is no verdict"
    assert {row["log_id"] for row in mined.rows("samples")} == {kept}
    (count,) = [c for c in mined.run(plan_label, LABEL).counts if c.of == "events"]
    assert (count.kept, count.rejected) == (events.count(lost), 0), "it is back"
    assert sorted(row["event_id"] for row in mined.rows("samples")) == sorted(
        row["event_id"] for row in mined.rows("events")
    )


@pytest.mark.parametrize("cameras", [[], ["front"], ["back", "front", "back"]])
def test_videos_are_grouped_by_camera(cameras: list[str], mined: Small) -> None:
    rows = mined.lake().read("videos").slice(0, 1).to_pylist()
    table = mined.lake().read("videos").schema.empty_table()
    table = table.from_pylist([rows[0] | {"camera": c} for c in cameras], schema=table.schema)
    found = video_files(table)
    assert {camera: len(files) for camera, files in found.items()} == {
        camera: cameras.count(camera) for camera in cameras
    }
