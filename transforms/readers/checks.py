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
from schemas.recording import Channel, Recording, Video
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


def check_recording(recording: Recording) -> None:
    """Checks every text and number of a recording that is not one sample among many.

    Raises:
        CorruptError: one is none that a recording can have; names the log, the field and the value.
    """
    for problem in _problems(recording):
        raise CorruptError(f"{recording.log.uri}: {problem}; correct the file, or remove it")


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


def _problems(recording: Recording) -> Iterator[str]:
    for field, text in _texts(recording):
        if text is not None and (problem := check_text(field, text)):
            yield problem
    if not 0 <= recording.duration_ns <= MAX_DURATION_NS:
        yield f"its duration is {recording.duration_ns / NS_PER_S:.6g} s, of 0 to 30 days"
    if recording.start_ns is not None and not 0 <= recording.start_ns <= MAX_START_NS:
        yield f"its start is {recording.start_ns} ns after 1970, which no clock shows yet"
    for kind, number in (
        ("annotations", len(recording.annotations)),
        ("joints", len(recording.joints.names) if recording.joints else 0),
        ("native channels", len(recording.native)),
    ):
        if number > MAX_NAMES:
            yield f"it has {number:,} {kind}, of at most {MAX_NAMES:,}"
    for video in recording.videos:
        yield from _video_problems(video)
    for one in recording.annotations:
        for name, value, most in (("latitude", one.lat_deg, 90), ("longitude", one.lon_deg, 180)):
            if value is not None and not abs(value) <= most:  # NaN is not, either
                yield f"an annotation's {name} is {value}, of -{most} to {most} degrees"


def _video_problems(video: Video) -> Iterator[str]:
    numerator, denominator = video.time_base
    if not (0 < numerator < 1 << 31 and 0 < denominator < 1 << 31):
        yield f"the time base of camera {video.camera} is {numerator}/{denominator}"
    if not (0 < video.width < MAX_SIDE_PX and 0 < video.height < MAX_SIDE_PX):
        yield f"the pictures of camera {video.camera} have {video.width}x{video.height} pixels"
    if not 0 <= video.duration_ns <= MAX_DURATION_NS:
        yield f"camera {video.camera} lasts {video.duration_ns / NS_PER_S:.6g} s, of 0 to 30 days"


def _texts(recording: Recording) -> Iterator[tuple[str, str | None]]:
    """Yields the name and the value of every text."""
    yield "its drive", recording.drive_id
    yield "its vehicle", recording.vehicle_id
    yield "its clock", recording.clock
    yield "its local start", recording.start_local
    yield "its software", recording.software
    for video in recording.videos:
        yield "a camera's name", video.camera
        yield "a codec's name", video.codec
    for name in recording.joints.names if recording.joints else ():
        yield "a joint's name", name
    for one in recording.annotations:
        yield "an annotation's reason", one.reason
        yield "an annotation's camera", one.camera
    for channel in recording.native:
        yield "a channel's name", channel.name
    for value in _values((*recording.signals, *recording.native)):
        yield "a value of a channel", value


def _values(channels: Iterable[Channel]) -> Iterator[str]:
    """Yields the distinct texts among the values of channels."""
    for channel in channels:
        if channel.values.dtype.kind == "U":
            yield from map(str, np.unique(channel.values))
        elif channel.values.dtype.kind == "O":
            yield from {value for value in channel.values if isinstance(value, str)}
