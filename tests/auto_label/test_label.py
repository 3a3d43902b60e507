"""Labelling one event, end to end, on painted video whose boxes are known."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest

from auto_label.label import Labelled, LabelSpec, label_event, sample_members
from auto_label.models import Detections, ModelSpec, load_models, open_detector
from auto_label.models.yolox import YoloxSpec
from schemas.arrays import Image
from schemas.records import Event, VideoFile
from schemas.tables import TABLES
from schemas.times import GRID_NS, NS_PER_S
from transforms.corpora import CORPORA
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


@dataclass(frozen=True)
class _Log:
    videos: dict[str, list[VideoFile]]
    frames: pa.Table
    signals: pa.Table


def _log(folder: Path, cameras: Sequence[str] = ("front", "back")) -> _Log:
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
    return _Log(videos, TABLES["frames"].conform(frames), TABLES["signals"].conform(signals))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> _Log:
    """Gives the log."""
    return _log(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def red() -> Red:
    """Gives the red."""
    return Red(load_models(["yolox_nano"])[0])


def _label(log: _Log, detectors: Sequence[Red], event: Event = EVENT, **spec: Any) -> Labelled:
    whole = LabelSpec(models=tuple(d.spec.identity for d in detectors), **spec)
    return label_event(event, log.videos, log.frames, log.signals, detectors, whole)


@pytest.fixture(scope="module")
def labelled(log: _Log, red: Red) -> Labelled:
    """Gives the labelled."""
    return _label(log, [red])


def _decoded(mp4: bytes) -> list[tuple[float, Image]]:
    with av.open(io.BytesIO(mp4), "r") as container:
        frames = list(container.decode(video=0))
    return [(float(f.time), f.to_ndarray(format="bgr24").astype(np.uint8)) for f in frames]


def test_clips_hold_exactly_the_events_frames(labelled: Labelled) -> None:
    wanted = [(t - EVENT.start_ns) / NS_PER_S for t in T_NS if NS_PER_S <= t < EVENT.end_ns]
    assert labelled.cameras == ("back", "front")
    assert labelled.sizes["front"] == SIZE
    for camera in labelled.cameras:
        times = [t for t, _ in _decoded(labelled.clips[camera])]
        np.testing.assert_allclose(times, wanted, atol=1.2e-5)
    assert not labelled.rejects


def test_boxes_lie_on_what_was_painted(labelled: Labelled) -> None:
    boxes = labelled.boxes
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
            assert row["spec_digest"] == labelled.spec.digest


def test_a_track_sums_its_boxes_up(labelled: Labelled) -> None:
    assert labelled.tracks.schema == TABLES["tracks"].schema
    for row in labelled.tracks.to_pylist():
        t_ns = [b["t_ns"] for b in labelled.boxes.to_pylist() if b["camera"] == row["camera"]]
        assert (row["start_ns"], row["end_ns"], row["boxes"]) == (min(t_ns), max(t_ns), len(t_ns))
        assert row["score"] == pytest.approx(0.9)
    assert labelled.tracks.num_rows == 2


def test_the_ego_path_goes_straight_on(labelled: Labelled) -> None:
    path = labelled.ego_path
    assert path.schema == TABLES["ego_path"].schema
    t = (path["t_ns"].to_numpy() - EVENT.anchor_ns) / NS_PER_S
    np.testing.assert_allclose(path["x_m"].to_numpy(), 10 * t, atol=0.05)
    assert set(path["source"].to_pylist()) == {"signals"}


def _head_detail(image: Image, t: float) -> float:
    x, y, w, _ = _person(EVENT.start_ns + round(t * NS_PER_S))
    return float(np.std(image[y + 4 : y + 36, x + 4 : x + w - 4, 2]))


def test_heads_are_blurred_on_every_frame_and_bodies_on_none(
    log: _Log, red: Red, labelled: Labelled
) -> None:
    for t, image in _decoded(labelled.clips["front"]):
        assert _head_detail(image, t) < 15
        x, y, w, h = _person(EVENT.start_ns + round(t * NS_PER_S))
        assert image[y + 60 : y + h - 5, x + 5 : x + w - 5, 2].mean() > 200
    clear = _label(log, [red], privacy="none")
    assert all(_head_detail(image, t) > 35 for t, image in _decoded(clear.clips["front"]))
    assert clear.spec.digest != labelled.spec.digest


def test_the_same_event_gives_the_same_bytes(log: _Log, red: Red, labelled: Labelled) -> None:
    again = _label(log, [red])
    assert again.clips == labelled.clips
    for name in ("boxes", "tracks", "ego_path"):
        assert getattr(again, name).equals(getattr(labelled, name))


def test_without_detectors_there_are_clips_and_no_boxes(log: _Log) -> None:
    bare = _label(log, [])
    assert bare.cameras == ("back", "front")
    assert bare.boxes.num_rows == bare.tracks.num_rows == 0
    assert bare.ego_path.num_rows > 0


def test_two_models_count_their_tracks_on(log: _Log, red: Red) -> None:
    other = Red(red.spec.replace(name="other", sha256="1" * 64))
    both = _label(log, [red, other])
    front = [row for row in both.tracks.to_pylist() if row["camera"] == "front"]
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
    assert set(labelled.boxes["camera"].to_pylist()) == {"front"}


def test_a_window_outside_the_video_has_no_clip(log: _Log, red: Red) -> None:
    late = dataclasses.replace(EVENT, start_ns=10**11, anchor_ns=10**11, end_ns=10**11 + 5)
    labelled = _label(log, [red], late)
    assert labelled.cameras == ()
    assert labelled.ego_path.num_rows == 0
    assert not labelled.rejects


def test_an_event_of_sensors_alone_has_its_path(tmp_path: Path, red: Red) -> None:
    log = _log(tmp_path / "log", cameras=())
    labelled = _label(log, [red])
    assert (labelled.clips, labelled.cameras, labelled.rejects) == ({}, (), ())
    assert labelled.ego_path.num_rows == 14
    sample = sample_members(EVENT, LOG, labelled, log.signals, TABLES["joints"].empty())
    assert set(CORPORA.load("webdataset")().members(sample)) == {"json", "signals.npz"}


def test_detectors_that_the_spec_does_not_name_are_refused(log: _Log, red: Red) -> None:
    with pytest.raises(ValueError, match="spec names the models"):
        label_event(EVENT, log.videos, log.frames, log.signals, [red], LabelSpec())


def test_the_digest_follows_everything_that_changes_the_labels(red: Red) -> None:
    specs = [
        LabelSpec(),
        LabelSpec(label_fps=4.0),
        LabelSpec(privacy="none"),
        LabelSpec(crf=30),
        LabelSpec(models=(red.spec.identity,)),
        LabelSpec(models=(red.spec.replace(sha256="0" * 64).identity,)),
    ]
    assert len({spec.digest for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"label_fps": 0.1},
        {"label_fps": float("nan")},
        {"privacy": "no"},
        {"crf": 99},
        {"models": ("yolox_nano",)},
    ],
)
def test_a_spec_that_cannot_be_met_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LabelSpec(**wrong)


def _moved(log: _Log, folder: Path) -> _Log:
    """The same recording, byte for byte, in another folder."""
    shutil.copytree(Path(log.videos["front"][0].uri).parent, folder)
    videos = {
        camera: [dataclasses.replace(file, uri=str(folder / Path(file.uri).name)) for file in files]
        for camera, files in log.videos.items()
    }
    uris = [str(folder / Path(uri).name) for uri in log.frames["uri"].to_pylist()]
    at = log.frames.column_names.index("uri")
    frames = log.frames.set_column(at, log.frames.schema.field("uri"), pa.array(uris))
    return _Log(videos, frames, log.signals)


def test_a_sample_tells_everything_but_where_it_lay(
    tmp_path: Path, log: _Log, red: Red, labelled: Labelled
) -> None:
    joints = pa.table(
        {
            "log_id": ["log"] * 3,
            "t_ns": [0, EVENT.start_ns, EVENT.start_ns + 1],
            "position": [[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]],
            "action": pa.array([None, [5.0, 6.0], None], pa.list_(pa.float32())),
        }
    )
    sample = sample_members(EVENT, LOG, labelled, log.signals, TABLES["joints"].conform(joints))
    members = CORPORA.load("webdataset")().members(sample)
    assert set(members) == {"json", "signals.npz", "front.mp4", "back.mp4"}
    told = json.loads(members["json"])
    assert told["event"]["trigger"] == "painted"
    assert told["log"]["vehicle_id"] == "car-1"
    assert told["cameras"]["front"] == {"width_px": 320, "height_px": 240}
    assert len(told["boxes"]["x_px"]) == labelled.boxes.num_rows
    assert told["labelling"]["digest"] == labelled.spec.digest
    assert b"folder" not in members["json"]
    arrays = np.load(io.BytesIO(members["signals.npz"]))
    assert arrays["t_ns"].tolist() == list(range(EVENT.start_ns, EVENT.end_ns, GRID_NS))
    assert set(arrays["gear"]) == {"drive"}
    assert arrays["brake_on"].dtype == np.int8
    assert "lat_deg" not in arrays
    assert arrays["joint_position"].tolist() == [[1, 2], [3, 4]]
    assert np.isnan(arrays["joint_action"]).tolist() == [[False, False], [True, True]]
    assert "joint_velocity" not in arrays
    elsewhere = _moved(log, tmp_path / "another")
    moved = sample_members(
        EVENT, LOG, _label(elsewhere, [red]), elsewhere.signals, TABLES["joints"].conform(joints)
    )
    assert CORPORA.load("webdataset")().members(moved) == members


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
    labelled = label_event(
        EVENT,
        {"front": [video]},
        TABLES["frames"].conform(frames),
        TABLES["signals"].empty(),
        [detector],
        LabelSpec(models=(spec.identity,)),
    )
    tracks = labelled.tracks.to_pylist()
    # The car in the lane to the left stays in view all the time.
    assert max(row["boxes"] for row in tracks) == 7
    assert {row["class"] for row in tracks} <= {"car", "truck", "bus"}
    assert labelled.ego_path.num_rows == 0
