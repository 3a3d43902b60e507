"""Review push: proxies that show each picture of a clip, and the tasks beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from auto_label.review.resolve import standing
from auto_label.review.tasks import task_key
from pipeline.config import IngestConfig, MineConfig, ReviewPullConfig, ReviewPushConfig
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from pipeline.stages.ingest import plan_ingest
from pipeline.stages.label import plan_label
from pipeline.stages.mine import plan_mine
from pipeline.stages.review_pull import plan_review_pull
from pipeline.stages.review_push import plan_review_push
from schemas.arrays import AnyArray
from schemas.tables import TABLES
from synth.fleet import FleetSpec, write_fleet
from tests.auto_label.review.reviewed import annotated, choice
from tests.pipeline.stages.conftest import LABEL, Small
from tests.weights import offline
from transforms.corpora.pack import read_sample


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder for proxies and tasks."""
    return tmp_path / "media" / "review"


def push(small: Small, media: Path, **more: Any) -> Any:
    return small.run(plan_review_push, ReviewPushConfig(out=str(media), **more))


def pictures(mp4: Path) -> list[AnyArray]:
    with av.open(str(mp4), "r") as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def clip_of(small: Small, event_id: str, folder: Path, camera: str = "front") -> Path:
    (part,) = [
        row for row in small.rows("parts") if (row["event_id"], row["part"]) == (event_id, "clip")
    ]
    pack = Path(small.url, part["pack_uri"]).read_bytes()
    path = folder / "clip.mp4"
    path.write_bytes(
        read_sample(pack[part["offset"] : part["offset"] + part["length"]])[f"{camera}.mp4"]
    )
    return path


def test_a_proxy_shows_each_picture_of_the_clip_in_its_place(
    labelled: Small, media: Path, tmp_path: Path
) -> None:
    events = labelled.rows("events")
    report = push(labelled, media)
    assert report.tasks == len(events)
    frames = labelled.rows("frames")
    for event in events:
        key = task_key(event["event_id"], "front")
        data = json.loads((media / f"{key}.json").read_text())["data"]
        inside = [
            row["t_ns"]
            for row in frames
            if row["log_id"] == event["log_id"]
            and event["start_ns"] <= row["t_ns"] < event["end_ns"]
        ]
        assert data["frames_ns"] == sorted(inside)
        shown = pictures(media / f"{key}.mp4")
        wanted = pictures(clip_of(labelled, event["event_id"], tmp_path))
        assert len(shown) == len(wanted) == len(inside)
        for one, other in zip(shown, wanted, strict=True):
            assert np.abs(one.astype(int) - other).mean() < 4
        assert (data["width_px"], data["height_px"]) == (64, 48)
        assert data["video"] == f"/data/local-files/?d=review/{key}.mp4"
        assert (data["trigger"], data["camera"]) == (event["trigger"], "front")
        assert len(data["signals"]["time_s"]) > 10
        # No model looked: one frame of each step of the labels' rate.
        steps = {(data["frames_ns"][k - 1] - event["start_ns"]) // 10**9 for k in data["grid"]}
        assert len(steps) == len(data["grid"])


def test_a_grid_shows_all_cameras_and_its_answer_is_one_of_each(
    tmp_path: Path, media: Path
) -> None:
    spec = FleetSpec(
        drives=1, minutes=0.2, seed=5, width=64, height=48, cameras=("front", "left_repeater"),
    )  # fmt: skip
    write_fleet(spec, str(tmp_path / "fleet"), False)
    small = Small(tmp_path / "fleet", Lake.create(str(tmp_path / "lake")).url)
    small.run(plan_ingest, IngestConfig(input=(str(tmp_path / "fleet"),)))
    small.run(plan_mine, MineConfig(only=("uniform_sample",)))
    with offline():
        small.run(plan_label, LABEL)
    assert push(small, media, layout="grid", control=0.5).tasks == 1
    (event,) = small.rows("events")
    key = task_key(event["event_id"], None)
    assert sorted(path.name for path in media.glob("*.json")) == [f"{key}.json"]
    task = json.loads((media / f"{key}.json").read_text())
    shown = pictures(media / f"{key}.mp4")
    for view in task["data"]["cameras"]:
        x, y, width, height = view["cell"]
        assert (width, height) == (view["width_px"], view["height_px"]) == (64, 48)
        wanted = pictures(clip_of(small, event["event_id"], tmp_path, view["camera"]))
        assert view["frames_ns"] == sorted(set(view["frames_ns"]))
        assert len(shown) == len(wanted) == len(view["frames_ns"])
        for one, other in zip(shown, wanted, strict=True):
            own = one[y : y + height, x : x + width].astype(int)
            assert np.abs(own - other[:height, :width]).mean() < 6
    exported = tmp_path / "export.json"
    exported.write_text(json.dumps([annotated(task, choice("verdict", "right"))]))
    small.run(plan_review_pull, ReviewPullConfig(input=str(exported)))
    rows = small.rows("verdicts")
    assert [(row["camera"], row["verdict"]) for row in rows] == [
        ("front", "right"),
        ("left_repeater", "right"),
    ]
    assert len(standing(small.lake().read("verdicts"))) == 2
    assert verify(small.url).problems == ()
    assert push(small, media, layout="grid", control=0.5).tasks == 0


def test_what_is_there_is_not_made_again(labelled: Small, media: Path) -> None:
    """A proxy whose task was not written is."""
    push(labelled, media, width=64)
    before = {path.name: path.read_bytes() for path in media.iterdir()}
    assert push(labelled, media).tasks == 0
    key = next(path for path in sorted(media.iterdir()) if path.suffix == ".json")
    key.unlink()
    (media / f"{key.stem}.mp4").write_bytes(b"half")
    assert push(labelled, media, width=64).tasks == 1
    assert {path.name: path.read_bytes() for path in media.iterdir()} == before


def test_the_address_is_what_label_studio_is_told(labelled: Small, media: Path) -> None:
    push(labelled, media, address="https://media.example.org/")
    videos = [json.loads(path.read_text())["data"]["video"] for path in media.glob("*.json")]
    assert videos
    for video in videos:
        assert video.startswith("https://media.example.org/")
        assert (media / video.rpartition("/")[2]).is_file()


def test_clips_of_another_policy_are_not_shown(labelled: Small, media: Path) -> None:
    assert push(labelled, media, privacy="none").tasks == 0
    assert not media.exists()


def test_a_damaged_pack_costs_its_events_a_reject(labelled: Small, media: Path) -> None:
    (part, *_) = [row for row in labelled.rows("parts") if row["part"] == "labels"]
    pack = Path(labelled.url, part["pack_uri"])
    content = bytearray(pack.read_bytes())
    content[part["offset"] : part["offset"] + 512] = bytes(512)
    pack.write_bytes(content)
    report = push(labelled, media)
    assert report.tasks == len(labelled.rows("events"))
    (reject,) = labelled.rows("rejects")
    assert (reject["stage"], reject["subject"]) == ("review_push", part["event_id"])
    made = {json.loads(path.read_text())["data"]["event_id"] for path in media.glob("*.json")}
    assert made == {row["event_id"] for row in labelled.rows("events")} - {part["event_id"]}


def test_the_lake_gets_no_row_but_those_of_the_run(labelled: Small, media: Path) -> None:
    tables = TABLES.keys() - {"runs", "ledger"}
    before = {table: labelled.lake().read(table).num_rows for table in tables}
    push(labelled, media)
    assert before == {table: labelled.lake().read(table).num_rows for table in tables}
