"""Bare videos as our reader reads them."""

from __future__ import annotations

from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest

from synth.fleet import FleetSpec, write_fleet
from synth.video import FPS
from tests.synth.conftest import recordings


@pytest.mark.parametrize("video", [True, False])
def test_bare_videos(tmp_path: Path, video: bool) -> None:
    spec = FleetSpec(1, 0.05, 2, format="video", width=160, height=120, video=video)
    report = write_fleet(spec, str(tmp_path), truth=True)
    logs = recordings(tmp_path, "video")
    assert set(logs) == set(report.logs)
    (clip,) = logs[report.logs[0]].videos
    assert clip.camera == "front"
    assert not clip.variable_rate
    assert clip.t_ns.tolist() == [k * 40_000_000 for k in range(75)]
    seen = pq.read_table(tmp_path / "truth" / "boxes.parquet")
    assert set(seen["t_ns"].to_pylist()) <= set(clip.t_ns.tolist())
    assert bool(seen.num_rows) == video


def test_the_file_has_no_telemetry_and_no_hidden_frames(tmp_path: Path) -> None:
    spec = FleetSpec(1, 0.05, 2, format="video", width=96, height=64)
    report = write_fleet(spec, str(tmp_path), truth=False)
    with av.open(str(tmp_path / report.logs[0])) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == FPS
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert not any(packet.is_discard for packet in packets)
    for packet in packets:
        content = bytes(packet)
        assert int.from_bytes(content[:4], "big") == len(content) - 4  # a slice and nothing else
