"""packet_index: frames indexed per second, against ffmpeg's stream copy of the same MP4."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg

from benchmarks import Measure, interleaved
from transforms.video.demux import index_video

SECONDS = 60
FPS = 36


def write_minute(path: Path) -> None:
    """Writes one minute of dashcam-like video at 36 frames/s, about 15 KB per frame."""
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi",
            "-i", f"testsrc2=size=640x480:rate={FPS},noise=alls=8:allf=t", "-t", str(SECONDS),
            "-c:v", "libx264", "-preset", "ultrafast", "-crf", "24", "-bf", "0", "-g", "36",
            "-video_track_timescale", "10000", str(path),
        ],
        check=True,
    )  # fmt: skip


def measure() -> Iterator[Measure]:
    """Times our index and ffmpeg's stream copy to the null muxer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "front.mp4"
        write_minute(path)
        copy = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path),
            "-c", "copy", "-f", "null", "-",
        ]  # fmt: skip
        frames = len(index_video(str(path), "front", 0).t_ns)
        ours_s, peer_s = interleaved(
            [
                lambda: index_video(str(path), "front", 0),
                lambda: subprocess.run(copy, check=True),
            ]
        )
        yield Measure(
            "packet_index",
            frames / ours_s,
            frames / peer_s,
            "ffmpeg -c copy -f null",
            "frames/s",
            f"{frames} frames, {path.stat().st_size / 1e6:.0f} MB, ffmpeg's start-up included",
        )
