"""Decodes an event's window once: what models see in it, and the clips of its cameras.

The cameras are processed one after the other, as streams: decode, detect, blur, encode. Memory
holds the frames between two pictures that blurring looks at, and the encoded clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label import blur, scene
from auto_label.event_rows import EventRows
from auto_label.models import Detections, Detector, look
from auto_label.specs import BLUR_FPS, Due
from schemas.arrays import FloatArray
from schemas.errors import (
    CorruptError,
    DataError,
    ModelError,
    UnreadableError,
    UnsupportedError,
)
from schemas.records import Event, Reject, VideoFile
from schemas.tables import TABLES
from schemas.times import NS_PER_S
from transforms.budget import UNLIMITED, require
from transforms.corpora.pack import read_sample
from transforms.corpora.webdataset import member_name
from transforms.timing import step, timed
from transforms.video.decode import Frame, decode_clip, decode_window
from transforms.video.encode import ClipWriter, clip_ticks

FROM_CLIP = " (clip)"
"""Follows a model's name in the source of what it saw on a clip, because the video is gone."""

_PRIVATE_SCORE = 0.15
"""The lowest score of a person's or vehicle's box for blurring; low, to miss few."""


@dataclass(slots=True)
class Detected:
    """One window, decoded.

    `detections` and `views` are rows of those tables. `clips` are MP4s by camera, if clips were
    due, and `sizes` their width and height in pixels. `cameras` are those that could be used,
    sorted, `decoded` is the number of their frames, `missing` that of frames which the decoder
    could not give. `rejects` has one entry for each camera whose video could not be used.
    """

    detections: list[pa.Table] = field(default_factory=list)
    views: list[pa.Table] = field(default_factory=list)
    clips: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    cameras: list[str] = field(default_factory=list)
    decoded: int = 0
    missing: int = 0
    rejects: list[Reject] = field(default_factory=list)


def detect_event(  # noqa: PLR0917 - all are inputs of equal rank
    event: Event,
    log: EventRows,
    detectors: Mapping[str, Detector],
    due: Due,
    blurrer: blur.Blurrer | None,
    memory_bytes: int = UNLIMITED,
) -> Detected:
    """Decodes the window of an event, camera by camera, and does what is due.

    Args:
        event: the event.
        log: the rows of its log.
        detectors: the models that `due` names, by identity.
        due: what is to be done.
        blurrer: finds what is blurred; needed if `due` asks for blurring.
        memory_bytes: what the pictures that blurring holds may take.

    Raises:
        ValueError: blurring is due, and there is no blurrer.
    """
    if due.blurs and blurrer is None:
        raise ValueError("blurring is due, and there is no blurrer")
    found = Detected()
    for camera, rows in _cameras(event, log):
        videos = log.videos[camera]
        uri = min(video.uri for video in videos)
        try:
            if due.blurs:
                _check_memory(event, videos, rows, memory_bytes)
            seen = _Camera(event, due, detectors, blurrer if due.blurs else None)
            try:
                seen.take(decode_window(videos, rows, event.span))
            except UnreadableError:
                clip = None if due.pixels is not None else _clip_of(event, log, camera, rows)
                if clip is None:
                    raise
                seen = _Camera(event, due, detectors, None, FROM_CLIP)
                seen.take(clip)
        except DataError as error:
            if isinstance(error, ModelError):  # of the picture, it knows the time alone
                error = ModelError(f"{uri}: {error}")
            found.rejects.append(Reject.of(error, uri=uri, stage="label", subject=event.event_id))
            continue
        found.cameras.append(camera)
        found.decoded += seen.decoded
        found.missing += _within(event, rows) - seen.decoded
        if due.pixels is not None:
            found.clips[camera], found.sizes[camera] = seen.close(), seen.size
        for identity in due.models:
            views, detections = seen.rows(camera, identity)
            found.views.append(views)
            found.detections.append(detections)
    return found


def _cameras(event: Event, log: EventRows) -> Iterator[tuple[str, pa.Table]]:
    """Yields each camera that has frames during an event, and all rows of its frames."""
    t_ns = pc.field("t_ns")
    window = log.frames.filter((t_ns >= event.start_ns) & (t_ns < event.end_ns))
    there = set(pc.unique(window["camera"]).to_pylist())
    for camera in sorted(there & log.videos.keys()):
        yield camera, log.frames.filter(pc.field("camera") == camera)


def _clip_of(event: Event, log: EventRows, camera: str, rows: pa.Table) -> Iterator[Frame] | None:
    """Decodes a camera's clip; returns None if there is none."""
    if log.clip is None:
        return None
    members = read_sample(log.clip.read())
    mp4 = members.get(f"{member_name(camera)}.mp4")
    if mp4 is None:
        return None
    t_ns = np.sort(rows["t_ns"].to_numpy())
    inside = t_ns[(t_ns >= event.start_ns) & (t_ns < event.end_ns)]
    return decode_clip(mp4, event.start_ns, inside)


def _within(event: Event, rows: pa.Table) -> int:
    t_ns = rows["t_ns"].to_numpy()
    return int(np.count_nonzero((t_ns >= event.start_ns) & (t_ns < event.end_ns)))


def _check_memory(
    event: Event, videos: Sequence[VideoFile], frames: pa.Table, memory_bytes: int
) -> None:
    """Checks that the pictures which blurring holds at a time are not too many.

    Raises:
        TooLargeError: they take more than `memory_bytes`.
    """
    t_ns = frames.column("t_ns").to_numpy()
    t_ns = t_ns[(t_ns >= event.start_ns) & (t_ns < event.end_ns)]
    intervals = (t_ns - event.start_ns) // int(NS_PER_S / BLUR_FPS)
    number = int(np.unique(intervals, return_counts=True)[1].max(initial=0))
    width, height = max(video.width for video in videos), max(video.height for video in videos)
    require(
        min(video.uri for video in videos),
        f"event {event.event_id}: {number:,} pictures of {width}x{height} in "
        f"{1 / BLUR_FPS:g} s, which blurring holds",
        number * width * height * 3,
        memory_bytes,
    )


class _Steps:
    """The first frame of each step of 1/fps since the start of an event."""

    def __init__(self, event: Event, fps: float) -> None:
        self._start_ns, self._step_ns = event.start_ns, NS_PER_S / fps
        self._last = -1

    def takes(self, t_ns: int) -> bool:
        number = int((t_ns - self._start_ns) // self._step_ns)
        if number <= self._last:
            return False
        self._last = number
        return True


class _Camera:
    """One camera of an event: its frames go through detectors, blurring and the encoder."""

    def __init__(
        self,
        event: Event,
        due: Due,
        detectors: Mapping[str, Detector],
        blurrer: blur.Blurrer | None,
        seen_on: str = "",
    ) -> None:
        self._event, self._due, self._detectors = event, due, detectors
        self._seen_on = seen_on
        self._blurring = blur.BlurStream(blurrer) if blurrer else None
        self._clip = None if due.pixels is None else _Clip(event, due.pixels.crf)
        self.size = (0, 0)
        self._t_ns: list[int] = []
        self._seen: dict[str, list[Detections]] = {model: [] for model in due.models}
        self.decoded = 0

    def take(self, frames: Iterable[Frame]) -> None:
        """Does with the frames what is due.

        Of frames with equal times (overlapping files, an index with equal times) the first is
        taken.

        Raises:
            DataError: there is none, the size of the pictures changes, or a model fails.
        """
        label, private = (
            _Steps(self._event, self._due.spec.label_fps),
            _Steps(self._event, BLUR_FPS),
        )
        last_tick = -1
        for frame in timed("decode", frames):
            self.decoded += 1
            tick = clip_ticks(frame.t_ns - self._event.start_ns)
            if tick <= last_tick:
                continue
            last_tick = tick
            self._check_size(frame)
            wanted = label.takes(frame.t_ns) and bool(self._seen)
            hides = self._blurring is not None and private.takes(frame.t_ns)
            looked = self._look(frame, wanted, hides)
            if wanted:
                self._t_ns.append(frame.t_ns)
                for model, seen in self._seen.items():
                    seen.append(looked[model])
            self._encode(frame, looked if hides else None)
        if not self.decoded:
            raise CorruptError(f"event {self._event.event_id}: no frame of its window decodes")

    def _check_size(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        if self.size == (0, 0):
            self.size = (width, height)
        elif self.size != (width, height):
            raise UnsupportedError(
                f"event {self._event.event_id}: at {frame.t_ns} ns the size of the picture changes "
                f"from {self.size[0]}x{self.size[1]} to {width}x{height}; split the log there"
            )

    def _look(self, frame: Frame, wanted: bool, hides: bool) -> dict[str, Detections]:
        """Runs the models that are due on a frame, each once."""
        models = dict.fromkeys(self._due.models if wanted else ())
        if hides and self._due.pixels is not None:
            models |= dict.fromkeys(self._due.pixels.models)
        if not models:
            return {}
        with step("detect"):
            return {
                model: look(self._detectors[model], frame.image, frame.t_ns) for model in models
            }

    def _encode(self, frame: Frame, looked: Mapping[str, Detections] | None) -> None:
        if self._clip is None:
            return
        if self._blurring is None:
            self._clip.write(frame)
            return
        if looked is None:
            ready = self._blurring.push(frame, None)
        else:
            assert self._due.pixels is not None
            seen = [looked[model] for model in self._due.pixels.models]
            persons, vehicles = _boxes_of(seen, scene.PERSONS), _boxes_of(seen, scene.VEHICLES)
            ready = self._blurring.push(frame, persons, vehicles, detected=bool(seen))
        for one in timed("blur", ready):
            self._clip.write(one)

    def close(self) -> bytes:
        """Returns the MP4 of a camera that has frames."""
        assert self._clip is not None
        if self._blurring is not None:
            for frame in timed("blur", self._blurring.close()):
                self._clip.write(frame)
        return self._clip.close()

    def rows(self, camera: str, identity: str) -> tuple[pa.Table, pa.Table]:
        """Returns the rows of `views` and `detections` of one model."""
        spec = self._detectors[identity].spec
        owner = {
            "event_id": self._event.event_id,
            "camera": camera,
            "source": f"{spec.name}{self._seen_on}",
            "source_version": spec.version,
            "spec_digest": self._due.spec.look(identity),
        }
        view = owner | {"width_px": self.size[0], "height_px": self.size[1], "t_ns": self._t_ns}
        views = pa.Table.from_pylist([view], schema=TABLES["views"].schema)
        return views, _detection_rows(owner, self._t_ns, self._seen[identity])


def _detection_rows(
    owner: Mapping[str, str], t_ns: Sequence[int], seen: Sequence[Detections]
) -> pa.Table:
    sizes = [len(one) for one in seen]
    xywh = np.concatenate([np.empty((0, 4)), *(one.xywh for one in seen)])
    names = [np.array(one.classes, dtype=object)[one.class_index] for one in seen if len(one)]
    columns: dict[str, Any] = {
        "t_ns": np.repeat(np.array(t_ns, dtype=np.int64), sizes),
        "number": np.concatenate([np.arange(n, dtype=np.int64) for n in (0, *sizes)]),
        "class": np.concatenate([np.empty(0, dtype=object), *names]),
        "score": np.concatenate([np.empty(0), *(one.score for one in seen)]),
        "x_px": xywh[:, 0],
        "y_px": xywh[:, 1],
        "w_px": xywh[:, 2],
        "h_px": xywh[:, 3],
    }
    rows = len(xywh)
    columns |= {
        name: pa.repeat(pa.scalar(value, pa.string()), rows) for name, value in owner.items()
    }
    schema = TABLES["detections"].schema
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


class _Clip:
    """The clip of one camera."""

    def __init__(self, event: Event, crf: int) -> None:
        self._start_ns, self._crf = event.start_ns, crf
        self._writer: ClipWriter | None = None

    def write(self, frame: Frame) -> None:
        """Encodes a frame; the first one sets the clip's size."""
        with step("encode"):
            if self._writer is None:
                height, width = frame.image.shape[:2]
                self._writer = ClipWriter(width, height, self._start_ns, crf=self._crf)
            self._writer.write(frame.t_ns, frame.image)

    def close(self) -> bytes:
        """Returns the MP4."""
        assert self._writer is not None
        with step("encode"):
            return self._writer.close()


def _boxes_of(looked: Sequence[Detections], names: frozenset[str]) -> FloatArray:
    """Concatenates all detectors' boxes of some classes, from `_PRIVATE_SCORE` on."""
    wanted = [seen.of(names) for seen in looked]
    return np.concatenate(
        [np.empty((0, 4)), *(seen.xywh[seen.score >= _PRIVATE_SCORE] for seen in wanted)]
    )
