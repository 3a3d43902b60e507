"""Decoding an event's window once: clips, what models see, and videos that cannot be used."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from auto_label.event_rows import Clip, EventRows
from auto_label.label import Labelled
from auto_label.models import Detections
from auto_label.specs import Due, LabelSpec, PixelSpec
from schemas.arrays import Image
from schemas.errors import EmptyError, PrivacyError
from schemas.times import NS_PER_S
from tests.auto_label.painted import (
    EVENT,
    LOOKS,
    POLICY,
    SIZE,
    T_NS,
    Red,
    clips,
    decoded,
    do,
    label,
    members,
    painted_log,
    person,
    whole_due,
)
from transforms.corpora.pack import PackWriter


def test_clips_hold_exactly_the_events_frames(labelled: Labelled) -> None:
    wanted = [(t - EVENT.start_ns) / NS_PER_S for t in T_NS if NS_PER_S <= t < EVENT.end_ns]
    assert labelled.cameras == ("back", "front")
    size = {"width_px": SIZE[0], "height_px": SIZE[1]}
    told = json.loads(members(labelled)["pictures.json"])
    assert told["cameras"] == {"back": size, "front": size}
    assert (labelled.decoded, labelled.missing) == (2 * len(wanted), 0)
    for camera in labelled.cameras:
        times = [t for t, _ in decoded(clips(labelled)[camera])]
        np.testing.assert_allclose(times, wanted, atol=1.2e-5)
    assert not labelled.rejects


def head_detail(image: Image, t: float) -> float:
    x, y, w, _ = person(EVENT.start_ns + round(t * NS_PER_S))
    return float(np.std(image[y + 4 : y + 26, x + 4 : x + w - 4, 2]))


def test_heads_are_blurred_on_every_frame_and_bodies_on_none(
    log: EventRows, red: Red, labelled: Labelled
) -> None:
    for t, image in decoded(clips(labelled)["front"]):
        assert head_detail(image, t) < 15
        x, y, w, h = person(EVENT.start_ns + round(t * NS_PER_S))
        assert image[y + 60 : y + h - 5, x + 5 : x + w - 5, 2].mean() > 200
    clear = label(log, [red], policy=None)
    assert all(head_detail(image, t) > 35 for t, image in decoded(clips(clear)["front"]))
    assert clear.tables["boxes"].equals(labelled.tables["boxes"]), "they are of the video"


def test_a_window_over_several_files_is_looked_at_like_one_over_one(
    tmp_path: Path, log: EventRows, red: Red
) -> None:
    """A file that begins within the window is opened before the one before is at its end."""
    looks = LOOKS.model_copy(update={"fps": 15.0})
    model = red.spec.identity
    policy = POLICY.replace(detectors=(looks.model_dump(),))
    due = Due.whole(LabelSpec(15.0, (model,)), PixelSpec(25, policy, ((looks, model),)))
    whole, found = do(log, [red], due), do(painted_log(tmp_path / "log", files=3), [red], due)
    seen, wanted = (one.tables["views"]["t_ns"].to_pylist() for one in (found, whole))
    assert [len(times) for times in seen] == [len(times) for times in wanted] == [21, 21]
    assert np.abs(np.subtract(seen, wanted)).max() < NS_PER_S / 15
    for row in found.tables["privacy"].to_pylist():
        assert (row["looks"], row["heads"], row["held"]) == (22, 22, 0)
    for t, image in decoded(clips(found)["front"]):
        assert head_detail(image, t) < 15


@pytest.mark.parametrize("raw", [b"", b"\0" * 5000, None], ids=["empty", "zeros", "gone"])
def test_a_camera_that_does_not_decode_is_a_reject_and_the_others_go_on(
    tmp_path: Path, red: Red, raw: bytes | None
) -> None:
    log = painted_log(tmp_path / "log")
    broken = tmp_path / "log" / "back.mp4"
    broken.unlink() if raw is None else broken.write_bytes(raw)
    labelled = label(log, [red])
    assert labelled.cameras == ("front",)
    (reject,) = labelled.rejects
    assert (reject.stage, reject.subject, reject.uri) == ("label", EVENT.event_id, str(broken))
    assert set(labelled.tables["boxes"]["camera"].to_pylist()) == {"front"}


def test_a_window_outside_the_video_is_no_sample(log: EventRows, red: Red) -> None:
    late = dataclasses.replace(EVENT, start_ns=10**11, anchor_ns=10**11, end_ns=10**11 + 5)
    with pytest.raises(EmptyError, match="no camera has a frame from 100000000000 to"):
        label(log, [red], late)


def test_a_new_model_that_one_camera_fails_keeps_the_others(tmp_path: Path, red: Red) -> None:
    log = painted_log(tmp_path / "log")
    whole = label(log, [])
    assert whole.cameras == ("back", "front")
    (tmp_path / "log" / "back.mp4").write_bytes(bytes(5000))
    bare = whole_due([])
    left = Due.without(frozenset(bare.digests), whole_due([red]).spec, bare.pixels or PixelSpec())
    found = do(log, [red], left)
    assert (found.cameras, len(found.rejects)) == (("front",), 1)


def test_a_clip_is_looked_at_where_the_video_is_gone(
    tmp_path: Path, log: EventRows, red: Red, labelled: Labelled
) -> None:
    """Its labels say so; a clip that is due cannot be made."""
    pack = tmp_path / "pack.tar"
    with pack.open("wb") as out:
        (part,) = (part for part in labelled.parts if part.part == "clip")
        place = PackWriter(out).add(EVENT.event_id, part.members)
    videos = {
        camera: [dataclasses.replace(file, uri=str(tmp_path / f"{camera}.mp4")) for file in files]
        for camera, files in log.videos.items()
    }
    uris = [str(tmp_path / Path(uri).name) for uri in log.frames["uri"].to_pylist()]
    at = log.frames.column_names.index("uri")
    frames = log.frames.set_column(at, log.frames.schema.field("uri"), pa.array(uris))
    gone = dataclasses.replace(
        log, videos=videos, frames=frames, clip=Clip(str(pack), place.offset, place.length)
    )
    other = Red(red.spec.replace(sha256="1" * 64))
    spec = LabelSpec(models=(other.spec.identity,))
    found = do(gone, [other], Due(spec, spec.models, link=True, labels=True))
    assert not found.rejects
    seen = found.tables["views"].to_pylist()
    assert {view["source"] for view in seen} == {"yolox_nano (clip)"}
    assert [view["t_ns"] for view in seen] == labelled.tables["views"]["t_ns"].to_pylist()
    boxes = found.tables["boxes"].to_pylist()
    assert {row["source"] for row in boxes} == {"yolox_nano (clip)"}
    for row in boxes:
        place_px = (row["x_px"], row["y_px"], row["w_px"], row["h_px"])
        np.testing.assert_allclose(place_px, person(row["t_ns"]), atol=30)
    due = whole_due([other])
    assert {reject.reason for reject in do(gone, [other], due).rejects} == {"unreadable"}


class Failing(Red):
    """A detector that fails on its tenth picture."""

    looks = 0

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Counts pictures."""
        self.looks += len(images)
        if self.looks >= 10:
            raise RuntimeError("no memory on the card")
        return super().detect(images)


@pytest.mark.parametrize("labels", [False, True])
def test_a_detector_that_privacy_needs_and_that_fails_ends_the_event(
    log: EventRows, red: Red, labels: bool
) -> None:
    """Whether it labels too or not, no camera is written, the first one neither."""
    whole = whole_due([red])
    due = whole if labels else Due(whole.spec, pixels=whole.pixels)
    with pytest.raises(PrivacyError, match=r"privacy painted: model yolox_nano fails on .* card"):
        do(log, [Failing(red.spec)], due)


def test_what_is_hidden_is_told(log: EventRows, red: Red, labelled: Labelled) -> None:
    """By camera: its head on each look, for it is seen on all."""
    rows = labelled.tables["privacy"].to_pylist()
    assert [row["camera"] for row in rows] == ["back", "front"]
    for row in rows:
        assert row["policy"] == POLICY.identity
        assert (row["models"], row["missing"]) == ([red.spec.identity], [])
        assert (row["faces"], row["plates"], row["held"]) == (0, 0, 0)
        assert row["heads"] == row["looks"] == 8
        assert row["frames"] == labelled.decoded / 2
        head = 1.2 * 1.2 * 40 * 0.25 * 120 / (SIZE[0] * SIZE[1])
        assert head < row["area_mean_frac"] <= row["area_max_frac"] < 2 * head
    bare = label(log, []).tables["privacy"].to_pylist()
    assert all(row["missing"] == ["yolox_nano"] and not row["models"] for row in bare)
    clear = label(log, [red], policy=None).tables["privacy"].to_pylist()
    assert all((row["policy"], row["area_max_frac"]) == ("none", 0) for row in clear)
