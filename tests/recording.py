"""Logs of one segment for tests: what is said of a log, and what it holds, in one record."""

from __future__ import annotations

from dataclasses import dataclass, fields

from schemas.recording import Annotation, Channel, Joints, LogHeader, Segment, Video
from schemas.records import Count, LogRef, Platform, Reject
from transforms.readers import Format, OpenLog, ReadOptions, WholeLog


@dataclass(frozen=True, slots=True)
class Recording:
    """The fields of schemas.recording's LogHeader and Segment, but for the span."""

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
    signals: tuple[Channel, ...] = ()
    native: tuple[Channel, ...] = ()
    videos: tuple[Video, ...] = ()
    joints: Joints | None = None
    annotations: tuple[Annotation, ...] = ()
    rejects: tuple[Reject, ...] = ()
    counts: tuple[Count, ...] = ()

    @classmethod
    def of(cls, opened: OpenLog) -> Recording:
        """Reads a log that has one segment."""
        (span,) = opened.segments
        header, segment = opened.header, opened.read(span)
        said = {field.name: getattr(header, field.name) for field in fields(LogHeader)}
        held = {field.name: getattr(segment, field.name) for field in fields(Segment)}
        del held["span"]
        return cls(**said, **held)

    @property
    def opened(self) -> WholeLog:
        """The open log."""
        said = {field.name: getattr(self, field.name) for field in fields(LogHeader)}
        names = {field.name for field in fields(Segment)} - {"span"}
        return WholeLog.of(LogHeader(**said), **{name: getattr(self, name) for name in names})


def read(reader: Format, log: LogRef, options: ReadOptions | None = None) -> Recording:
    """Opens a log and reads it."""
    return Recording.of(reader.open(log, options or ReadOptions()))
