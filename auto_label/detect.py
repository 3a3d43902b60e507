"""Decodes an event's window: what models see in it, and the clips of its cameras.

The cameras are processed one after the other, as streams; memory holds a few frames and the
encoded clips. First a window is decoded for what looks at its pictures, some a second, and only
these are converted; then, if clips are due, once more to be covered and encoded, since what
is covered on a frame follows from what is seen before and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label.event_rows import EventRows
from auto_label.models import Detections, Detector, look
from auto_label.privacy import Privacy
from auto_label.specs import Due, PixelSpec
from auto_label.steps import Steps
from schemas.arrays import IntArray
from schemas.errors import (
    CorruptError,
    DataError,
    ModelError,
    PrivacyError,
    UnreadableError,
    UnsupportedError,
)
from schemas.records import Event, Reject
from schemas.tables import TABLES
from transforms.corpora.pack import read_sample
from transforms.corpora.webdataset import member_name
from transforms.timing import step, timed
from transforms.video.decode import Frame, decode_clip, decode_window
from transforms.video.encode import ClipWriter, clip_ticks

FROM_CLIP = " (clip)"
"""Follows a model's name in the source of what it saw on a clip, because the video is gone."""


@dataclass(slots=True)
class Detected:
    """One window, decoded.

    `detections`, `views` and `privacy` are rows of those tables. `clips` are MP4s by camera, if
    clips were due, and `sizes` their width and height in pixels. `cameras` are those that could be
    used, sorted, `decoded` is the number of their frames, `missing` that of frames which the
    decoder could not give. `rejects` has one entry for each camera whose video could not be used.
    """

    detections: list[pa.Table] = field(default_factory=list)
    views: list[pa.Table] = field(default_factory=list)
    privacy: list[pa.Table] = field(default_factory=list)
    clips: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    cameras: list[str] = field(default_factory=list)
    decoded: int = 0
    missing: int = 0
    rejects: list[Reject] = field(default_factory=list)


def detect_event(
    event: Event, log: EventRows, detectors: Mapping[str, Detector], due: Due
) -> Detected:
    """Decodes the window of an event, camera by camera, and does what is due.

    Args:
        event: the event.
        log: the rows of its log.
        detectors: the models that `due` names, by identity.
        due: what is to be done.

    Raises:
        PrivacyError: what has to be hidden cannot be found.
    """
    found, platform = Detected(), log.row["platform"]
    for camera, rows in _cameras(event, log):
        times = _inside(event, rows)
        seen = _Camera(event, due, detectors, int(times[-1]), platform)
        uri = min(video.uri for video in log.videos[camera])
        try:
            try:
                seen.take(partial(decode_window, log.videos[camera], rows, event.span))
            except UnreadableError:
                clip = None if due.pixels is not None else _clip_of(event, log, camera, times)
                if clip is None:
                    raise
                seen = _Camera(event, due, detectors, int(times[-1]), platform, FROM_CLIP)
                seen.take(clip)
        except PrivacyError as error:
            raise PrivacyError(f"{uri}: {error}") from error
        except DataError as error:
            if isinstance(error, ModelError):  # of the picture, it knows the time alone
                error = ModelError(f"{uri}: {error}")
            found.rejects.append(Reject.of(error, uri=uri, stage="label", subject=event.event_id))
            continue
        found.cameras.append(camera)
        found.decoded += seen.decoded
        found.missing += len(times) - seen.decoded
        if seen.clip is not None:
            found.clips[camera], found.sizes[camera] = seen.clip, seen.size
            found.privacy.append(seen.audit(camera))
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


def _inside(event: Event, rows: pa.Table) -> IntArray:
    """Returns the times of the frames of an event, sorted."""
    t_ns = np.sort(rows["t_ns"].to_numpy())
    return np.asarray(t_ns[(t_ns >= event.start_ns) & (t_ns < event.end_ns)])


Frames = Callable[..., Iterator[Frame]]
"""Decodes the frames of a window, those that its argument `take` takes."""


def _clip_of(event: Event, log: EventRows, camera: str, t_ns: IntArray) -> Frames | None:
    """Returns what decodes a camera's clip; None if there is none."""
    if log.clip is None:
        return None
    mp4 = read_sample(log.clip.read()).get(f"{member_name(camera)}.mp4")
    if mp4 is None:
        return None
    return partial(decode_clip, mp4, event.start_ns, t_ns)


class _Camera:
    """One camera of an event: detectors look at some of its frames, then all are encoded."""

    def __init__(  # noqa: PLR0917 - all are inputs of equal rank
        self,
        event: Event,
        due: Due,
        detectors: Mapping[str, Detector],
        last_ns: int,
        platform: str,
        seen_on: str = "",
    ) -> None:
        self._event, self._due, self._detectors = event, due, detectors
        self._seen_on = seen_on
        self._privacy = Privacy(event, due.pixels or PixelSpec(), detectors, last_ns, platform)
        self._t_ns: list[int] = []
        self._seen: dict[str, list[Detections]] = {model: [] for model in due.models}
        self.size = (0, 0)
        self.decoded = 0
        self.clip: bytes | None = None

    def take(self, frames: Frames) -> None:
        """Does with the frames of the window what is due, in one pass or two.

        What is covered follows from what is seen before and after, so the window is decoded
        once for looking, and once more for the clip.

        Raises:
            DataError: there is no frame, the size of the pictures changes, or a model fails.
        """
        if self._seen or self._privacy.looks:
            self._look(frames)
        if self._due.pixels is not None:
            self._encode(frames)

    def _look(self, frames: Frames) -> None:
        """Runs what looks at the pictures, on the first one of each of its steps."""
        steps = Steps(self._event.start_ns, self._due.spec.label_fps)
        labelled: dict[int, bool] = {}
        decoded = 0

        def take(t_ns: int) -> bool:
            nonlocal decoded
            decoded += 1
            labels = bool(self._seen) and steps.takes(t_ns)
            if not (self._privacy.wants(t_ns) or labels) or t_ns in labelled:
                return False
            labelled[t_ns] = labels
            return True

        for frame in timed("decode", frames(take=take)):
            self._check_size(frame)
            looked = self._privacy.look(frame.image, frame.t_ns)
            if labelled[frame.t_ns]:
                self._label(frame, looked)
        self.decoded = decoded

    def _label(self, frame: Frame, looked: Mapping[str, Detections]) -> None:
        """Runs the models that are due on a frame; `looked` is what some saw already."""
        self._t_ns.append(frame.t_ns)
        for model, seen in self._seen.items():
            if model in looked:
                seen.append(looked[model])
                continue
            with step("detect"):
                seen.append(look(self._detectors[model], frame.image, frame.t_ns))

    def _check_size(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        if self.size == (0, 0):
            self.size = (width, height)
        elif self.size != (width, height):
            raise UnsupportedError(
                f"event {self._event.event_id}: at {frame.t_ns} ns the size of the picture changes "
                f"from {self.size[0]}x{self.size[1]} to {width}x{height}; split the log there"
            )

    def _encode(self, frames: Frames) -> None:
        """Covers and encodes all frames.

        Of frames with equal times (overlapping files, an index with equal times) the first is
        taken.
        """
        assert self._due.pixels is not None
        writer: ClipWriter | None = None
        last_tick = -1
        self.decoded = 0
        for frame in timed("decode", frames()):
            self.decoded += 1
            tick = clip_ticks(frame.t_ns - self._event.start_ns)
            if tick <= last_tick:
                continue
            last_tick = tick
            self._check_size(frame)
            self._privacy.cover(frame.image, frame.t_ns)
            with step("encode"):
                if writer is None:
                    start_ns, crf = self._event.start_ns, self._due.pixels.crf
                    writer = ClipWriter(*self.size, start_ns, crf=crf)
                writer.write(frame.t_ns, frame.image)
        if writer is None:
            raise CorruptError(f"event {self._event.event_id}: no frame of its window decodes")
        with step("encode"):
            self.clip = writer.close()

    def audit(self, camera: str) -> pa.Table:
        """Returns the row of `privacy`."""
        assert self._due.pixels is not None
        owner = {
            "event_id": self._event.event_id,
            "camera": camera,
            "spec_digest": self._due.pixels.digest,
        }
        row = owner | self._privacy.audit()
        return pa.Table.from_pylist([row], schema=TABLES["privacy"].schema)

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
