"""Labelling: each event once per specification; a bad video rejects only its own events."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from auto_label.models import Detections
from auto_label.models.centernet import Centernet
from auto_label.models.yunet import Yunet
from jobs.reporting import Reporter, exit_code
from pipeline.config import CorpusConfig
from pipeline.graph.balance import JobReport
from pipeline.lake.verify import verify
from pipeline.stages.corpus import plan_corpus, select
from pipeline.stages.label import LabelTask, plan_label, video_files
from schemas.arrays import Image
from schemas.records import Event
from tests.conftest import Tell
from tests.pipeline.snapshots.written import members_of
from tests.pipeline.stages.conftest import LABEL, POLICY, Small, area_of
from transforms.corpora.pack import read_sample
from transforms.isolation import Call
from transforms.parquet import read


def tasks(small: Small, **changes: object) -> list[LabelTask]:
    planned = plan_label(small.lake(), LABEL.model_copy(update=changes)).tasks
    return [task for task in planned if isinstance(task, LabelTask)]


def test_every_event_is_a_task_with_the_files_of_its_log(mined: Small) -> None:
    planned = tasks(mined)
    found, events = (
        {e.event_id: e.log_id for e in some}
        for some in (
            [task.event for task in planned],
            [Event(**row) for row in mined.rows("events")],
        )
    )
    assert found == events
    assert len({task.key for task in planned}) == len(planned) == len(events)
    for task in planned:
        for table, files in task.files:
            rows = [row["log_id"] for file in files for row in read(file).to_pylist()]
            assert task.event.log_id in rows or not rows, table


def test_an_event_is_labelled_again_only_with_another_specification(labelled: Small) -> None:
    assert tasks(labelled) == []
    assert len(tasks(labelled, privacy="none")) == len(tasks(labelled, crf=30)) > 0


MEMBERS = {
    "clip": {"front.mp4", "pictures.json"},
    "signals": {"signals.npz"},
    "labels": {"json"},
}
"""The files of each part."""


def test_a_part_is_where_its_row_says(labelled: Small) -> None:
    rows = labelled.rows("parts")
    for row in rows:
        pack = Path(labelled.url, row["pack_uri"]).read_bytes()
        members = read_sample(pack[row["offset"] : row["offset"] + row["length"]])
        assert set(members) == MEMBERS[row["part"]]
        assert row["cameras"] == (["front"] if row["part"] == "clip" else [])
    events = [row["event_id"] for row in labelled.rows("events")]
    for part in MEMBERS:
        made = [row["event_id"] for row in rows if row["part"] == part]
        assert sorted(made) == sorted(events)


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
    (note,) = [note for note in report.notes if "privacy" not in note]
    assert f"{events.count(lost)} inputs could not be read" in note
    assert str(videos[lost]) in note
    assert not mined.rows("rejects"), "it is no verdict"
    assert {row["log_id"] for row in mined.rows("parts")} == {kept}
    (count,) = [c for c in mined.run(plan_label, LABEL).counts if c.of == "events"]
    assert (count.kept, count.rejected) == (events.count(lost), 0), "it is back"
    assert {row["event_id"] for row in mined.rows("parts")} == {
        row["event_id"] for row in mined.rows("events")
    }


@pytest.mark.parametrize("cameras", [[], ["front"], ["back", "front", "back"]])
def test_videos_are_grouped_by_camera(cameras: list[str], mined: Small) -> None:
    rows = mined.lake().read("videos").slice(0, 1).to_pylist()
    table = mined.lake().read("videos").schema.empty_table()
    table = table.from_pylist([rows[0] | {"camera": c} for c in cameras], schema=table.schema)
    found = video_files(table)
    assert {camera: len(files) for camera, files in found.items()} == {
        camera: cameras.count(camera) for camera in cameras
    }


@pytest.mark.usefixtures("models")
def test_only_what_is_due_is_done_again(
    labelled: Small,
    monkeypatch: pytest.MonkeyPatch,
    tell: Tell,
    tmp_path: Path,
) -> None:
    """Frames decoded, parts and bytes written after each change; nothing is done twice."""
    events = len(labelled.rows("events"))
    frames = decoded(labelled.run(plan_label, LABEL.model_copy(update={"privacy": "none"})))
    lines = [f"{events} events of {frames} frames:"]

    def label(change: str, **config: object) -> tuple[int, Counter[str]]:
        before = labelled.rows("parts")
        start = time.perf_counter()
        report = labelled.run(plan_label, LABEL.model_copy(update=config))
        seconds = time.perf_counter() - start
        new = [row for row in labelled.rows("parts") if row not in before]
        kinds, size = Counter(row["part"] for row in new), sum(row["length"] for row in new)
        number = decoded(report)
        said = ", ".join(f"{n} {part}" for part, n in sorted(kinds.items())) or "nothing"
        lines.append(f"  {change}: {seconds:.2f} s, {number} frames, {size:,} bytes: {said}")
        assert not labelled.run(plan_label, LABEL.model_copy(update=config)).tasks
        return number, kinds

    clips, labels = Counter(clip=events), Counter(labels=events)
    assert label("a detector that privacy went without") == (frames, clips)
    assert label("nothing") == (0, Counter())
    assert label("another quality", crf=30) == (frames, clips)
    assert label("another privacy policy", privacy="strict") == (frames, clips)
    assert label("a new model", models=("yolox_nano",)) == (frames, labels)
    assert label("a rate", models=("yolox_nano",), fps=2.0) == (frames, labels)
    with away([Path(row["uri"]) for row in labelled.rows("videos")], tmp_path):
        gone = label("a rate, the videos gone", models=("yolox_nano",), fps=3.0)
    assert gone == (frames, labels), "of the clips"
    link_anew(monkeypatch)
    assert label("a new linker", models=("yolox_nano",), fps=2.0) == (0, labels)
    tell("\n".join(lines))
    assert verify(labelled.url).problems == ()


@contextmanager
def away(files: Sequence[Path], folder: Path) -> Iterator[None]:
    """Takes files away while the block runs."""
    for number, path in enumerate(files):
        shutil.move(path, folder / f"{number}.mp4")
    try:
        yield
    finally:
        for number, path in enumerate(files):
            shutil.move(folder / f"{number}.mp4", path)


def link_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the linker another version, and calls it in this process, which knows it."""
    call_in_this_process(monkeypatch)
    monkeypatch.setattr("auto_label.link.VERSION", 99)


def call_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels in this process, where what is patched is patched."""

    def call_here(call: Call[Any], *_: object) -> Any:
        return call.function(*call.arguments)

    monkeypatch.setattr("pipeline.stages.label.isolated", call_here)


def decoded(report: JobReport) -> int:
    """Returns how many frames a job decoded."""
    return sum(count.kept for count in report.counts if count.of == "frames")


def test_labels_made_anew_leave_the_clips_of_a_corpus_as_they_are(
    labelled: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CorpusConfig(name="c", topology="gpu-8", val_fraction=0.5)
    before = labelled.run(plan_corpus, config)
    link_anew(monkeypatch)
    labelled.run(plan_label, LABEL)
    after = labelled.run(plan_corpus, config)
    assert before.detail["snapshot"] != after.detail["snapshot"]
    old, new = (members_of(Path(report.detail["folder"])) for report in (before, after))
    assert old.keys() == new.keys()
    changed = {name for name in old if old[name] != new[name]}
    assert changed == {name for name in old if name.endswith(".json") and "pictures" not in name}
    assert changed
    assert verify(labelled.url).problems == ()


@pytest.mark.usefixtures("models")
def test_a_model_looks_at_the_clips_where_the_videos_are_gone(
    labelled: Small, tmp_path: Path
) -> None:
    """The clips stay; the next quality has nothing to be made from, and is not final."""
    with_model = LABEL.model_copy(update={"models": ("yolox_nano",)})
    labelled.run(plan_label, with_model)
    before = [row for row in labelled.rows("parts") if row["part"] == "clip"]
    videos = [Path(row["uri"]) for row in labelled.rows("videos")]
    with away(videos, tmp_path):
        faster = labelled.run(plan_label, with_model.model_copy(update={"fps": 3.0}))
        coarser = labelled.run(plan_label, with_model.model_copy(update={"crf": 40}))
    assert [c.kept for c in faster.counts if c.of == "events"] == [len(labelled.rows("events"))]
    views = [row for row in labelled.rows("views") if row["source"].endswith(" (clip)")]
    assert {row["event_id"] for row in views} == {row["event_id"] for row in before}
    assert [row for row in labelled.rows("parts") if row["part"] == "clip"] == before
    assert "could not be read" in coarser.notes[0]
    assert not labelled.rows("rejects")
    assert verify(labelled.url).problems == ()


def test_what_a_policy_excludes_is_not_decoded_and_leaves_the_corpora(
    labelled: Small, tmp_path: Path
) -> None:
    """One of the drives goes through the area; without it nothing is excluded."""
    events = {row["event_id"]: row["log_id"] for row in labelled.rows("events")}
    inside, outside = sorted(set(events.values()))
    (tmp_path / "blur.toml").write_text(POLICY + area_of(labelled, inside, outside))
    config = LABEL.model_copy(update={"policies": (str(tmp_path),)})
    corpus = CorpusConfig(name="c", topology="gpu-8", val_fraction=0.5)
    assert {row["log_id"] for row in select(labelled.lake(), corpus).samples.to_pylist()} == {
        inside,
        outside,
    }
    report = labelled.run(plan_label, config)
    (count,) = [count for count in report.counts if count.of == "events"]
    wanted = sum(log_id == outside for log_id in events.values())
    assert (count.kept, count.filtered) == (wanted, len(events) - wanted)
    chosen = select(labelled.lake(), corpus).samples.to_pylist()
    assert {row["log_id"] for row in chosen} == {outside}, "though clips were made before"
    assert not labelled.run(plan_label, config).tasks
    assert verify(labelled.url).problems == ()
    (tmp_path / "blur.toml").write_text(POLICY)
    labelled.run(plan_label, config)
    chosen = select(labelled.lake(), corpus).samples.to_pylist()
    assert {row["log_id"] for row in chosen} == {inside, outside}


def test_a_detector_that_fails_on_its_tenth_picture_writes_nothing(
    mined: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever event is at work then, and all after it; the job says so and ends with 1."""
    looks = 0
    faces, plates = Yunet.detect, Centernet.detect

    def gone(images: Sequence[Image]) -> None:
        nonlocal looks
        looks += len(images)
        if looks >= 10:
            raise RuntimeError("the card is gone")

    def of_faces(self: Yunet, images: Sequence[Image]) -> list[Detections]:
        gone(images)
        return faces(self, images)

    def of_plates(self: Centernet, images: Sequence[Image]) -> list[Detections]:
        gone(images)
        return plates(self, images)

    config = LABEL.model_copy(update={"crf": 30})
    call_in_this_process(monkeypatch)
    monkeypatch.setattr(Yunet, "detect", of_faces)
    monkeypatch.setattr(Centernet, "detect", of_plates)
    report = mined.run(plan_label, config)
    (note,) = [note for note in report.notes if "NOT WRITTEN" in note]
    assert re.search(r"privacy blur: model (yunet|plates) fails on .*: the card is gone", note)
    assert report.private == len(mined.rows("events"))
    assert exit_code(Reporter(as_json=True), [report], 1.0) == 1
    assert mined.rows("parts") == mined.rows("privacy") == mined.rows("rejects") == []
    assert not list(Path(mined.url, "packs").glob("*"))
    monkeypatch.setattr(Yunet, "detect", faces)
    monkeypatch.setattr(Centernet, "detect", plates)
    again = mined.run(plan_label, config)
    assert (again.private, exit_code(Reporter(as_json=True), [again], 0.0)) == (0, 0)
    assert len(mined.rows("privacy")) == len(mined.rows("events"))
    assert verify(mined.url).problems == ()
