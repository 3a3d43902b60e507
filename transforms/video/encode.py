"""Encoding of frames to H.264 clips and to JPEG: equal frames give equal bytes."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import cv2

from schemas.arrays import Image
from schemas.errors import CorruptError, EmptyError
from schemas.times import NS_PER_S
from transforms.video.boxes import Box, BoxParser

TICKS_PER_S = 90_000
"""Timescale of a clip, in the media and in its edit list."""

# OpenCV's YUV: ITU-R BT.601 (AVCOL_SPC_SMPTE170M), limited range (AVCOL_RANGE_MPEG).
_COLORSPACE, _COLOR_RANGE = 6, 1


class ClipWriter:
    """Encodes frames to an MP4 one by one; only the encoded clip is kept in memory.

    The clip is H.264 4:2:0, encoded in one thread, without B-frames; the first frame of each
    second is a keyframe. A frame's pts is its time since `start_ns` rounded to 1/90000 s, so
    variable frame rates are preserved and the first pts may be above 0. `moov` precedes
    `mdat`, so that loaders can stream. Pictures of odd width or height, which 4:2:0 does not
    allow, are padded by repeating the last column or row: pixel coordinates do not change.

    Args:
        width: width of every frame, px.
        height: height of every frame, px.
        start_ns: the time that becomes pts 0.
        crf: x264's constant rate factor; lower is better.
        preset: x264's preset.
    """

    def __init__(
        self, width: int, height: int, start_ns: int, crf: int = 25, preset: str = "veryfast"
    ) -> None:
        self._shape = (height, width, 3)
        self._start_ns = start_ns
        self._last_pts = -1
        self._last_second = -1
        self._file = io.BytesIO()
        self._container = av.open(
            self._file,
            "w",
            format="mp4",
            # Durations of edits are in the movie's timescale, 1 ms by default.
            options={"fflags": "+bitexact", "movie_timescale": str(TICKS_PER_S)},
        )
        self._stream: Any = self._container.add_stream(
            "libx264",
            options={
                "crf": str(crf),
                "preset": preset,
                "forced-idr": "1",
                "flags": "+bitexact",
                # x264's macroblock tree reads uninitialised memory, so that equal frames would
                # not always give equal bytes; it also spends fewer bits on new objects.
                "x264-params": "bframes=0:mbtree=0:keyint=infinite:threads=1:force-cfr=0",
            },
        )
        self._stream.width = width + width % 2
        self._stream.height = height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = Fraction(1, TICKS_PER_S)
        context = self._stream.codec_context
        context.time_base = Fraction(1, TICKS_PER_S)
        context.thread_count = 1
        context.colorspace = _COLORSPACE
        context.color_range = _COLOR_RANGE

    def write(self, t_ns: int, bgr: Image) -> None:
        """Encodes one frame, uint8[height, width, 3], later than the previous one.

        Raises:
            ValueError: the picture has another size, or the time does not increase.
        """
        pts = clip_ticks(t_ns - self._start_ns)
        if bgr.shape != self._shape:
            raise ValueError(f"frame at {t_ns} ns has shape {bgr.shape}, the clip {self._shape}")
        if pts <= self._last_pts:
            raise ValueError(f"frame at {t_ns} ns is not after the previous one (pts {pts})")
        height, width, _ = bgr.shape
        even: Any = bgr
        if height % 2 or width % 2:
            even = cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        planes: Any = cv2.cvtColor(even, cv2.COLOR_BGR2YUV_I420)
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts = pts
        frame.time_base = Fraction(1, TICKS_PER_S)
        second = pts // TICKS_PER_S
        if second > self._last_second:
            frame.pict_type = av.video.frame.PictureType.I
        self._last_pts, self._last_second = pts, second
        self._container.mux(self._stream.encode(frame))

    def close(self) -> bytes:
        """Finishes the clip and returns the MP4.

        Raises:
            EmptyError: no frame was written.
        """
        if self._last_pts < 0:
            raise EmptyError(f"a clip from {self._start_ns} ns has no frames; widen its span")
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return _moov_first(self._file.getvalue())


def clip_ticks(since_start_ns: int) -> int:
    """Converts nanoseconds since a clip's start to its ticks, rounded half up.

    >>> clip_ticks(1_000_000_000)
    90000
    """
    return (2 * since_start_ns * TICKS_PER_S + NS_PER_S) // (2 * NS_PER_S)


def _moov_first(mp4: bytes) -> bytes:
    """Moves `moov` before `mdat` in an MP4 of one track that this module wrote.

    FFmpeg's own `faststart` reopens its output by name, and this output has none.
    """
    if len(mp4) >= 1 << 32:
        # Chunk offsets in stco are 32 bits wide.
        raise ValueError(f"a clip of {len(mp4)} bytes is too long; shorten its span")
    parser = BoxParser(mp4, "clip", len(mp4))
    top = parser.children(Box(b"", 0, len(mp4)))
    table = top[b"moov"]
    start, end = table.start - 8, table.end
    for type_ in (b"trak", b"mdia", b"minf", b"stbl", b"stco"):
        table = parser.children(table)[type_]
    offsets = parser.rows(table, "u4")["f0"]

    moved = (offsets + (end - start)).astype(">u4").tobytes()
    moov = mp4[start : table.end - len(moved)] + moved + mp4[table.end : end]
    head = top[b"ftyp"].end
    return mp4[:head] + moov + mp4[head:start] + mp4[end:]


def encode_jpeg(bgr: Image, quality: int = 90) -> bytes:
    """Encodes a picture, uint8[h, w, 3], as JPEG."""
    done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {bgr.shape} cannot be encoded as JPEG")
    return jpeg.tobytes()


def clip_to_frames(mp4: bytes, fps: float | None, quality: int = 90) -> list[tuple[int, bytes]]:
    """Decodes a clip to JPEG pictures: the payload `frames`, derived from the payload `clip`.

    The pictures have the clip's size, which is even also if the camera's is odd.

    Args:
        mp4: an MP4 from `ClipWriter`.
        fps: maximum rate (the first frame of each step of 1/fps is taken), or None for every
            frame.
        quality: of the JPEG, 1 to 100.

    Returns:
        (t_ns from the clip's start, JPEG), in temporal order.

    Raises:
        CorruptError: the clip cannot be decoded.
    """
    pictures = []
    step = -1
    try:
        with av.open(io.BytesIO(mp4), "r", format="mov", metadata_errors="replace") as container:
            stream: Any = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                t_ns = round(frame.pts * stream.time_base * NS_PER_S)
                at = frame.pts if fps is None else int(frame.pts * stream.time_base * fps)
                if at > step:
                    step = at
                    bgr: Any = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2BGR_I420)
                    pictures.append((t_ns, encode_jpeg(bgr, quality)))
    except (av.error.FFmpegError, IndexError) as error:
        raise CorruptError(
            f"a clip of {len(mp4)} bytes cannot be decoded: {error}; encode it again"
        ) from error
    return pictures
