"""The packet index of a video file of any container: demuxed at most, never decoded."""

from __future__ import annotations

from fractions import Fraction
from typing import BinaryIO, cast

import av
import fsspec
import numpy as np

from schemas.arrays import BoolArray, IntArray
from schemas.errors import (
    CorruptError,
    EmptyError,
    UnreadableError,
    UnsupportedError,
)
from schemas.recording import Video
from schemas.times import NS_PER_MS, NS_PER_S
from transforms.video.mp4 import Track, read_index

RAW_FPS = 20
"""What a raw H.264 or HEVC stream is taken to run at: it carries no times itself."""

READ_BLOCK_BYTES = 64 << 10
"""One remote read: an index needs few bytes in few places."""

MAX_PACKETS = 1 << 24
MAX_DURATION_NS = 30 * 86_400 * NS_PER_S
"""A file longer than a month is forged, and its times might not fit in int64."""

_MP4_SUFFIXES = (".mp4", ".mov", ".m4v")
_RAW = {".hevc": "hevc", ".h265": "hevc", ".265": "hevc", ".h264": "h264", ".264": "h264"}
# A playlist can name any address, so only containers that hold their own bytes are opened.
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,h264,hevc"
_CODEC_NAMES = {"libdav1d": "av1", "libaom-av1": "av1"}


def open_video(uri: str) -> BinaryIO:
    """Opens a file for reads in few places.

    Raises:
        UnreadableError: it cannot be opened.
    """
    try:
        fs, path = fsspec.core.url_to_fs(uri)
        return cast(
            "BinaryIO",
            fs.open(path, "rb", block_size=READ_BLOCK_BYTES, cache_type="readahead"),
        )
    except OSError as error:
        raise UnreadableError(
            f"{uri}: cannot be opened ({error.strerror or error}); check that it is there and "
            "its permissions"
        ) from error


def index_video(uri: str, camera: str, start_ns: int, fps: float | None = None) -> Video:
    """Indexes a video file.

    Args:
        uri: the file.
        camera: what the log calls the camera.
        start_ns: time of the first frame, from the log's start.
        fps: rate of a raw stream, which has no times of its own; RAW_FPS if None.

    Returns:
        The frames that are shown, in the order in which they are shown. Frames that an edit
        list hides are not among them: no decoder returns them.

    Raises:
        DataError: empty, cut off, not a video, or without a frame.
    """
    with open_video(uri) as file:
        return video_of(read_video_track(file, uri, fps), uri, camera, start_ns)


def read_video_track(file: BinaryIO, uri: str, fps: float | None = None) -> Track:
    """Reads the index of the first video track of an open file.

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
                # Fragments: libavformat puts their many small indexes together.
                return _demuxed(file, uri, None)
            if not tracks:
                raise EmptyError(f"{uri}: no video frames in it")
            return tracks[0]
        return _demuxed(file, uri, (_RAW[suffix], fps or RAW_FPS) if suffix in _RAW else None)
    except OSError as error:
        raise UnreadableError(f"{uri}: reading failed ({error.strerror or error})") from error


def _demuxed(file: BinaryIO, uri: str, raw: tuple[str, float] | None) -> Track:
    """Indexes by reading every packet with libavformat; `raw` is a bare codec and its rate."""
    file.seek(0)
    options = {"format_whitelist": _FORMATS}
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
                raise UnsupportedError(f"{uri}: no video stream in it")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UnsupportedError(f"{uri}: its video is of a codec that nobody here knows")
            rows: list[tuple[int | None, int, int, bool, bool]] = []
            for packet in container.demux(stream):
                if packet.size:
                    rows.append(
                        (
                            packet.pts,
                            packet.pos or 0,
                            packet.size,
                            packet.is_keyframe,
                            packet.is_discard,
                        )
                    )
                if len(rows) > MAX_PACKETS:
                    raise UnsupportedError(f"{uri}: over {MAX_PACKETS} frames; split the file")
            reordered = stream.codec_context.has_b_frames
            timeless = raw is not None or container.format.name == "avi"
            codec = stream.codec_context.name
            size = (stream.codec_context.width, stream.codec_context.height)
            extradata = bytes(stream.codec_context.extradata or b"")
            base = stream.time_base or Fraction(1, 1)
    except av.FFmpegError as error:
        raise CorruptError(
            f"{uri}: not a readable video ({error.strerror}); check what wrote the file"
        ) from error
    if not rows:
        raise EmptyError(f"{uri}: no video frames in it")
    if reordered and timeless:
        # Such files list frames in the order of decoding and do not say that of showing.
        raise UnsupportedError(
            f"{uri}: B-frames in a file without presentation times; remux it: "
            "ffmpeg -i FILE -c copy FILE.mp4"
        )
    if raw:
        base = 1 / Fraction(raw[1]).limit_denominator(1_000_000)
        pts: IntArray = np.arange(len(rows), dtype=np.int64)
    elif any(row[0] is None for row in rows):
        raise CorruptError(f"{uri}: a frame without a time; remux it with ffmpeg -c copy")
    else:
        pts = np.array([row[0] for row in rows], np.int64)
    steps = np.diff(np.sort(pts))
    typical = int(np.median(steps)) if len(steps) else 0
    return Track(
        kind="vide",
        codec=_CODEC_NAMES.get(codec, codec),
        width=size[0],
        height=size[1],
        time_base=(base.numerator, base.denominator),
        pts=pts,
        dts=pts,
        is_keyframe=np.array([row[3] for row in rows], np.bool_),
        is_hidden=np.array([row[4] for row in rows], np.bool_),
        byte_offset=np.array([row[1] for row in rows], np.int64),
        byte_size=np.array([row[2] for row in rows], np.int64),
        duration=np.full(len(rows), typical, np.int64),
        extradata=extradata,
    )


def video_of(track: Track, uri: str, camera: str, start_ns: int) -> Video:
    """Turns a track into the record of a log's video.

    Raises:
        EmptyError: no frame is shown.
        CorruptError: its times span more than a month.
    """
    rows = track.presented()
    if not len(rows):
        raise EmptyError(f"{uri}: no frame of it is shown")
    pts: IntArray = track.pts[rows]
    num, den = track.time_base
    last = int(track.duration[rows[-1]])
    if (int(pts[-1]) - int(pts[0]) + last) * num * NS_PER_S // den > MAX_DURATION_NS:
        raise CorruptError(f"{uri}: its times span more than a month; remux it")
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


def _to_ns(ticks: IntArray, num: int, den: int) -> IntArray:
    """Rounds ticks to int64 nanoseconds, whole seconds apart so that nothing overflows.

    >>> _to_ns(np.array([1, 3, 90001]), 1, 90000).tolist()
    [11111, 33333, 1000011111]
    """
    whole, rest = np.divmod(ticks * num, den)
    return np.asarray(whole * NS_PER_S + (2 * rest * NS_PER_S + den) // (2 * den), np.int64)


def _varies(t_ns: IntArray, tick_ns: int) -> bool:
    """Tells whether steps between frames differ by more than rounding to ticks explains."""
    steps = np.diff(t_ns)
    return len(steps) > 1 and int(steps.max() - steps.min()) > max(NS_PER_MS, int(tick_ns))
