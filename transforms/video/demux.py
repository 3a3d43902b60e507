"""The packet index of a video file in any container; nothing is decoded.

MP4 and MOV files are indexed by their sample tables (transforms.video.mp4), all others by
demuxing every packet with libavformat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np

from schemas.arrays import BoolArray, IntArray
from schemas.errors import (
    CorruptError,
    EmptyError,
    UnreadableError,
    UnsupportedError,
    one_line,
)
from schemas.recording import Video
from schemas.times import NS_PER_MS, NS_PER_S
from transforms.storage import filesystem
from transforms.video.mp4 import Track, read_index

RAW_FPS = 20
"""Assumed frame rate of an H.264 or HEVC elementary stream, which has no timestamps."""

READ_BLOCK_BYTES = 64 << 10
"""Size of a remote read: an index takes a few bytes at a few offsets."""

MAX_PACKETS = 1 << 24
MAX_DURATION_NS = 30 * 86_400 * NS_PER_S
"""A month: longer files are forged, and their times might overflow int64."""

FORMAT_WHITELIST = "mov,mp4,matroska,webm,avi,mpegts,mpeg,h264,hevc"
"""The libavformat demuxers that may open a file: playlists, which may refer to any URL, may not."""

_MP4_SUFFIXES = (".mp4", ".mov", ".m4v")
_RAW = {".hevc": "hevc", ".h265": "hevc", ".265": "hevc", ".h264": "h264", ".264": "h264"}
_CODEC_NAMES = {"libdav1d": "av1", "libaom-av1": "av1"}


def open_video(uri: str) -> BinaryIO:
    """Opens a file for small reads at a few offsets.

    Raises:
        UnreadableError: the file cannot be opened.
    """
    try:
        fs, path = filesystem(uri)
        return fs.open(path, mode="rb", block_size=READ_BLOCK_BYTES, cache_type="readahead")
    except OSError as error:
        raise UnreadableError(
            f"{uri}: cannot be opened ({error.strerror or error}); check that it exists, and "
            "its permissions"
        ) from error


def index_video(uri: str, camera: str, start_ns: int, fps: float | None = None) -> Video:
    """Indexes a video file.

    Args:
        uri: the file.
        camera: the camera's name in the log.
        start_ns: time of the first frame, from the log's start.
        fps: frame rate of an elementary stream, which has no timestamps; RAW_FPS if None.

    Returns:
        The presented frames, in presentation order. Frames that an edit list hides are left
        out, as decoders do not return them.

    Raises:
        DataError: empty, cut off, not a video, or without a frame.
    """
    with open_video(uri) as file:
        return video_of(read_video_track(file, uri, fps), uri, camera, start_ns)


def read_video_track(file: BinaryIO, uri: str, fps: float | None = None) -> Track:
    """Indexes the first video track of an open file.

    Raises:
        DataError: as `index_video`.
    """
    try:
        head = file.read(8)
        if not head:
            raise EmptyError(f"{uri}: the file has no bytes; record or copy it again")
        suffix = uri[uri.rfind(".") :].lower()
        if suffix in _MP4_SUFFIXES or head[4:] in {b"ftyp", b"moov"}:
            try:
                tracks = [t for t in read_index(file, uri) if t.kind == "vide" and len(t.pts)]
            except UnsupportedError:
                # libavformat joins the indexes of the fragments of a fragmented MP4.
                return _demux_track(file, uri, None)
            if not tracks:
                raise EmptyError(f"{uri}: no video frames in it; record or copy it again")
            return tracks[0]
        return _demux_track(file, uri, (_RAW[suffix], fps or RAW_FPS) if suffix in _RAW else None)
    except OSError as error:
        raise UnreadableError(
            f"{uri}: reading failed ({error.strerror or error}); try again, or copy the file again"
        ) from error


@dataclass(frozen=True, slots=True)
class _Stream:
    """A file's first video stream and its packets, as libavformat demuxes them.

    `packets` are (pts, byte offset, byte size, is keyframe, is hidden) in decode order.
    """

    codec: str
    width: int
    height: int
    time_base: Fraction
    extradata: bytes
    has_b_frames: bool
    has_timestamps: bool
    packets: list[tuple[int | None, int, int, bool, bool]]


def _demux_track(file: BinaryIO, uri: str, raw: tuple[str, float] | None) -> Track:
    """Indexes a file by demuxing all its packets.

    Args:
        file: the file, seekable.
        uri: the name of the file in messages.
        raw: codec and frame rate of an elementary stream; None for containers.

    Raises:
        DataError: as `index_video`.
    """
    stream = _demux(file, uri, raw)
    packets = stream.packets
    if not packets:
        raise EmptyError(f"{uri}: no video frames in it; record or copy it again")
    if stream.has_b_frames and not stream.has_timestamps:
        # Packets are in decode order, and nothing in the file tells the presentation order.
        raise UnsupportedError(
            f"{uri}: B-frames in a file without presentation times; remux it: "
            "ffmpeg -i FILE -c copy FILE.mp4"
        )
    time_base = stream.time_base
    if raw:
        time_base = 1 / Fraction(raw[1]).limit_denominator(1_000_000)
        pts: IntArray = np.arange(len(packets), dtype=np.int64)
    elif any(packet[0] is None for packet in packets):
        raise CorruptError(f"{uri}: a frame without a timestamp; remux it with ffmpeg -c copy")
    else:
        pts = np.array([packet[0] for packet in packets], np.int64)
    steps = np.diff(np.sort(pts))
    median_step = int(np.median(steps)) if len(steps) else 0
    return Track(
        kind="vide",
        codec=_CODEC_NAMES.get(stream.codec, stream.codec),
        width=stream.width,
        height=stream.height,
        time_base=(time_base.numerator, time_base.denominator),
        pts=pts,
        dts=pts,
        is_keyframe=np.array([packet[3] for packet in packets], np.bool_),
        is_hidden=np.array([packet[4] for packet in packets], np.bool_),
        byte_offset=np.array([packet[1] for packet in packets], np.int64),
        byte_size=np.array([packet[2] for packet in packets], np.int64),
        duration=np.full(len(packets), median_step, np.int64),
        extradata=stream.extradata,
    )


def _demux(file: BinaryIO, uri: str, raw: tuple[str, float] | None) -> _Stream:
    """Reads the headers and every packet with libavformat."""
    file.seek(0)
    options = {"format_whitelist": FORMAT_WHITELIST}
    if raw:
        options["framerate"] = str(raw[1])
    try:
        with av.open(
            file,
            mode="r",
            format=raw[0] if raw else None,
            options=options,
            metadata_errors="replace",
        ) as container:
            if not container.streams.video:
                raise UnsupportedError(f"{uri}: no video stream in it; remove the file")
            stream = container.streams.video[0]
            context = stream.codec_context
            if context is None:
                raise UnsupportedError(f"{uri}: unknown video codec; convert it to H.264")
            packets = _read_packets(container, stream, uri)
            # The context is read last: demuxing completes it.
            return _Stream(
                codec=context.name,
                width=context.width,
                height=context.height,
                time_base=stream.time_base or Fraction(1, 1),
                extradata=bytes(context.extradata or b""),
                has_b_frames=bool(context.has_b_frames),
                has_timestamps=raw is None and container.format.name != "avi",
                packets=packets,
            )
    except av.FFmpegError as error:
        raise CorruptError(
            f"{uri}: not a readable video ({error.strerror}); check what wrote the file"
        ) from error


def demuxed(container: Any, stream: Any, uri: str) -> Iterator[Any]:
    """Yields the packets of a stream, and the empty ones that flush a decoder at its end.

    Raises:
        CorruptError: PyAV cannot tell what a packet belongs to. A file whose streams change in
            the middle, as a cut MPEG-TS does, makes it raise errors of Python.
    """
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CorruptError(
            f"{uri}: its packets cannot be told apart ({type(error).__name__}: {one_line(error)}); "
            "remux it with ffmpeg -c copy"
        ) from error


def _read_packets(
    container: Any, stream: Any, uri: str
) -> list[tuple[int | None, int, int, bool, bool]]:
    packets = []
    for packet in demuxed(container, stream, uri):
        if packet.size:
            packets.append(
                (packet.pts, packet.pos or 0, packet.size, packet.is_keyframe, packet.is_discard)
            )
        if len(packets) > MAX_PACKETS:
            raise UnsupportedError(f"{uri}: over {MAX_PACKETS} frames; split the file")
    return packets


def video_of(track: Track, uri: str, camera: str, start_ns: int) -> Video:
    """Converts a track to the video of a log.

    Raises:
        EmptyError: no frame is presented.
        CorruptError: the timestamps span more than a month.
    """
    rows = track.presented()
    if not len(rows):
        raise EmptyError(f"{uri}: its edit list hides every frame; record or remux it again")
    pts: IntArray = track.pts[rows]
    num, den = track.time_base
    last = _last_duration(pts, int(track.duration[rows[-1]]), num / den)
    if (int(pts[-1]) - int(pts[0]) + last) * num * NS_PER_S // den > MAX_DURATION_NS:
        raise CorruptError(f"{uri}: its timestamps span more than a month; remux it")
    since_first = _to_ns(pts - pts[0], num, den)
    end = _to_ns(pts[-1:] - pts[0] + last, num, den)
    keyframes: BoolArray = track.is_keyframe[rows]
    return Video(
        camera=camera,
        uri=uri,
        codec=track.codec,
        width=track.width,
        height=track.height,
        time_base=track.time_base,
        t_ns=start_ns + since_first,
        pts=pts,
        is_keyframe=keyframes,
        byte_offset=track.byte_offset[rows],
        byte_size=track.byte_size[rows],
        duration_ns=max(int(end[0]), int(since_first[-1]) + 1),
        variable_rate=_varies(since_first, _to_ns(np.ones(1, np.int64), num, den)[0]),
    )


def _last_duration(pts: IntArray, duration: int, tick_s: float) -> int:
    """Returns how long the last frame lasts, in ticks.

    Recorders that are cut off write any number there; a frame lasts no longer than a second or ten
    usual steps.

    >>> _last_duration(np.array([0, 4, 8, 12]), 90_000, 1 / 100)
    4
    >>> _last_duration(np.array([0, 4, 8, 12]), 100, 1 / 100), _last_duration(np.array([0]), 9, 1)
    (100, 9)
    """
    if len(pts) < 2:
        return duration
    step = int(np.median(np.diff(pts)))
    return step if duration > max(10 * step, 1 / tick_s) else duration


def _to_ns(ticks: IntArray, num: int, den: int) -> IntArray:
    """Converts ticks to nanoseconds, rounded half up; whole seconds apart, to avoid overflow.

    >>> _to_ns(np.array([1, 3, 90001]), 1, 90000).tolist()
    [11111, 33333, 1000011111]
    """
    whole, rest = np.divmod(ticks * num, den)
    return np.asarray(whole * NS_PER_S + (2 * rest * NS_PER_S + den) // (2 * den), np.int64)


def _varies(t_ns: IntArray, tick_ns: int) -> bool:
    """Tells whether the steps between frames differ by more than the rounding to ticks."""
    steps = np.diff(t_ns)
    return len(steps) > 1 and int(steps.max() - steps.min()) > max(NS_PER_MS, int(tick_ns))
