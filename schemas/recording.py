"""The output of a reader: a log's native samples in memory, before alignment.

The arrays stay inside one worker; they are never elements of a PCollection.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.arrays import AnyArray, BoolArray, Float32Array, IntArray
from schemas.records import Count, LogRef, Platform, Reject
from schemas.times import Span


def _same_length(owner: str, **columns: AnyArray) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{owner}: columns differ in length: {lengths}")


@dataclass(frozen=True, slots=True)
class Channel:
    """Native samples of one quantity.

    In `Segment.signals`, `name` is a row of schemas.signals and `values` are in its
    unit. `t_ns` is int64[n] from the log's start, in any order; duplicates are allowed.
    """

    name: str
    t_ns: IntArray
    values: AnyArray

    def __post_init__(self) -> None:
        """Rejects columns of different lengths."""
        _same_length(f"channel {self.name!r}", t_ns=self.t_ns, values=self.values)


@dataclass(frozen=True, slots=True)
class Video:
    """The packet index of one camera's file, in presentation order; nothing is decoded.

    Per frame: t_ns int64[n] from the log's start; pts int64[n] in units of `time_base`
    (num, den), as the decoder reports them; is_keyframe bool[n]; byte_offset and byte_size
    int64[n] in the file.
    """

    camera: str
    uri: str
    codec: str
    width: int
    height: int
    time_base: tuple[int, int]
    t_ns: IntArray
    pts: IntArray
    is_keyframe: BoolArray
    byte_offset: IntArray
    byte_size: IntArray
    duration_ns: int
    variable_rate: bool

    def __post_init__(self) -> None:
        """Rejects columns of different lengths."""
        _same_length(
            f"video {self.uri!r}",
            t_ns=self.t_ns,
            pts=self.pts,
            is_keyframe=self.is_keyframe,
            byte_offset=self.byte_offset,
            byte_size=self.byte_size,
        )


@dataclass(frozen=True, slots=True)
class Joints:
    """A robot's joints: float32[n, j] at t_ns int64[n]; LogHeader.joint_names are the j columns."""

    t_ns: IntArray
    position: Float32Array
    velocity: Float32Array | None
    action: Float32Array | None


@dataclass(frozen=True, slots=True)
class Annotation:
    """A moment marked while recording; `t_ns` is counted from the log's start."""

    t_ns: int
    reason: str
    camera: str | None = None
    lat_deg: float | None = None
    lon_deg: float | None = None


@dataclass(frozen=True, slots=True)
class LogHeader:
    """What is said of a log as a whole.

    `start_ns` is the UTC time of t_ns 0, or None; `start_local` is an ISO 8601 wall-clock
    time without a zone, for logs that record no UTC. `clock` names the log's time base:
    "utc", "local", "boot" or "none".
    """

    log: LogRef
    drive_id: str
    vehicle_id: str
    platform: Platform
    duration_ns: int
    clock: str
    start_ns: int | None = None
    start_local: str | None = None
    software: str | None = None
    joint_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """What a log holds in a span of its time; `rejects` lists the parts that are unusable.

    Signals have the nearest usable sample on either side of the span too, so that cutting a log
    changes no value. All else is of the span alone. `counts` account for what a
    reader drops inside a file, such as CAN frames of unknown ids.
    """

    span: Span
    signals: tuple[Channel, ...] = ()
    native: tuple[Channel, ...] = ()
    videos: tuple[Video, ...] = ()
    joints: Joints | None = None
    annotations: tuple[Annotation, ...] = ()
    rejects: tuple[Reject, ...] = ()
    counts: tuple[Count, ...] = ()
