"""index_bytes: bytes of an MP4 file per byte read from it to index its frames."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import Measure
from benchmarks.packet_index import write_minute
from transforms.video.demux import read_video_track


class _Counted(io.FileIO):
    """A raw file that counts the bytes read, including what a buffer reads ahead."""

    bytes_read = 0

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:  # type: ignore[override] # the stubs' Buffer type is from 3.12 on
        count = super().readinto(buffer)
        self.bytes_read += count or 0
        return count


def measure() -> Iterator[Measure]:
    """Indexes one minute of video through a counting file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "front.mp4"
        write_minute(path)
        with _Counted(path) as raw:
            frames = len(read_video_track(io.BufferedReader(raw), str(path)).pts)
            read = raw.bytes_read
        size = path.stat().st_size
        yield Measure(
            "index_bytes",
            size / read,
            1.0,
            "reading the whole file",
            "bytes of the file per byte read",
            f"{read} of {size} bytes for {frames} frames",
        )
