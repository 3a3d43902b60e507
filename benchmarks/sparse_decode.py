"""sparse_decode: frames of short windows decoded per second, against `ffmpeg -ss -t -f null`.

Both use the same windows and threads. The peer discards its frames in the decoder's pixel
format, ours are converted to BGR arrays. The detail gives the peer's rate with that conversion.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pyarrow as pa

from benchmarks import Measure, interleaved
from schemas.records import VideoFile
from schemas.times import NS_PER_S, Span
from transforms.video.decode import decode_window

WIDTH, HEIGHT, FPS, DURATION_S, KEY_EVERY = 1280, 960, 36, 30, 36
WINDOW_S = 5
STARTS_S = (3.4, 9.2, 16.6, 23.9)
THREADS = 1


def measure() -> Iterator[Measure]:
    """Decodes four windows of 5 s from 30 s of 1280x960 H.264 at 36 frames/s."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "drive.mp4")
        _write(path)
        video, frames = _index(path)
        windows = [Span(round(s * NS_PER_S), round((s + WINDOW_S) * NS_PER_S)) for s in STARTS_S]

        def ours() -> int:
            return sum(1 for w in windows for _ in decode_window([video], frames, w, THREADS))

        def peer(*convert: str) -> None:
            for start in STARTS_S:
                _ffmpeg(path, start, *convert)

        count = ours()
        ours_s, peer_s, bgr_s = interleaved(
            [ours, peer, lambda: peer("-pix_fmt", "bgr24")], repeats=3
        )
        yield Measure(
            "sparse_decode",
            count / ours_s,
            count / peer_s,
            "ffmpeg -ss -t -f null",
            "frames/s",
            f"{count} frames of {len(windows)} windows of {WINDOW_S} s, {WIDTH}x{HEIGHT}, "
            f"{THREADS} thread; ours are BGR arrays, the peer's stay 4:2:0; "
            f"with -pix_fmt bgr24 the peer decodes {count / bgr_s:.0f} frames/s",
        )


def _ffmpeg(path: Path, start_s: float, *convert: str) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin"]
    command += ["-threads", str(THREADS), "-ss", str(start_s), "-t", str(WINDOW_S)]
    command += ["-i", str(path), "-an", *convert, "-threads", str(THREADS), "-f", "null", "-"]
    subprocess.run(command, check=True)


def _write(path: Path) -> None:
    """Writes a panning texture with sensor noise at 4 Mbit/s, a dashcam's bit rate."""
    rng = np.random.default_rng(5)
    canvas = np.full((HEIGHT, 2 * WIDTH, 3), 128.0, np.float32)
    for scale in (4, 16, 64):
        coarse = rng.normal(0, 24, (HEIGHT // scale, 2 * WIDTH // scale, 3)).astype(np.float32)
        fine: Any = cv2.resize(coarse, (2 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        canvas += fine
    noise = rng.normal(0, 3, (8, HEIGHT, WIDTH, 3)).astype(np.float32)
    options = {"preset": "veryfast", "profile": "baseline", "g": str(KEY_EVERY), "b": "4M"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FPS * DURATION_S):
            shift = 2 * index % WIDTH
            picture = canvas[:, shift : shift + WIDTH] + noise[index % len(noise)]
            bgr = picture.clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(bgr, "bgr24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _index(path: Path) -> tuple[VideoFile, pa.Table]:
    """Demuxes a file into its record and its rows of the `frames` table."""
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        base = stream.time_base
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
    duration_ns = DURATION_S * NS_PER_S
    num, den = base.numerator, base.denominator
    video = VideoFile("front", str(path), 0, duration_ns, num, den, WIDTH, HEIGHT)
    return video, pa.table(
        {
            "uri": [str(path)] * len(packets),
            "t_ns": [round(packet.pts * base * NS_PER_S) for packet in packets],
            "pts": [packet.pts for packet in packets],
            "is_keyframe": [packet.is_keyframe for packet in packets],
            "byte_offset": [packet.pos for packet in packets],
            "byte_size": [packet.size for packet in packets],
        }
    )
