"""Labels one event: boxes, tracks, the ego path and blurred clips.

The cameras are processed one after the other, as streams: decode, detect, blur, encode. Memory
holds the frames of one label interval and the encoded clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label import blur, ego, link, scene
from auto_label.models import Detections, Detector, look
from schemas.arrays import AnyArray, FloatArray, IntArray
from schemas.errors import CorruptError, DataError, ModelError, UnsupportedError
from schemas.ids import digest
from schemas.records import Event, Reject, VideoFile
from schemas.signals import SIGNALS
from schemas.tables import TABLES
from schemas.times import NS_PER_S
from transforms.budget import UNLIMITED, require
from transforms.corpora import Sample
from transforms.timing import step, timed
from transforms.video.decode import Frame, decode_window
from transforms.video.encode import ClipWriter, clip_ticks

VERSION = 2
"""Version; raised when the same event is labelled differently, other than by a used module."""

EGO_SOURCE = "signals"
_PRIVATE_SCORE = 0.15
"""The lowest score of a person's or vehicle's box for blurring; low, to miss few."""
_MAX_LABEL_FPS = 120.0
_LOG_FIELDS = (
    "log_id",
    "drive_id",
    "vehicle_id",
    "platform",
    "format",
    "clock",
    "start_ns",
    "start_local",
    "software",
    "joint_names",
)
"""The fields of a log that its samples hold: no location of the log or of the lake."""


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """The configuration of labelling.

    Args:
        label_fps: frames per second for detectors and blurring, from 1 to 120.
        privacy: "blur" or "none".
        crf: x264's constant rate factor of the clips, 0 to 51.
        models: the identities (`ModelSpec.identity`) of the detectors, in order.
    """

    label_fps: float = 5.0
    privacy: str = "blur"
    crf: int = 25
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the values."""
        # Frames are held until the next label frame: below 1 per second they are too many.
        if not 1.0 <= self.label_fps <= _MAX_LABEL_FPS:
            raise ValueError(f"label_fps is {self.label_fps}, must be in 1..{_MAX_LABEL_FPS:g}")
        if self.privacy not in {"blur", "none"}:
            raise ValueError(f"privacy is {self.privacy!r}; choose one of: blur, none")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf is {self.crf}, must be in 0..51")
        for model in self.models:
            if "@" not in model:
                raise ValueError(f"models names {model!r}; give ModelSpec.identity, not a name")

    @property
    def digest(self) -> str:
        """A digest of everything that affects the content of a sample."""
        versions = [VERSION, blur.VERSION, ego.VERSION, link.VERSION]
        return digest("label", versions, asdict(self))


@dataclass(frozen=True, slots=True)
class Labelled:
    """One event with its labels.

    `boxes`, `tracks` and `ego_path` are rows of those tables. `clips` are MP4s by camera,
    `sizes` their width and height in pixels, `cameras` the sorted names of these cameras.
    `rejects` has one entry for each camera whose video could not be used.
    """

    boxes: pa.Table
    tracks: pa.Table
    ego_path: pa.Table
    clips: dict[str, bytes]
    sizes: dict[str, tuple[int, int]]
    cameras: tuple[str, ...]
    rejects: tuple[Reject, ...]
    spec: LabelSpec


def label_event(  # noqa: PLR0917 - all are inputs of equal rank
    event: Event,
    videos: Mapping[str, Sequence[VideoFile]],
    frames: pa.Table,
    signals: pa.Table,
    detectors: Sequence[Detector],
    spec: LabelSpec,
    memory_bytes: int = UNLIMITED,
) -> Labelled:
    """Labels one event.

    Args:
        event: the event.
        videos: the video files of its log, by camera.
        frames: rows of `frames` of its log, of all cameras.
        signals: rows of `signals` of its log; those outside the event are ignored.
        detectors: the models; without any there are no boxes.
        spec: the configuration.
        memory_bytes: what the pictures between two labelled ones may take.

    Raises:
        ValueError: the detectors are not those of `spec`, so its digest would be wrong.
        FleetError: `spec` asks for blurring, which is not available.
    """
    found = tuple(detector.spec.identity for detector in detectors)
    if found != spec.models:
        raise ValueError(f"spec names the models {spec.models}, the detectors are {found}")
    blurrer = blur.Blurrer() if spec.privacy == "blur" else None
    clips: dict[str, bytes] = {}
    sizes: dict[str, tuple[int, int]] = {}
    boxes, tracks, rejects = [], [], []
    window = frames.filter((pc.field("t_ns") >= event.start_ns) & (pc.field("t_ns") < event.end_ns))
    for camera in sorted(videos):
        rows = frames.filter(pc.field("camera") == camera)
        if not pc.any(pc.equal(window.column("camera"), camera)).as_py():
            continue
        decoded = timed("decode", decode_window(videos[camera], rows, event.span))
        try:
            _check_memory(event, videos[camera], rows, spec, memory_bytes)
            seen = _label_camera(event, decoded, detectors, blurrer, spec)
        except DataError as error:
            uri = min(video.uri for video in videos[camera])
            if isinstance(error, ModelError):  # of the picture, it knows the time alone
                error = ModelError(f"{uri}: {error}")
            rejects.append(Reject.of(error, uri=uri, stage="label", subject=event.event_id))
            continue
        clips[camera], sizes[camera] = seen.clip, seen.size
        with step("link"):
            camera_boxes, camera_tracks = _link_camera(event, camera, seen, detectors, spec)
        boxes.append(camera_boxes)
        tracks.append(camera_tracks)
    return Labelled(
        boxes=_stack("boxes", boxes),
        tracks=_stack("tracks", tracks),
        ego_path=_ego_path(event, signals, spec),
        clips=clips,
        sizes=sizes,
        cameras=tuple(sorted(clips)),
        rejects=tuple(rejects),
        spec=spec,
    )


def _check_memory(
    event: Event,
    videos: Sequence[VideoFile],
    frames: pa.Table,
    spec: LabelSpec,
    memory_bytes: int,
) -> None:
    """Checks that the pictures of one label interval, which blurring holds, are not too many.

    Raises:
        TooLargeError: they take more than `memory_bytes`.
    """
    t_ns = frames.column("t_ns").to_numpy()
    t_ns = t_ns[(t_ns >= event.start_ns) & (t_ns < event.end_ns)]
    intervals = (t_ns - event.start_ns) // int(NS_PER_S / spec.label_fps)
    number = int(np.unique(intervals, return_counts=True)[1].max(initial=0))
    width, height = max(video.width for video in videos), max(video.height for video in videos)
    require(
        min(video.uri for video in videos),
        f"event {event.event_id}: {number:,} pictures of {width}x{height} in one label interval",
        number * width * height * 3,
        memory_bytes,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """The result of one camera: its clip, and each detector's detections on label frames."""

    clip: bytes
    size: tuple[int, int]
    t_ns: IntArray
    detections: list[list[Detections]]


def _label_camera(
    event: Event,
    decoded: Iterable[Frame],
    detectors: Sequence[Detector],
    blurrer: blur.Blurrer | None,
    spec: LabelSpec,
) -> _Seen:
    """Passes one camera's frames through detectors, blurring and the encoder."""
    step_ns = NS_PER_S / spec.label_fps
    last_step = -1
    label_t_ns: list[int] = []
    detections: list[list[Detections]] = [[] for _ in detectors]
    stream = blur.BlurStream(blurrer) if blurrer else None
    clip = _Clip(event, spec.crf)
    for frame in decoded:
        if not clip.takes(frame):
            continue
        number = int((frame.t_ns - event.start_ns) // step_ns)
        looked: list[Detections] | None = None
        if number > last_step:
            last_step = number
            label_t_ns.append(frame.t_ns)
            with step("detect"):
                looked = [look(detector, frame.image, frame.t_ns) for detector in detectors]
            for seen, one in zip(detections, looked, strict=True):
                seen.append(one)
        for ready in [frame] if stream is None else _blurred(stream, frame, looked):
            clip.write(ready)
    for ready in timed("blur", stream.close()) if stream else ():
        clip.write(ready)
    return _Seen(clip.close(), clip.size, np.array(label_t_ns, dtype=np.int64), detections)


def _blurred(
    stream: blur.BlurStream, frame: Frame, looked: Sequence[Detections] | None
) -> Iterator[Frame]:
    """Pushes a frame into the blur stream and yields those that are ready."""
    if looked is None:
        ready = stream.push(frame, None)
    else:
        persons, vehicles = _boxes_of(looked, scene.PERSONS), _boxes_of(looked, scene.VEHICLES)
        ready = stream.push(frame, persons, vehicles)
    yield from timed("blur", ready)


class _Clip:
    """The clip of one camera: frames of one size, at distinct times."""

    def __init__(self, event: Event, crf: int) -> None:
        self._event = event
        self._crf = crf
        self._writer: ClipWriter | None = None
        self._last_tick = -1
        self.size = (0, 0)

    def takes(self, frame: Frame) -> bool:
        """Tells whether a frame belongs in the clip; the first one sets its size.

        Of frames with equal times (overlapping files, an index with equal times) the first is
        taken.

        Raises:
            UnsupportedError: the size of the pictures changes.
        """
        tick = clip_ticks(frame.t_ns - self._event.start_ns)
        if tick <= self._last_tick:
            return False
        self._last_tick = tick
        height, width = frame.image.shape[:2]
        if self._writer is None:
            self.size = (width, height)
            self._writer = ClipWriter(width, height, self._event.start_ns, crf=self._crf)
        elif self.size != (width, height):
            raise UnsupportedError(
                f"event {self._event.event_id}: at {frame.t_ns} ns the size of the picture changes "
                f"from {self.size[0]}x{self.size[1]} to {width}x{height}; split the log there"
            )
        return True

    def write(self, frame: Frame) -> None:
        """Encodes a frame that the clip takes."""
        assert self._writer is not None
        with step("encode"):
            self._writer.write(frame.t_ns, frame.image)

    def close(self) -> bytes:
        """Returns the MP4.

        Raises:
            CorruptError: there was no frame.
        """
        if self._writer is None:
            raise CorruptError(f"event {self._event.event_id}: no frame of its window decodes")
        with step("encode"):
            return self._writer.close()


def _boxes_of(looked: Sequence[Detections], names: frozenset[str]) -> FloatArray:
    """Concatenates all detectors' boxes of some classes, from `_PRIVATE_SCORE` on."""
    wanted = [seen.of(names) for seen in looked]
    return np.concatenate(
        [np.empty((0, 4)), *(seen.xywh[seen.score >= _PRIVATE_SCORE] for seen in wanted)]
    )


def _link_camera(
    event: Event, camera: str, seen: _Seen, detectors: Sequence[Detector], spec: LabelSpec
) -> tuple[pa.Table, pa.Table]:
    """Links each detector's boxes; the track ids of a camera are unique over its detectors."""
    owner = {"event_id": event.event_id, "camera": camera, "spec_digest": spec.digest}
    boxes, tracks = [], []
    offset = 0
    for detector, detections in zip(detectors, seen.detections, strict=True):
        tracked = link.link(seen.t_ns, detections)
        source = {"source": detector.spec.name, "source_version": detector.spec.version}
        low = np.clip(tracked.xywh[:, :2], 0, seen.size)
        high = np.clip(tracked.xywh[:, :2] + tracked.xywh[:, 2:], 0, seen.size)
        inside = ((high - low) >= 1.0).all(axis=1)
        names = np.array([*tracked.classes, ""], dtype=object)[tracked.class_index]
        columns = {
            "track_id": tracked.track_id + offset,
            "t_ns": tracked.t_ns,
            "class": names,
            "x_px": low[:, 0],
            "y_px": low[:, 1],
            "w_px": high[:, 0] - low[:, 0],
            "h_px": high[:, 1] - low[:, 1],
            "score": tracked.score,
        }
        kept = pa.table({name: pa.array(column[inside]) for name, column in columns.items()})
        boxes.append(_with_constants("boxes", kept, owner | source))
        summary = kept.group_by(["track_id", "class"]).aggregate(
            [("t_ns", "min"), ("t_ns", "max"), ("t_ns", "count"), ("score", "mean")]
        )
        summary = summary.select(
            ["track_id", "class", "t_ns_min", "t_ns_max", "t_ns_count", "score_mean"]
        ).rename_columns(["track_id", "class", "start_ns", "end_ns", "boxes", "score"])
        tracks.append(_with_constants("tracks", summary, owner | source))
        offset += int(tracked.track_id.max(initial=0))
    return _stack("boxes", boxes), _stack("tracks", tracks)


def _ego_path(event: Event, signals: pa.Table, spec: LabelSpec) -> pa.Table:
    with step("ego_path"):
        path = ego.ego_path(signals, event.span, event.anchor_ns)
    owner = {"event_id": event.event_id, "spec_digest": spec.digest}
    source = {"source": EGO_SOURCE, "source_version": str(ego.VERSION)}
    return _with_constants("ego_path", path, owner | source)


def _with_constants(name: str, rows: pa.Table, constants: Mapping[str, str]) -> pa.Table:
    """Adds constant columns and conforms the rows to a table's schema."""
    for column, value in constants.items():
        rows = rows.append_column(column, pa.array([value] * rows.num_rows, pa.string()))
    return TABLES[name].conform(rows)


def _stack(name: str, parts: Sequence[pa.Table]) -> pa.Table:
    return TABLES[name].conform(pa.concat_tables([TABLES[name].empty(), *parts]))


def sample_members(
    event: Event,
    log_row: Mapping[str, Any],
    labelled: Labelled,
    signals: pa.Table,
    joints: pa.Table,
) -> Sample:
    """Makes the sample of a labelled event.

    Args:
        event: the event; its id is the sample's key.
        log_row: the row of `logs` of its log.
        labelled: its labels and clips.
        signals: rows of `signals` of its log; those outside the event are left out.
        joints: rows of `joints` of its log, likewise.

    Returns:
        The sample. Its metadata holds the event, its log, its labels by column and the label
        specification. Its signals are `t_ns` int64[n] and each signal that the vehicle has,
        float64[n] with NaN, int8[n] with -1 or text with "" where it is unknown, and for a
        robot `joint_t_ns` and `joint_{position,velocity,action}` float32[m, j]. It holds no
        location of the log or of the lake.
    """
    spec = labelled.spec
    size = {camera: labelled.sizes[camera] for camera in labelled.cameras}
    metadata = {
        "event": asdict(event),
        "log": {name: log_row[name] for name in _LOG_FIELDS},
        "cameras": {c: {"width_px": w, "height_px": h} for c, (w, h) in size.items()},
        "boxes": _columns(labelled.boxes),
        "tracks": _columns(labelled.tracks),
        "ego_path": _columns(labelled.ego_path),
        "labelling": {**asdict(spec), "models": list(spec.models), "digest": spec.digest},
    }
    arrays = _signal_arrays(_inside(signals, event)) | _joint_arrays(_inside(joints, event))
    return Sample(key=event.event_id, clips=labelled.clips, metadata=metadata, signals=arrays)


def _columns(table: pa.Table) -> dict[str, list[Any]]:
    kept = table.drop_columns(["event_id", "spec_digest"])
    return {name: kept.column(name).to_pylist() for name in kept.column_names}


def _inside(table: pa.Table, event: Event) -> pa.Table:
    t_ns = pc.field("t_ns")
    return table.filter((t_ns >= event.start_ns) & (t_ns < event.end_ns)).sort_by("t_ns")


def _signal_arrays(signals: pa.Table) -> dict[str, AnyArray]:
    if not signals.num_rows:
        return {}
    arrays: dict[str, AnyArray] = {"t_ns": signals.column("t_ns").to_numpy()}
    for signal in SIGNALS:
        column = signals.column(signal.name)
        if column.null_count == len(column):
            continue
        if pa.types.is_floating(signal.type):
            arrays[signal.name] = column.to_numpy().astype(np.float64)
        elif pa.types.is_boolean(signal.type):
            arrays[signal.name] = column.cast(pa.int8()).fill_null(-1).to_numpy()
        else:
            arrays[signal.name] = np.array(column.fill_null("").to_pylist(), dtype=np.str_)
    return arrays


def _joint_arrays(joints: pa.Table) -> dict[str, AnyArray]:
    if not joints.num_rows:
        return {}
    arrays: dict[str, AnyArray] = {"joint_t_ns": joints.column("t_ns").to_numpy()}
    for name in ("position", "velocity", "action"):
        rows = joints.column(name).to_pylist()
        widths = {len(row) for row in rows if row is not None}
        if not widths:
            continue
        if len(widths) > 1:
            raise CorruptError(
                f"joints: {name} has rows of {sorted(widths)} numbers; ingest the log again"
            )
        unknown = [np.nan] * widths.pop()
        table = [unknown if row is None else row for row in rows]
        arrays[f"joint_{name}"] = np.array(table, dtype=np.float32)
    return arrays
