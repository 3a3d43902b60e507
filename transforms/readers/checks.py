"""The border of the readers: what a file says is text that can be stored, and numbers in range.

A file may say anything. What passes here goes into tables, names and messages without another
look: text without control characters and halves of surrogate pairs, of bounded length, and
numbers that a recording can have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from schemas.errors import CorruptError
from schemas.recording import Channel, LogHeader, Segment, Video
from schemas.times import NS_PER_S

MAX_TEXT_CHARS = 1000
"""Characters of a name, a reason or a value of text."""

MAX_DURATION_NS = 30 * 86_400 * NS_PER_S
MAX_START_NS = 7_000_000_000 * NS_PER_S
"""The year 2191: what is later counts something else than nanoseconds since 1970."""

MAX_SIDE_PX = 1 << 16
MAX_NAMES = 10_000
"""Channels, joints and annotations of a log."""

UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, ends of lines and halves of surrogate pairs."""


def check_header(header: LogHeader) -> None:
    """Checks every text and number of a header.

    Raises:
        CorruptError: one is none that a recording can have; names the log, the field and the value.
    """
    _refuse(header.log.uri, _header_problems(header))


def check_segment(uri: str, segment: Segment) -> None:
    """Checks every text and number of a log's segment that is not one sample among many.

    Raises:
        CorruptError: one is none that a recording can have; names the log, the field and the value.
    """
    _refuse(uri, _segment_problems(segment))


def _refuse(uri: str, problems: Iterator[str]) -> None:
    for problem in problems:
        raise CorruptError(f"{uri}: {problem}; correct the file, or remove it")


def check_text(field: str, text: str) -> str | None:
    r"""Returns what is wrong with a text, None if nothing is.

    >>> check_text("reason", "honk"), check_text("reason", "a\0b")
    (None, "reason holds the character U+0000: 'a\\x00b'")
    """
    if len(text) > MAX_TEXT_CHARS:
        return f"{field} has {len(text):,} characters, of at most {MAX_TEXT_CHARS:,}"
    if found := UNFIT.search(text):
        return f"{field} holds the character U+{ord(found[0]):04X}: {text[:50]!a}"
    return None


def _header_problems(header: LogHeader) -> Iterator[str]:
    yield from _unfit(_header_texts(header))
    if not 0 <= header.duration_ns <= MAX_DURATION_NS:
        yield f"its duration is {header.duration_ns / NS_PER_S:.6g} s, of 0 to 30 days"
    if header.start_ns is not None and not 0 <= header.start_ns <= MAX_START_NS:
        yield f"its start is {header.start_ns} ns after 1970, which no clock shows yet"
    yield from _too_many("joints", len(header.joint_names))


def _segment_problems(segment: Segment) -> Iterator[str]:
    yield from _unfit(_segment_texts(segment))
    yield from _too_many("annotations", len(segment.annotations))
    yield from _too_many("native channels", len(segment.native))
    for video in segment.videos:
        yield from _video_problems(video)
    for one in segment.annotations:
        for name, value, most in (("latitude", one.lat_deg, 90), ("longitude", one.lon_deg, 180)):
            if value is not None and not abs(value) <= most:  # NaN is not, either
                yield f"an annotation's {name} is {value}, of -{most} to {most} degrees"


def _unfit(texts: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    for field, text in texts:
        if text is not None and (problem := check_text(field, text)):
            yield problem


def _too_many(kind: str, number: int) -> Iterator[str]:
    if number > MAX_NAMES:
        yield f"it has {number:,} {kind}, of at most {MAX_NAMES:,}"


def _video_problems(video: Video) -> Iterator[str]:
    numerator, denominator = video.time_base
    if not (0 < numerator < 1 << 31 and 0 < denominator < 1 << 31):
        yield f"the time base of camera {video.camera} is {numerator}/{denominator}"
    if not (0 < video.width < MAX_SIDE_PX and 0 < video.height < MAX_SIDE_PX):
        yield f"the pictures of camera {video.camera} have {video.width}x{video.height} pixels"
    if not 0 <= video.duration_ns <= MAX_DURATION_NS:
        yield f"camera {video.camera} lasts {video.duration_ns / NS_PER_S:.6g} s, of 0 to 30 days"


def _header_texts(header: LogHeader) -> Iterator[tuple[str, str | None]]:
    """Yields the name and the value of every text of a header."""
    yield "its drive", header.drive_id
    yield "its vehicle", header.vehicle_id
    yield "its clock", header.clock
    yield "its local start", header.start_local
    yield "its software", header.software
    for name in header.joint_names:
        yield "a joint's name", name


def _segment_texts(segment: Segment) -> Iterator[tuple[str, str | None]]:
    """Yields the name and the value of every text of a segment."""
    for video in segment.videos:
        yield "a camera's name", video.camera
        yield "a codec's name", video.codec
    for one in segment.annotations:
        yield "an annotation's reason", one.reason
        yield "an annotation's camera", one.camera
    for channel in segment.native:
        yield "a channel's name", channel.name
    for value in _values((*segment.signals, *segment.native)):
        yield "a value of a channel", value


def _values(channels: Iterable[Channel]) -> Iterator[str]:
    """Yields the distinct texts among the values of channels."""
    for channel in channels:
        if channel.values.dtype.kind == "U":
            yield from map(str, np.unique(channel.values))
        elif channel.values.dtype.kind == "O":
            yield from {value for value in channel.values if isinstance(value, str)}
