"""mcap: messages read to aligned signals per second, against the mcap library's own loop."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from mcap_ros2.reader import read_ros2_messages

from benchmarks import Measure, interleaved
from pipeline.stages.recording_rows import log_rows
from schemas.records import LogRef, Member
from tests.message_logs import drive, write_mcap
from transforms.readers import ReadOptions
from transforms.readers.mcap import Mcap

SECONDS = 300.0


def measure() -> Iterator[Measure]:
    """Reads five minutes of Imu, Odometry, NavSatFix and JointState; the peer only decodes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drive.mcap"
        messages = drive(SECONDS)
        write_mcap(path, messages, chunk_bytes=1 << 20)
        size = path.stat().st_size
        log = LogRef("mcap", path.name, str(path), (Member(path.name, str(path), size),), "0")

        def ours() -> pa.Table:
            return log_rows(Mcap().open(log, ReadOptions())).tables["signals"]

        def theirs() -> int:
            return sum(1 for _ in read_ros2_messages(str(path)))

        own_s, peer_s = interleaved([ours, theirs])
    yield Measure(
        "mcap",
        len(messages) / own_s,
        len(messages) / peer_s,
        "mcap-ros2-support",
        "messages/s",
        f"{len(messages)} messages, {size:,} bytes",
    )
