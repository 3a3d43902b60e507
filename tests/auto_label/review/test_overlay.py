"""The overlay: an answer replaces the boxes of its camera, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from auto_label.review.overlay import (
    label_rows,
    part_digest,
    reviewed_digest,
    reviewed_document,
)

SIZE = {"x_px": 1.0, "y_px": 2.0, "w_px": 3.0, "h_px": 4.0}


def box(camera: str, track: int, t_ns: int) -> dict[str, Any]:
    return {"camera": camera, "track_id": track, "t_ns": t_ns, "class": "car", **SIZE,
            "score": 0.5, "source": "m", "source_version": "1"}  # fmt: skip


def track(camera: str, number: int, boxes: int) -> dict[str, Any]:
    return {"camera": camera, "track_id": number, "class": "car", "start_ns": 0,
            "end_ns": 10 * (boxes - 1), "boxes": boxes, "score": 0.5, "source": "m",
            "source_version": "1"}  # fmt: skip


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.fixture
def document() -> dict[str, Any]:
    """The labels of an event with two cameras."""
    boxes = [box(camera, 1, t_ns) for camera in ("front", "rear") for t_ns in (0, 10)]
    poses = [
        {"t_ns": 0, "x_m": 0.0, "y_m": 0.0, "heading_rad": 0.0, "speed_mps": 1.0, "sigma_m": 0.1,
         "source": "signals", "source_version": "1"}
    ]  # fmt: skip
    return {
        "event": {"event_id": "e"},
        "log": {"log_id": "l"},
        "boxes": columns(boxes),
        "tracks": columns([track("front", 1, 2), track("rear", 1, 2)]),
        "ego_path": columns(poses),
        "labelling": {"digest": "d", "models": ["m@1"], "label_fps": 1.0},
    }


def answer(camera: str, *boxes: dict[str, Any], **changed: Any) -> dict[str, Any]:
    given = {
        "camera": camera, "annotation": "a", "updated_unix_ns": 5, "verdict": "right", "agreed": 2,
        "voters": 3, "scene": ["rain"], "reviewer": "ann@example.org",
        "boxes": [{"track_id": 4, "class": "bus", **SIZE, **one} for one in boxes],
    }  # fmt: skip
    return given | changed


def test_the_boxes_of_the_answered_camera_are_the_reviewers(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    given = answer("front", {"t_ns": 30}, {"t_ns": 20}, {"t_ns": 20, "track_id": 2})
    found = reviewed_document(document, [given])
    assert document == before
    names = ("camera", "track_id", "t_ns", "class", "source", "source_version", "score")
    assert list(zip(*(found["boxes"][name] for name in names), strict=True)) == [
        ("front", 2, 20, "bus", "review", "a", 1.0),
        ("front", 4, 20, "bus", "review", "a", 1.0),
        ("front", 4, 30, "bus", "review", "a", 1.0),
        ("rear", 1, 0, "car", "m", "1", 0.5),
        ("rear", 1, 10, "car", "m", "1", 0.5),
    ]
    described = ("camera", "track_id", "class", "start_ns", "end_ns", "boxes")
    assert list(zip(*(found["tracks"][name] for name in described), strict=True)) == [
        ("front", 2, "bus", 20, 20, 1),
        ("front", 4, "bus", 20, 30, 2),
        ("rear", 1, "car", 0, 10, 2),
    ]
    same = ("event", "log", "ego_path")
    assert {name: found[name] for name in same} == {name: before[name] for name in same}
    assert found["review"] == [
        {"camera": "front", "verdict": "right", "agreed": 2, "voters": 3, "scene": ["rain"]}
    ]
    assert "ann@example.org" not in str(found)


def test_an_answer_without_boxes_leaves_none(document: dict[str, Any]) -> None:
    found = reviewed_document(document, [answer("front"), answer("rear")])
    assert found["boxes"]["camera"] == found["tracks"]["camera"] == []
    assert found["boxes"].keys() == document["boxes"].keys()


def test_the_rows_are_those_of_the_document(document: dict[str, Any]) -> None:
    found = reviewed_document(document, [answer("front", {"t_ns": 20})])
    tables = label_rows("e", found)
    assert {name: table.num_rows for name, table in tables.items()} == {
        "boxes": 3, "tracks": 2, "ego_path": 1,
    }  # fmt: skip
    for table in tables.values():
        assert set(table["spec_digest"].to_pylist()) == {found["labelling"]["digest"]}
        assert set(table["event_id"].to_pylist()) == {"e"}


def test_the_digest_follows_the_labels_and_the_states_of_answers() -> None:
    one, other = answer("front"), answer("rear")
    digests = {
        reviewed_digest("d", [one]),
        reviewed_digest("d", [one, other]),
        reviewed_digest("e", [one]),
        reviewed_digest("d", [answer("front", updated_unix_ns=6)]),
        reviewed_digest("d", [answer("front", annotation="b")]),
    }
    assert len(digests) == 5
    assert reviewed_digest("d", [other, one]) == reviewed_digest("d", [one, other])
    assert part_digest("d") != "d"
