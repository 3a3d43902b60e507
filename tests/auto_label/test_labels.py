"""Boxes, tracks and the ego path of one event, on painted video whose boxes are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest

from auto_label.event_rows import EventRows
from auto_label.label import Labelled, label_event
from auto_label.models import load_models, open_detector
from auto_label.specs import Due, LabelSpec, PixelSpec
from schemas.records import VideoFile
from schemas.tables import TABLES
from schemas.times import NS_PER_S
from tests.auto_label.painted import (
    EVENT,
    LOG,
    Red,
    do,
    known,
    label,
    person,
    whole_due,
)


def test_boxes_lie_on_what_was_painted(labelled: Labelled, red: Red) -> None:
    boxes = labelled.tables["boxes"]
    assert boxes.schema == TABLES["boxes"].schema
    for camera in ("back", "front"):
        rows = [row for row in boxes.to_pylist() if row["camera"] == camera]
        steps = [(row["t_ns"] - EVENT.start_ns) * 5 // NS_PER_S for row in rows]
        assert steps == list(range(7))
        for row in rows:
            found = (row["x_px"], row["y_px"], row["w_px"], row["h_px"])
            np.testing.assert_allclose(found, person(row["t_ns"]), atol=3)
            assert (row["track_id"], row["class"], row["source"]) == (1, "person", "yolox_nano")
            assert row["source_version"] == "695e750a5d57"
            assert row["spec_digest"] == whole_due([red]).spec.link_digest


def test_a_track_sums_its_boxes_up(labelled: Labelled) -> None:
    assert labelled.tables["tracks"].schema == TABLES["tracks"].schema
    for row in labelled.tables["tracks"].to_pylist():
        t_ns = [
            b["t_ns"] for b in labelled.tables["boxes"].to_pylist() if b["camera"] == row["camera"]
        ]
        assert (row["start_ns"], row["end_ns"], row["boxes"]) == (min(t_ns), max(t_ns), len(t_ns))
        assert row["score"] == pytest.approx(0.9)
    assert labelled.tables["tracks"].num_rows == 2


def test_the_ego_path_goes_straight_on(labelled: Labelled) -> None:
    path = labelled.tables["ego_path"]
    assert path.schema == TABLES["ego_path"].schema
    t = (path["t_ns"].to_numpy() - EVENT.anchor_ns) / NS_PER_S
    np.testing.assert_allclose(path["x_m"].to_numpy(), 10 * t, atol=0.05)
    assert set(path["source"].to_pylist()) == {"signals"}


def test_without_detectors_there_are_clips_and_no_boxes(log: EventRows) -> None:
    bare = label(log, [])
    assert bare.cameras == ("back", "front")
    assert bare.tables["boxes"].num_rows == bare.tables["tracks"].num_rows == 0
    assert bare.tables["ego_path"].num_rows > 0


def test_two_models_count_their_tracks_on(log: EventRows, red: Red) -> None:
    other = Red(red.spec.replace(name="other", sha256="1" * 64))
    both = label(log, [red, other])
    front = [row for row in both.tables["tracks"].to_pylist() if row["camera"] == "front"]
    assert [(row["track_id"], row["source"]) for row in front] == [(1, "yolox_nano"), (2, "other")]


def test_a_linker_that_changed_needs_no_pixels(
    log: EventRows, red: Red, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = whole_due([red])
    done = frozenset(due.digests)
    monkeypatch.setattr("auto_label.link.VERSION", 99)
    left = Due.without(done, due.spec, due.pixels or PixelSpec())
    assert (left.models, left.pixels, left.link, left.labels) == ((), None, True, True)
    blind = dataclasses.replace(known(labelled, log), videos={}, frames=TABLES["frames"].empty())
    again = do(blind, [], left)
    assert again.decoded == 0
    for table in ("boxes", "tracks"):
        columns = labelled.tables[table].drop_columns(["spec_digest"])
        assert again.tables[table].drop_columns(["spec_digest"]).equals(columns)
    assert [part.part for part in again.parts] == ["labels"]


def test_real_traffic_is_tracked(data: Path) -> None:
    spec = load_models(["yolox_nano"])[0]
    detector = open_detector(spec, data / "models" / spec.name / spec.file)
    path = data / "video" / "solidWhiteRight.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = sorted(
            (p.pts, bool(p.is_keyframe), p.pos or 0, p.size)
            for p in container.demux(stream)
            if p.pts is not None
        )
        base = stream.time_base
    assert base is not None
    pts, keys, offsets, sizes = (list(column) for column in zip(*packets, strict=True))
    t_ns = [round((p - pts[0]) * base * NS_PER_S) for p in pts]
    count = len(pts)
    frames = pa.table(
        {
            "log_id": ["l"] * count,
            "camera": ["front"] * count,
            "uri": [str(path)] * count,
            "frame_index": range(count),
            "t_ns": t_ns,
            "pts": pts,
            "is_keyframe": keys,
            "byte_offset": offsets,
            "byte_size": sizes,
        }
    )
    video = VideoFile("front", str(path), 0, t_ns[-1], base.numerator, base.denominator, 960, 540)
    log = EventRows(
        LOG,
        {"front": [video]},
        TABLES["frames"].conform(frames),
        TABLES["signals"].empty(),
        TABLES["joints"].empty(),
    )
    due = Due(LabelSpec(models=(spec.identity,)), (spec.identity,), link=True)
    labelled = label_event(EVENT, log, {spec.identity: detector}, due)
    tracks = labelled.tables["tracks"].to_pylist()
    # The car in the lane to the left stays in view all the time.
    assert max(row["boxes"] for row in tracks) == 7
    assert {row["class"] for row in tracks} <= {"car", "truck", "bus"}
    assert labelled.tables["ego_path"].num_rows == 0
