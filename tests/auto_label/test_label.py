"""Labelling one event, end to end, on painted video whose boxes are known."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest

from auto_label.blur import Blurrer
from auto_label.event_rows import Clip, EventRows
from auto_label.label import Labelled, label_event
from auto_label.models import Detections, ModelSpec, load_models, open_detector
from auto_label.models.yolox import YoloxSpec
from auto_label.specs import Due, LabelSpec, PixelSpec
from schemas.arrays import Image
from schemas.errors import EmptyError
from schemas.records import Event, VideoFile
from schemas.tables import TABLES
from schemas.times import GRID_NS, NS_PER_S
from transforms.corpora.pack import PackWriter
from transforms.video.encode import ClipWriter

SIZE = (320, 240)
T_NS = [k * NS_PER_S // 30 + (k % 3) * 2_000_000 for k in range(75)]
"""A variable rate of about 30 frames a second."""
EVENT = Event(
    event_id="0123456789abcdef0123",
    log_id="log",
    drive_id="drive",
    trigger="painted",
    trigger_version=1,
    params_digest="p",
    start_ns=NS_PER_S,
    anchor_ns=1_600_000_000,
    end_ns=2_400_000_000,
    score=1.0,
    evidence="{}",
)
LOG = {
    "log_id": "log",
    "drive_id": "drive",
    "vehicle_id": "car-1",
    "platform": "vehicle",
    "format": "painted",
    "name": "folder/of/a/lake",
    "uri": "/folder/of/a/lake",
    "fingerprint": "f",
    "start_ns": None,
    "start_local": None,
    "duration_ns": 4 * NS_PER_S,
    "clock": "none",
    "software": None,
    "joint_names": ["a", "b"],
}


def _person(t_ns: int) -> tuple[int, int, int, int]:
    return 40 + 40 * t_ns // NS_PER_S, 60, 40, 120


def _picture(t_ns: int) -> Image:
    """Grey stripes with a person: red below, a fine checkerboard for a head."""
    image = np.full((SIZE[1], SIZE[0], 3), 80, np.uint8)
    x, y, w, h = _person(t_ns)
    image[y : y + h, x : x + w] = (0, 0, 220)
    head = image[y : y + 40, x : x + w]
    head[(np.indices(head.shape[:2]) // 4).sum(axis=0) % 2 == 0] = (0, 0, 120)
    return image


class Red:
    """A detector of red: its boxes are known to the pixel."""

    def __init__(self, spec: ModelSpec) -> None:
        assert isinstance(spec, YoloxSpec)
        self.spec = spec

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Boxes what is red."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        red = (image[..., 2].astype(int) - image[..., 1]) > 60
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        if not len(rows):
            none = np.empty(0, dtype=np.int64)
            return Detections(np.empty((0, 4)), np.empty(0), none, self.spec.classes)
        box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
        return Detections(
            np.array([box], dtype=np.float64), np.array([0.9]), np.array([0]), self.spec.classes
        )


def _log(folder: Path, cameras: Sequence[str] = ("front", "back")) -> EventRows:
    folder.mkdir(exist_ok=True)
    writer = ClipWriter(*SIZE, 0, crf=10)
    for t_ns in T_NS:
        writer.write(t_ns, _picture(t_ns))
    mp4 = writer.close()
    videos, tables = {}, []
    for camera in cameras:
        path = folder / f"{camera}.mp4"
        path.write_bytes(mp4)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets = [p for p in container.demux(stream) if p.pts is not None]
            base = stream.time_base
        count = len(packets)
        tables.append(
            pa.table(
                {
                    "log_id": ["log"] * count,
                    "camera": [camera] * count,
                    "uri": [str(path)] * count,
                    "frame_index": range(count),
                    "t_ns": T_NS,
                    "pts": [p.pts for p in packets],
                    "is_keyframe": [bool(p.is_keyframe) for p in packets],
                    "byte_offset": [p.pos or 0 for p in packets],
                    "byte_size": [p.size for p in packets],
                }
            )
        )
        assert base is not None
        videos[camera] = [
            VideoFile(camera, str(path), 0, 4 * NS_PER_S, base.numerator, base.denominator, *SIZE)
        ]
    signals = pa.table(
        {
            "log_id": ["log"] * 200,
            "t_ns": np.arange(200) * GRID_NS,
            "speed_mps": np.full(200, 10.0),
            "yaw_rate_radps": np.zeros(200),
            "brake_on": pa.array([None, *[True] * 199]),
            "gear": pa.array([None, *["drive"] * 199]),
        }
    )
    frames = pa.concat_tables(tables) if tables else TABLES["frames"].empty()
    return EventRows(
        LOG,
        videos,
        TABLES["frames"].conform(frames),
        TABLES["signals"].conform(signals),
        TABLES["joints"].empty(),
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventRows:
    """Gives the log."""
    return _log(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def red() -> Red:
    """Gives the red."""
    return Red(load_models(["yolox_nano"])[0])


def _due(detectors: Sequence[Red], privacy: str = "blur") -> Due:
    models = tuple(detector.spec.identity for detector in detectors)
    return Due.whole(
        LabelSpec(models=models), PixelSpec(privacy, 25, models if privacy == "blur" else ())
    )


def _do(log: EventRows, detectors: Sequence[Red], due: Due, event: Event = EVENT) -> Labelled:
    known = {detector.spec.identity: detector for detector in detectors}
    return label_event(event, log, known, due, Blurrer() if due.blurs else None)


def _label(
    log: EventRows, detectors: Sequence[Red], event: Event = EVENT, privacy: str = "blur"
) -> Labelled:
    return _do(log, detectors, _due(detectors, privacy), event)


def _members(labelled: Labelled) -> dict[str, bytes]:
    """The files of all parts."""
    return {name: raw for part in labelled.parts for name, raw in part.members.items()}


def _clips(labelled: Labelled) -> dict[str, bytes]:
    """The clips by camera."""
    files = _members(labelled)
    return {name[:-4]: raw for name, raw in files.items() if name.endswith(".mp4")}


@pytest.fixture(scope="module")
def labelled(log: EventRows, red: Red) -> Labelled:
    """Gives the labelled."""
    return _label(log, [red])


def _decoded(mp4: bytes) -> list[tuple[float, Image]]:
    with av.open(io.BytesIO(mp4), "r") as container:
        frames = list(container.decode(video=0))
    return [(float(f.time), f.to_ndarray(format="bgr24").astype(np.uint8)) for f in frames]


def test_clips_hold_exactly_the_events_frames(labelled: Labelled) -> None:
    wanted = [(t - EVENT.start_ns) / NS_PER_S for t in T_NS if NS_PER_S <= t < EVENT.end_ns]
    assert labelled.cameras == ("back", "front")
    size = {"width_px": SIZE[0], "height_px": SIZE[1]}
    told = json.loads(_members(labelled)["pictures.json"])
    assert told["cameras"] == {"back": size, "front": size}
    assert (labelled.decoded, labelled.missing) == (2 * len(wanted), 0)
    for camera in labelled.cameras:
        times = [t for t, _ in _decoded(_clips(labelled)[camera])]
        np.testing.assert_allclose(times, wanted, atol=1.2e-5)
    assert not labelled.rejects


def test_boxes_lie_on_what_was_painted(labelled: Labelled, red: Red) -> None:
    boxes = labelled.tables["boxes"]
    assert boxes.schema == TABLES["boxes"].schema
    for camera in ("back", "front"):
        rows = [row for row in boxes.to_pylist() if row["camera"] == camera]
        steps = [(row["t_ns"] - EVENT.start_ns) * 5 // NS_PER_S for row in rows]
        assert steps == list(range(7))
        for row in rows:
            found = (row["x_px"], row["y_px"], row["w_px"], row["h_px"])
            np.testing.assert_allclose(found, _person(row["t_ns"]), atol=3)
            assert (row["track_id"], row["class"], row["source"]) == (1, "person", "yolox_nano")
            assert row["source_version"] == "695e750a5d57"
            assert row["spec_digest"] == _due([red]).spec.link_digest


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


def _head_detail(image: Image, t: float) -> float:
    x, y, w, _ = _person(EVENT.start_ns + round(t * NS_PER_S))
    return float(np.std(image[y + 4 : y + 36, x + 4 : x + w - 4, 2]))


def test_heads_are_blurred_on_every_frame_and_bodies_on_none(
    log: EventRows, red: Red, labelled: Labelled
) -> None:
    for t, image in _decoded(_clips(labelled)["front"]):
        assert _head_detail(image, t) < 15
        x, y, w, h = _person(EVENT.start_ns + round(t * NS_PER_S))
        assert image[y + 60 : y + h - 5, x + 5 : x + w - 5, 2].mean() > 200
    clear = _label(log, [red], privacy="none")
    assert all(_head_detail(image, t) > 35 for t, image in _decoded(_clips(clear)["front"]))
    assert clear.tables["boxes"].equals(labelled.tables["boxes"]), "they are of the video"


def test_the_same_event_gives_the_same_bytes(log: EventRows, red: Red, labelled: Labelled) -> None:
    again = _label(log, [red])
    assert again.parts == labelled.parts
    for name in labelled.tables:
        assert again.tables[name].equals(labelled.tables[name])


def test_without_detectors_there_are_clips_and_no_boxes(log: EventRows) -> None:
    bare = _label(log, [])
    assert bare.cameras == ("back", "front")
    assert bare.tables["boxes"].num_rows == bare.tables["tracks"].num_rows == 0
    assert bare.tables["ego_path"].num_rows > 0


def test_two_models_count_their_tracks_on(log: EventRows, red: Red) -> None:
    other = Red(red.spec.replace(name="other", sha256="1" * 64))
    both = _label(log, [red, other])
    front = [row for row in both.tables["tracks"].to_pylist() if row["camera"] == "front"]
    assert [(row["track_id"], row["source"]) for row in front] == [(1, "yolox_nano"), (2, "other")]


@pytest.mark.parametrize("raw", [b"", b"\0" * 5000, None], ids=["empty", "zeros", "gone"])
def test_a_camera_that_does_not_decode_is_a_reject_and_the_others_go_on(
    tmp_path: Path, red: Red, raw: bytes | None
) -> None:
    log = _log(tmp_path / "log")
    broken = tmp_path / "log" / "back.mp4"
    broken.unlink() if raw is None else broken.write_bytes(raw)
    labelled = _label(log, [red])
    assert labelled.cameras == ("front",)
    (reject,) = labelled.rejects
    assert (reject.stage, reject.subject, reject.uri) == ("label", EVENT.event_id, str(broken))
    assert set(labelled.tables["boxes"]["camera"].to_pylist()) == {"front"}


def test_a_window_outside_the_video_is_no_sample(log: EventRows, red: Red) -> None:
    late = dataclasses.replace(EVENT, start_ns=10**11, anchor_ns=10**11, end_ns=10**11 + 5)
    with pytest.raises(EmptyError, match="no camera has a frame from 100000000000 to"):
        _label(log, [red], late)


def test_an_event_of_sensors_alone_has_its_path(tmp_path: Path, red: Red) -> None:
    labelled = _label(_log(tmp_path / "log", cameras=()), [red])
    assert (_clips(labelled), labelled.cameras, labelled.rejects) == ({}, (), ())
    assert labelled.tables["ego_path"].num_rows == 14
    assert set(_members(labelled)) == {"pictures.json", "json", "signals.npz"}


def _known(labelled: Labelled, log: EventRows) -> EventRows:
    return dataclasses.replace(log, known=labelled.tables)


def test_only_what_is_due_is_done(log: EventRows, red: Red, labelled: Labelled) -> None:
    """A second model looks without encoding; what the first one saw is linked from its rows."""
    other = Red(red.spec.replace(name="other", sha256="1" * 64))
    first, both = _due([red]), _due([red, other])
    done = frozenset(first.digests)
    due = Due.without(done, both.spec, first.pixels or PixelSpec())
    assert due.models == (other.spec.identity,)
    again = _do(_known(labelled, log), [other], due)
    assert [part.part for part in again.parts] == ["labels"]
    at_once = _do(log, [red, other], both)
    for table in ("boxes", "tracks", "ego_path"):
        assert again.tables[table].equals(at_once.tables[table])
    assert set(again.tables["views"]["source"].to_pylist()) == {"other"}
    assert again.decoded > 0


def test_a_linker_that_changed_needs_no_pixels(
    log: EventRows, red: Red, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = _due([red])
    done = frozenset(due.digests)
    monkeypatch.setattr("auto_label.link.VERSION", 99)
    left = Due.without(done, due.spec, due.pixels or PixelSpec())
    assert (left.models, left.pixels, left.link, left.labels) == ((), None, True, True)
    blind = dataclasses.replace(_known(labelled, log), videos={}, frames=TABLES["frames"].empty())
    again = _do(blind, [], left)
    assert again.decoded == 0
    for table in ("boxes", "tracks"):
        columns = labelled.tables[table].drop_columns(["spec_digest"])
        assert again.tables[table].drop_columns(["spec_digest"]).equals(columns)
    assert [part.part for part in again.parts] == ["labels"]


def test_labels_are_written_anew_from_the_rows_of_their_own_link(
    log: EventRows, red: Red, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lake also has rows that another version of the linker made."""
    due = _due([red])
    other = {
        table: pa.concat_tables([rows, _of_another_version(rows)])
        for table, rows in labelled.tables.items()
    }
    done = frozenset(due.digests)
    monkeypatch.setattr("auto_label.specs.LABELS_VERSION", 99)
    left = Due.without(done, due.spec, due.pixels or PixelSpec())
    assert (left.detects, left.link, left.labels) == (False, False, True)
    again = _do(dataclasses.replace(log, known=other), [], left)
    assert (again.tables, again.decoded) == ({}, 0)
    assert _members(again)["json"] == _members(labelled)["json"]


def _of_another_version(rows: pa.Table) -> pa.Table:
    at = rows.column_names.index("spec_digest")
    column = pa.array(["another"] * rows.num_rows, pa.string())
    return rows.set_column(at, rows.schema.field("spec_digest"), column)


def test_a_new_model_that_one_camera_fails_keeps_the_others(tmp_path: Path, red: Red) -> None:
    log = _log(tmp_path / "log")
    whole = _label(log, [])
    assert whole.cameras == ("back", "front")
    (tmp_path / "log" / "back.mp4").write_bytes(bytes(5000))
    bare = _due([])
    left = Due.without(frozenset(bare.digests), _due([red]).spec, bare.pixels or PixelSpec())
    found = _do(log, [red], left)
    assert (found.cameras, len(found.rejects)) == (("front",), 1)


def test_another_quality_encodes_without_a_look_of_the_labels(
    log: EventRows, red: Red, labelled: Labelled
) -> None:
    due = _due([red])
    coarse = dataclasses.replace(due.pixels or PixelSpec(), crf=40)
    left = Due.without(frozenset(due.digests), due.spec, coarse)
    assert left.digests == (coarse.digest,)
    again = _do(_known(labelled, log), [red], left)
    assert again.tables == {}
    assert [part.part for part in again.parts] == ["clip"]
    assert len(_clips(again)["front"]) < len(_clips(labelled)["front"])


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
    found = _do(gone, [other], Due(spec, spec.models, link=True, labels=True))
    assert not found.rejects
    seen = found.tables["views"].to_pylist()
    assert {view["source"] for view in seen} == {"yolox_nano (clip)"}
    assert [view["t_ns"] for view in seen] == labelled.tables["views"]["t_ns"].to_pylist()
    boxes = found.tables["boxes"].to_pylist()
    assert {row["source"] for row in boxes} == {"yolox_nano (clip)"}
    for row in boxes:
        place_px = (row["x_px"], row["y_px"], row["w_px"], row["h_px"])
        np.testing.assert_allclose(place_px, _person(row["t_ns"]), atol=30)
    due = _due([other])
    assert {reject.reason for reject in _do(gone, [other], due).rejects} == {"unreadable"}


def test_blurring_that_nobody_can_do_is_refused(log: EventRows, red: Red) -> None:
    with pytest.raises(ValueError, match="there is no blurrer"):
        label_event(EVENT, log, {red.spec.identity: red}, _due([red]), None)


def test_digests_follow_everything_that_changes_the_labels_or_the_pixels(red: Red) -> None:
    other = red.spec.replace(sha256="0" * 64).identity
    specs = [
        LabelSpec(),
        LabelSpec(label_fps=4.0),
        LabelSpec(models=(red.spec.identity,)),
        LabelSpec(models=(other,)),
        LabelSpec(models=(red.spec.identity, other)),
    ]
    assert len({spec.digest for spec in specs}) == len(specs)
    assert len({spec.link_digest for spec in specs}) == len(specs)
    assert specs[2].look(other) == specs[3].look(other) != specs[2].look(red.spec.identity)
    pixels = [
        PixelSpec(),
        PixelSpec(privacy="none"),
        PixelSpec(crf=30),
        PixelSpec(models=(other,)),
    ]
    assert len({spec.digest for spec in pixels}) == len(pixels)


@pytest.mark.parametrize(
    "wrong", [{"label_fps": 0.1}, {"label_fps": float("nan")}, {"models": ("yolox_nano",)}]
)
def test_labels_that_cannot_be_made_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LabelSpec(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"privacy": "no"},
        {"crf": 99},
        {"models": ("yolox_nano",)},
        {"privacy": "none", "models": ("a@1",)},
    ],
)
def test_pixels_that_cannot_be_made_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PixelSpec(**wrong)


def _moved(log: EventRows, folder: Path) -> EventRows:
    """The same recording, byte for byte, in another folder."""
    shutil.copytree(Path(log.videos["front"][0].uri).parent, folder)
    videos = {
        camera: [dataclasses.replace(file, uri=str(folder / Path(file.uri).name)) for file in files]
        for camera, files in log.videos.items()
    }
    uris = [str(folder / Path(uri).name) for uri in log.frames["uri"].to_pylist()]
    at = log.frames.column_names.index("uri")
    frames = log.frames.set_column(at, log.frames.schema.field("uri"), pa.array(uris))
    return dataclasses.replace(log, videos=videos, frames=frames)


def test_a_sample_tells_everything_but_where_it_lay(
    tmp_path: Path, log: EventRows, red: Red
) -> None:
    joints = pa.table(
        {
            "log_id": ["log"] * 3,
            "t_ns": [0, EVENT.start_ns, EVENT.start_ns + 1],
            "position": [[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]],
            "action": pa.array([None, [5.0, 6.0], None], pa.list_(pa.float32())),
        }
    )
    log = dataclasses.replace(log, joints=TABLES["joints"].conform(joints))
    labelled = _label(log, [red])
    members = _members(labelled)
    assert set(members) == {"json", "pictures.json", "signals.npz", "front.mp4", "back.mp4"}
    told = json.loads(members["json"])
    assert told["event"]["trigger"] == "painted"
    assert told["log"]["vehicle_id"] == "car-1"
    assert len(told["boxes"]["x_px"]) == labelled.tables["boxes"].num_rows
    assert told["labelling"]["digest"] == _due([red]).spec.link_digest
    pictures = json.loads(members["pictures.json"])
    assert pictures["pixels"]["privacy"] == "blur"
    assert b"folder" not in members["json"] + members["pictures.json"]
    arrays = np.load(io.BytesIO(members["signals.npz"]))
    assert arrays["t_ns"].tolist() == list(range(EVENT.start_ns, EVENT.end_ns, GRID_NS))
    assert set(arrays["gear"]) == {"drive"}
    assert arrays["brake_on"].dtype == np.int8
    assert "lat_deg" not in arrays
    assert arrays["joint_position"].tolist() == [[1, 2], [3, 4]]
    assert np.isnan(arrays["joint_action"]).tolist() == [[False, False], [True, True]]
    assert "joint_velocity" not in arrays
    assert _members(_label(_moved(log, tmp_path / "another"), [red])) == members


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
    labelled = label_event(EVENT, log, {spec.identity: detector}, due, None)
    tracks = labelled.tables["tracks"].to_pylist()
    # The car in the lane to the left stays in view all the time.
    assert max(row["boxes"] for row in tracks) == 7
    assert {row["class"] for row in tracks} <= {"car", "truck", "bus"}
    assert labelled.tables["ego_path"].num_rows == 0
