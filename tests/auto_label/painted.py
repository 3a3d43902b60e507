"""A log of painted video, whose boxes are known, and a detector that finds them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pyarrow as pa

from auto_label.event_rows import EventRows
from auto_label.label import Labelled, label_event
from auto_label.models import Detections, ModelSpec
from auto_label.models.yolox import YoloxSpec
from auto_label.policies import PolicyDetector, PolicySpec
from auto_label.specs import Due, LabelSpec, PixelSpec
from schemas.arrays import Image
from schemas.records import Event, VideoFile
from schemas.tables import TABLES
from schemas.times import GRID_NS, NS_PER_S
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


def person(t_ns: int) -> tuple[int, int, int, int]:
    return 40 + 40 * t_ns // NS_PER_S, 60, 40, 120


def picture(t_ns: int) -> Image:
    """Grey stripes with a person: red below, a fine checkerboard for a head."""
    image = np.full((SIZE[1], SIZE[0], 3), 80, np.uint8)
    x, y, w, h = person(t_ns)
    image[y : y + h, x : x + w] = (0, 0, 220)
    head = image[y : y + 28, x : x + w]
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


def painted_log(
    folder: Path, cameras: Sequence[str] = ("front", "back"), *, files: int = 1
) -> EventRows:
    """Paints a log whose cameras record one file after the other."""
    folder.mkdir(exist_ok=True)
    videos: dict[str, list[VideoFile]] = {}
    tables = []
    for camera in cameras:
        for number, t_ns in enumerate(np.array_split(T_NS, files)):
            path = folder / (f"{camera}.mp4" if files == 1 else f"{camera}-{number}.mp4")
            writer = ClipWriter(*SIZE, int(t_ns[0]), crf=10)
            for at in t_ns.tolist():
                writer.write(at, picture(at))
            path.write_bytes(writer.close())
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
                        "t_ns": t_ns,
                        "pts": [p.pts for p in packets],
                        "is_keyframe": [bool(p.is_keyframe) for p in packets],
                        "byte_offset": [p.pos or 0 for p in packets],
                        "byte_size": [p.size for p in packets],
                    }
                )
            )
            assert base is not None
            rate = base.numerator, base.denominator
            span = int(t_ns[0]), 4 * NS_PER_S // files
            videos.setdefault(camera, []).append(VideoFile(camera, str(path), *span, *rate, *SIZE))
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


LOOKS = PolicyDetector(model="yolox_nano", score=0.15, needed=False)
POLICY = PolicySpec(
    name="painted", description="-", hide=("head",), cover="blur", grow=0.1, detectors=(LOOKS,)
)
"""Hides the heads of persons, if a detector is there."""


def whole_due(detectors: Sequence[Red], policy: PolicySpec | None = POLICY) -> Due:
    models = tuple(detector.spec.identity for detector in detectors)
    looks = tuple((LOOKS, model) for model in models[:1])
    return Due.whole(LabelSpec(models=models), PixelSpec(25, policy, looks if policy else ()))


def do(log: EventRows, detectors: Sequence[Red], due: Due, event: Event = EVENT) -> Labelled:
    known = {detector.spec.identity: detector for detector in detectors}
    return label_event(event, log, known, due)


def label(
    log: EventRows,
    detectors: Sequence[Red],
    event: Event = EVENT,
    policy: PolicySpec | None = POLICY,
) -> Labelled:
    return do(log, detectors, whole_due(detectors, policy), event)


def members(labelled: Labelled) -> dict[str, bytes]:
    """The files of all parts."""
    return {name: raw for part in labelled.parts for name, raw in part.members.items()}


def clips(labelled: Labelled) -> dict[str, bytes]:
    """The clips by camera."""
    files = members(labelled)
    return {name[:-4]: raw for name, raw in files.items() if name.endswith(".mp4")}


def decoded(mp4: bytes) -> list[tuple[float, Image]]:
    with av.open(io.BytesIO(mp4), "r") as container:
        frames = list(container.decode(video=0))
    return [(float(f.time), f.to_ndarray(format="bgr24").astype(np.uint8)) for f in frames]


def known(labelled: Labelled, log: EventRows) -> EventRows:
    return dataclasses.replace(log, known=labelled.tables)
