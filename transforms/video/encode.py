"""Encoding: frames to H.264 clips and to JPEG, with equal bytes for equal frames."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from schemas.arrays import Image
from schemas.errors import CorruptError, EmptyError
from schemas.times import NS_PER_S

TICKS_PER_S = 90_000
"""A clip's time base, in the media and in its edit list."""

# What OpenCV converts to: ITU-R BT.601 (AVCOL_SPC_SMPTE170M), limited range (AVCOL_RANGE_MPEG).
_COLORSPACE, _COLOR_RANGE = 6, 1


class ClipWriter:
    """Encodes frames into an MP4 as they come; memory holds only the encoded clip.

    H.264 4:2:0 in one thread, without B-frames, with a keyframe first in each second. A pts
    is the time since `start_ns`, rounded to 1/90000 s, so a variable rate survives and the
    first pts may be above 0. `moov` comes before the pictures, so a loader can stream. A
    picture of odd width or height is padded by its last column or row: 4:2:0 has no odd
    sizes, and pixel coordinates stay what they were.

    Args:
        width: of every frame, px.
        height: of every frame, px.
        start_ns: the time that becomes pts 0.
        crf: x264's constant rate factor, lower is better.
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
            # Empty edits are in units of the movie's time scale, 1 ms unless told.
            options={"fflags": "+bitexact", "movie_timescale": str(TICKS_PER_S)},
        )
        self._stream: Any = self._container.add_stream(
            "libx264",
            options={
                "crf": str(crf),
                "preset": preset,
                "forced-idr": "1",
                "flags": "+bitexact",
                # x264's macroblock tree reads memory that nobody wrote, so equal frames would
                # not always give equal bytes; it also starves what is new in a picture.
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
        """Encodes one frame, uint8[height, width, 3], later than the one before.

        Raises:
            ValueError: the picture has another size, or the time does not rise.
        """
        pts = clip_ticks(t_ns - self._start_ns)
        if bgr.shape != self._shape:
            raise ValueError(f"frame at {t_ns} ns is {bgr.shape}, the clip is {self._shape}")
        if pts <= self._last_pts:
            raise ValueError(f"frame at {t_ns} ns is not after the one before (pts {pts})")
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
        """Ends the clip and returns the MP4.

        Raises:
            EmptyError: no frame was written.
        """
        if self._last_pts < 0:
            raise EmptyError(f"a clip from {self._start_ns} ns has no frames; widen its span")
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return _moov_first(self._file.getvalue())


def clip_ticks(since_start_ns: int) -> int:
    """Rounds nanoseconds since a clip's start to its ticks, halves up.

    >>> clip_ticks(1_000_000_000)
    90000
    """
    return (2 * since_start_ns * TICKS_PER_S + NS_PER_S) // (2 * NS_PER_S)


def _moov_first(mp4: bytes) -> bytes:
    """Moves `moov` before `mdat` in an MP4 of one track that this module wrote.

    FFmpeg's own `faststart` reopens its output by name, and this one has none.
    """
    boxes = _boxes(mp4, 0, len(mp4))
    start, end = boxes[b"moov"]
    moov = bytearray(mp4[start:end])
    first, last = 0, len(moov)
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco"):
        first, last = _boxes(moov, first, last)[kind]
        first += 8
    # stco: version and flags, a count, then where each run of pictures begins in the file.
    offsets = np.frombuffer(moov[first + 8 : last], ">u4")
    if int(offsets[-1]) + len(moov) >= 1 << 32:
        raise ValueError(f"a clip of {len(mp4)} bytes is too long; shorten its span")
    moov[first + 8 : last] = (offsets + len(moov)).astype(">u4").tobytes()
    head = boxes[b"ftyp"][1]
    return mp4[:head] + bytes(moov) + mp4[head:start] + mp4[end:]


def _boxes(mp4: bytes | bytearray, first: int, last: int) -> dict[bytes, tuple[int, int]]:
    """Finds the boxes that lie side by side in [first, last): kind to [start, end)."""
    boxes = {}
    while first < last:
        size, kind = struct.unpack_from(">I4s", mp4, first)
        if size < 8:
            raise ValueError("a clip over 4 GiB is too long; shorten its span")
        boxes[kind] = (first, first + size)
        first += size
    return boxes


def encode_jpeg(bgr: Image, quality: int = 90) -> bytes:
    """Encodes a picture, uint8[h, w, 3], as JPEG."""
    done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {bgr.shape} cannot be a JPEG")
    return jpeg.tobytes()


def clip_to_frames(mp4: bytes, fps: float | None, quality: int = 90) -> list[tuple[int, bytes]]:
    """Turns a clip into JPEG pictures: the payload `frames`, derived from the payload `clip`.

    They have the clip's size: even, where the camera's was odd.

    Args:
        mp4: what `ClipWriter` returned.
        fps: at most so many pictures a second (of those in one step of 1/fps the first),
            or None for every frame.
        quality: of the JPEG, 1 to 100.

    Returns:
        (t_ns from the clip's start, JPEG), in the order of time.

    Raises:
        CorruptError: the bytes are not a clip that decodes.
    """
    pictures = []
    step = -1
    try:
        with av.open(io.BytesIO(mp4), "r", format="mov", metadata_errors="replace") as container:
            stream: Any = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                t_ns = round(frame.pts * stream.time_base * NS_PER_S)
                now = frame.pts if fps is None else int(frame.pts * stream.time_base * fps)
                if now > step:
                    step = now
                    bgr: Any = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2BGR_I420)
                    pictures.append((t_ns, encode_jpeg(bgr, quality)))
    except (av.error.FFmpegError, IndexError) as error:
        raise CorruptError(f"a clip of {len(mp4)} bytes does not decode: {error}") from error
    return pictures
