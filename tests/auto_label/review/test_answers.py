"""Answers: what comes back is what was shown, in the recording's times and pixels."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest

from auto_label.review.answers import TaskData, answer_subject, answers
from schemas.errors import CorruptError
from tests.auto_label.review.reviewed import annotated, choice, drawn, random_grid, random_task


def answered(exported: dict[str, Any]) -> dict[str, Any]:
    (annotation,) = exported["annotations"]
    (row,) = answers(TaskData.of(exported), annotation)
    return row


@pytest.fixture
def task() -> dict[str, Any]:
    task, _ = random_task(np.random.default_rng(3))
    assert task["predictions"]
    return task


def test_what_nobody_changed_comes_back_as_it_was() -> None:
    """Of 200 clips of any rate, size and length: each box of each frame, and no other."""
    boxes_seen = 0
    for seed in range(200):
        task, boxes = random_task(np.random.default_rng(seed), seed)
        row = answered(json.loads(json.dumps(annotated(task))))
        assert row["frames_ns"] == [task["data"]["frames_ns"][k - 1] for k in task["data"]["grid"]]
        wanted = boxes.sort_by([("track_id", "ascending"), ("t_ns", "ascending")]).to_pylist()
        names = ("track_id", "class", "t_ns")
        assert [[box[name] for name in names] for box in row["boxes"]] == [
            [box[name] for name in names] for box in wanted
        ]
        for found, box in zip(row["boxes"], wanted, strict=True):
            for name in ("x_px", "y_px", "w_px", "h_px"):
                assert abs(found[name] - box[name]) < 0.5
            boxes_seen += 1
    assert boxes_seen > 5000


def test_what_nobody_changed_in_a_grid_comes_back_to_its_cameras() -> None:
    """Of 50 grids of cameras of any rate, offset and size: each box, and no other."""
    boxes_seen = 0
    for seed in range(50):
        task, boxes = random_grid(np.random.default_rng(seed))
        exported = json.loads(json.dumps(annotated(task, choice("verdict", "right"))))
        (annotation,) = exported["annotations"]
        rows = answers(TaskData.of(exported), annotation)
        assert [row["camera"] for row in rows] == list(boxes)
        for row, view in zip(rows, task["data"]["cameras"], strict=True):
            assert row["verdict"] == "right"
            assert (row["width_px"], row["height_px"]) == (view["width_px"], view["height_px"])
            assert row["frames_ns"] == [view["frames_ns"][k - 1] for k in view["grid"]]
            own = boxes[row["camera"]]
            wanted = own.sort_by([("track_id", "ascending"), ("t_ns", "ascending")]).to_pylist()
            # Half a pixel of the picture may be some of a camera whose picture is larger.
            scale = max(1.0, view["width_px"] / view["cell"][2])
            found = {(box["track_id"], box["t_ns"]): box for box in row["boxes"]}
            for box in wanted:
                there = found.pop((box["track_id"], box["t_ns"]))
                assert there["class"] == box["class"]
                for name in ("x_px", "y_px", "w_px", "h_px"):
                    assert abs(there[name] - box[name]) < 0.5 * scale
                boxes_seen += 1
            assert not found
    assert boxes_seen > 2000


def test_a_box_of_a_grid_belongs_to_the_camera_that_it_is_drawn_on() -> None:
    task, _ = random_grid(np.random.default_rng(4))
    data = task["data"]
    view = data["cameras"][1]
    x, y, width, height = view["cell"]
    frame = next(k for k, t_ns in enumerate(view["frames_ns"], start=1) if t_ns is not None)
    place = {
        "x": 100 * (x + width / 4) / data["width_px"], "width": 50 * width / data["width_px"],
        "y": 100 * (y + height / 2) / data["height_px"], "height": 25 * height / data["height_px"],
    }  # fmt: skip
    added = drawn("a", [{"frame": frame, "enabled": False, "rotation": 0, **place}], "tram")
    exported = annotated(task, added)
    rows = answers(TaskData.of(exported), exported["annotations"][0])
    boxes = {row["camera"]: [b for b in row["boxes"] if b["class"] == "tram"] for row in rows}
    (box,) = boxes.pop(view["camera"])
    assert not any(boxes.values())
    assert box["t_ns"] == view["frames_ns"][frame - 1]
    assert box["x_px"] == pytest.approx(view["width_px"] / 4)
    assert box["y_px"] == pytest.approx(view["height_px"] / 2)
    assert box["w_px"] == pytest.approx(view["width_px"] / 2)
    assert box["h_px"] == pytest.approx(view["height_px"] / 4)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frames_ns", []), ("frames_ns", [5]), ("grid", [0]),
        ("cell", [0, 0, 1 << 15, 1]), ("cell", [0, 0, 1]), ("cell", [-1, 0, 1, 1]), ("cell", None),
    ],
)  # fmt: skip
def test_a_grid_that_somebody_changed_is_refused(key: str, value: object) -> None:
    task, _ = random_grid(np.random.default_rng(3))
    task["data"]["cameras"][0][key] = value
    with pytest.raises(CorruptError, match="push its event again"):
        TaskData.of(task)


def test_an_answer_keeps_who_when_and_what(task: dict[str, Any]) -> None:
    comment = {"id": "t", "type": "textarea", "from_name": "comment", "to_name": "video",
               "value": {"text": ["looks", "odd"]}}  # fmt: skip
    more = (choice("verdict", "wrong"), choice("scene", "rain", "night"), comment)
    row = answered(annotated(task, *more))
    assert (row["reviewer"], row["seconds"], row["skipped"]) == ("ann@example.org", 12.5, False)
    assert (row["verdict"], row["scene"], row["comment"]) == (
        "wrong",
        ["night", "rain"],
        "looks\nodd",
    )
    assert row["annotation"] == "7-1793527200000001000"
    assert row["updated_unix_ns"] == 1_793_527_205_250_000_000
    assert row["labels_digest"] == "d"


@pytest.mark.parametrize(
    ("completed_by", "reviewer"),
    [(3, "user 3"), ({"id": 4}, "user 4"), (None, "unknown"), ({"email": "a\ud800"}, "a?")],
)
def test_reviewers_are_told_in_several_ways(
    task: dict[str, Any], completed_by: Any, reviewer: str
) -> None:
    assert answered(annotated(task, completed_by=completed_by))["reviewer"] == reviewer


def test_a_moved_box_lands_on_its_frame_and_pixel(task: dict[str, Any]) -> None:
    """A frame that no model looked at: all tracks are told on it then."""
    data = task["data"]
    free = sorted(set(range(1, len(data["frames_ns"]) + 1)) - set(data["grid"]))
    frame = free[len(free) // 2]
    box = {"x": 25.0, "y": 50.0, "width": 10.0, "height": 5.0, "rotation": 0}
    moved = drawn("abc", [{"frame": frame, "enabled": False, "time": 1.0, **box}], "tram")
    row = answered(annotated(task, moved))
    assert data["frames_ns"][frame - 1] in row["frames_ns"]
    (found,) = [one for one in row["boxes"] if one["class"] == "tram"]
    assert found["t_ns"] == data["frames_ns"][frame - 1]
    assert found["x_px"] == pytest.approx(0.25 * data["width_px"])
    assert found["y_px"] == pytest.approx(0.5 * data["height_px"])
    assert found["w_px"] == pytest.approx(0.1 * data["width_px"])
    known = {one["track_id"] for one in row["boxes"]} - {found["track_id"]}
    assert found["track_id"] == 1 + max(known)


def test_boxes_are_cut_at_the_edges_and_those_outside_left_out(task: dict[str, Any]) -> None:
    data = task["data"]
    frame = data["grid"][0]
    size = {"width": 20.0, "height": 20.0, "rotation": 0, "frame": frame, "enabled": False}
    half, outside = {"x": -10.0, "y": 90.0, **size}, {"x": 130.0, "y": 0.0, **size}
    row = answered(annotated(task, drawn("a", [half], "half"), drawn("b", [outside], "outside")))
    (cut,) = [one for one in row["boxes"] if one["class"] in {"half", "outside"}]
    assert (cut["class"], cut["x_px"]) == ("half", 0.0)
    assert cut["w_px"] == pytest.approx(0.1 * data["width_px"])
    assert cut["y_px"] + cut["h_px"] == pytest.approx(data["height_px"])


def test_a_region_without_a_class_is_kept(task: dict[str, Any]) -> None:
    box = {"x": 5.0, "y": 5.0, "width": 50.0, "height": 50.0, "rotation": 0}
    placed = [{"frame": task["data"]["grid"][0], "enabled": False, **box}]
    row = answered(annotated(task, drawn("a", placed)))
    assert [one["class"] for one in row["boxes"]].count("unnamed") == 1


def test_each_state_of_an_annotation_is_known_by_its_time(task: dict[str, Any]) -> None:
    one, other = annotated(task), annotated(task, updated_at="2026-11-01T10:00:06Z")
    subjects = {answer_subject(each["annotations"][0]) for each in (one, other)}
    assert len(subjects) == 2
    subjects.add(answer_subject(annotated(task, id=8)["annotations"][0]))
    assert len(subjects) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fleetmill", "0" * 20), ("event_id", "other"), ("camera", "rear"), ("frames_ns", []),
        ("frames_ns", [3, 2, 1]), ("frames_ns", [0, 1 << 62]), ("frames_ns", ["a"]),
        ("frames_ns", None), ("grid", [0]), ("grid", [10**6]), ("grid", [2, 1]), ("grid", [1.5]),
        ("width_px", 0), ("width_px", "64"), ("height_px", 1 << 40), ("log_id", 5),
    ],
)  # fmt: skip
def test_a_task_that_somebody_changed_is_refused(
    task: dict[str, Any], key: str, value: object
) -> None:
    exported = copy.deepcopy(annotated(task))
    exported["data"][key] = value
    with pytest.raises(CorruptError, match="push its event again"):
        TaskData.of(exported)


@pytest.mark.parametrize(
    "changed",
    [
        {"result": [{"type": "videorectangle"}]},
        {"result": [{"type": "videorectangle", "id": "a", "value": {"sequence": 5}}]},
        {"result": [drawn("a", [{"frame": 1, "x": math.nan, "y": 0, "width": 1, "height": 1}])]},
        {"result": 5},
        {"result": [5]},
        {"result": [{"type": "choices", "from_name": "verdict", "value": None}]},
        {"result": [{"type": "choices", "from_name": "verdict", "value": None}] * 20_000},
        {"lead_time": "long"},
    ],
)
def test_an_annotation_that_label_studio_would_not_make_is_refused(
    task: dict[str, Any], changed: dict[str, Any]
) -> None:
    with pytest.raises(CorruptError, match=f"review task {task['data']['fleetmill']}: "):
        answered(annotated(task, **changed))


@pytest.mark.parametrize("at", [None, 5, "yesterday", "0001-01-01T00:00:00Z", "9999-01-01"])
def test_an_annotation_without_a_time_is_refused(task: dict[str, Any], at: object) -> None:
    exported = annotated(task, updated_at=at, created_at=at)
    with pytest.raises(CorruptError, match="no id or no time"):
        answer_subject(exported["annotations"][0])
