"""Review proxies: small clips of a constant frame rate, whose pictures are known by their number.

A browser shows a video by time, and a labelling tool counts its frames from that. A recording of
variable rate would put a box on the wrong picture, so a proxy has one frame for each picture of
the clip, in order, at a constant rate: its frame n is the picture at the n-th of the times that
are kept beside it. It plays a little slower or faster than the drive was, and signals beside it
are shown at the same pace (`playback_s`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import ffmpeg
import imageio_ffmpeg
import numpy as np

from schemas.arrays import FloatArray, Image, IntArray
from schemas.errors import CorruptError, FleetError
from schemas.ids import digest
from schemas.times import NS_PER_S
from transforms.video.decode import Frame

VERSION = 1
"""Increases when the same clip gives another proxy."""

_MAX_FPS = 60
_GOP = 12
"""Frames from one keyframe to the next: a browser that seeks decodes at most so many."""


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """How proxies are made: `max_width` in pixels, `crf` as of x264."""

    max_width: int = 960
    crf: int = 26

    @property
    def digest(self) -> str:
        """A digest of all that makes the pixels of a proxy, given its clip."""
        return digest("proxy", VERSION, self.max_width, self.crf)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: an MP4, its frames a second, and int64[n], rising: the time of each frame."""

    mp4: bytes
    fps: int
    t_ns: IntArray


def make_proxy(
    frames: Iterable[Frame], t_ns: IntArray, size: tuple[int, int], spec: ProxySpec
) -> Proxy:
    """Encodes the pictures of a clip as a proxy.

    Args:
        frames: the pictures, in temporal order.
        t_ns: int64[n], rising: the times of the frames that may come, from which the rate follows.
        size: width and height of the camera's pictures, px; a clip may be padded by one pixel.
        spec: how.

    Raises:
        CorruptError: there is no picture.
        FleetError: FFmpeg fails.
    """
    fps = _rate(t_ns)
    inner = _inner(size, spec.max_width)
    shown: list[int] = []
    with tempfile.TemporaryDirectory(prefix="fleetmill-proxy-") as folder:
        path = Path(folder, "proxy.mp4")
        process = _encoder(path, inner, fps, spec.crf)
        try:
            for frame in frames:
                process.stdin.write(_fitted(frame.image, size, inner).tobytes())
                shown.append(frame.t_ns)
        except BrokenPipeError:
            pass  # what FFmpeg says is the reason
        except BaseException:
            process.kill()
            process.wait()
            raise
        said = process.communicate()[1]
        if not shown:
            raise CorruptError("a clip has no pictures; label its event again")
        if process.returncode:
            reason = said.decode(errors="replace").strip()
            raise FleetError(f"FFmpeg cannot write a proxy: {reason}")
        return Proxy(path.read_bytes(), fps, np.array(shown, dtype=np.int64))


def playback_s(t_ns: IntArray, frames_ns: IntArray, fps: int) -> FloatArray:
    """Returns when a proxy shows some instants, in seconds from its start.

    Args:
        t_ns: int64[n], the instants; those outside the frames are as far outside the proxy.
        frames_ns: int64[k], the times of its frames.
        fps: its rate.

    >>> playback_s(np.array([0, 50, 100]), np.array([0, 100, 400]), 10).tolist()
    [0.0, 0.05, 0.1]
    """
    shown = np.arange(len(frames_ns)) / fps
    inside = np.interp(t_ns, frames_ns, shown)
    before = np.minimum(t_ns - frames_ns[0], 0) / NS_PER_S
    after = np.maximum(t_ns - frames_ns[-1], 0) / NS_PER_S
    return np.asarray(inside + before + after, dtype=np.float64)


def _rate(t_ns: IntArray) -> int:
    """Returns the rate nearest to that of most frames, as a whole number, which players keep."""
    if len(t_ns) < 2:
        return 1
    return int(np.clip(round(NS_PER_S / float(np.median(np.diff(t_ns)))), 1, _MAX_FPS))


def _inner(size: tuple[int, int], max_width: int) -> tuple[int, int]:
    """Returns the size of a proxy: even, as 4:2:0 needs it."""
    scale = min(1.0, max_width / size[0])
    width, height = (max(2, 2 * round(side * scale / 2)) for side in size)
    return width, height


def _fitted(image: Image, size: tuple[int, int], inner: tuple[int, int]) -> Image:
    """Cuts a clip's padding off, and scales the picture to the proxy's size."""
    own = image[: size[1], : size[0]]
    if own.shape[1::-1] == inner:
        return np.ascontiguousarray(own)
    return np.asarray(cv2.resize(own, inner, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _encoder(path: Path, inner: tuple[int, int], fps: int, crf: int) -> Any:
    """Starts FFmpeg, which is given raw BGR pictures.

    It encodes in one thread, so that equal pictures give equal bytes.
    """
    pictures = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt="bgr24", s=f"{inner[0]}x{inner[1]}", framerate=fps
    )
    written = pictures.output(
        str(path),
        vcodec="libx264",
        pix_fmt="yuv420p",
        crf=crf,
        preset="veryfast",
        bf=0,
        g=_GOP,
        r=fps,
        threads=1,
        movflags="+faststart",
        fflags="+bitexact",
        loglevel="error",
        **{"flags:v": "+bitexact", "x264-params": "mbtree=0:threads=1"},
    )
    command = imageio_ffmpeg.get_ffmpeg_exe()
    return ffmpeg.run_async(
        written, cmd=command, pipe_stdin=True, pipe_stderr=True, overwrite_output=True
    )
