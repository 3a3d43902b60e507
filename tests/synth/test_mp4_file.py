"""MP4 files against two demuxers: our own box parser and libavformat."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from schemas.arrays import IntArray
from synth.encode import BLANK_SIZE, blank_gop
from synth.mp4_file import TICKS_PER_S, Samples, write_mp4
from transforms.video.mp4 import read_index


def _samples(ticks: IntArray, end_tick: int, edit_tick: int) -> tuple[Samples, bytes, bytes]:
    coded, sps, pps = blank_gop()
    frames = [coded[k % len(coded)] for k in range(len(ticks))]
    payloads = [len(frame.nal).to_bytes(4, "big") + frame.nal for frame in frames]
    keyframes = np.array([frame.is_keyframe for frame in frames])
    return Samples(payloads, ticks, keyframes, end_tick, edit_tick), sps, pps


def _uneven(count: int) -> IntArray:
    steps = np.random.default_rng(6).integers(14, 549, count - 1)
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)


@pytest.mark.parametrize("count", [1, 2, 90])
@pytest.mark.parametrize("hidden", [0, 2])
def test_both_demuxers_find_the_samples(tmp_path: Path, count: int, hidden: int) -> None:
    ticks = _uneven(count)
    edit_tick = int(ticks[min(hidden, count - 1)])
    samples, sps, pps = _samples(ticks, int(ticks[-1]) + 300, edit_tick)
    path = tmp_path / "a.mp4"
    with path.open("wb") as out:
        write_mp4(out, samples, (sps, pps), BLANK_SIZE)
    content = path.read_bytes()

    (track,) = read_index(io.BytesIO(content), "a.mp4")
    assert (track.codec, track.width, track.height) == ("h264", *BLANK_SIZE)
    assert track.time_base == (1, TICKS_PER_S)
    assert track.pts.tolist() == (ticks - edit_tick).tolist()
    assert track.is_keyframe.tolist() == samples.is_keyframe.tolist()
    assert track.is_hidden.tolist() == (ticks < edit_tick).tolist()
    assert int(track.duration.sum()) == samples.end_tick
    for offset, size, payload in zip(
        track.byte_offset, track.byte_size, samples.payloads, strict=True
    ):
        assert content[offset : offset + size] == payload

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base == Fraction(1, TICKS_PER_S)
        assert stream.frames == count
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert [packet.pts for packet in packets] == track.pts.tolist()
    assert [packet.is_keyframe for packet in packets] == track.is_keyframe.tolist()
    assert [packet.is_discard for packet in packets] == track.is_hidden.tolist()
    assert [bytes(packet) for packet in packets] == list(samples.payloads)
    assert packets[0].pos == track.byte_offset[0]


def test_a_decoder_shows_the_frames_from_the_edit_on(tmp_path: Path) -> None:
    ticks = _uneven(60)
    samples, sps, pps = _samples(ticks, int(ticks[-1]) + 300, int(ticks[2]))
    path = tmp_path / "a.mp4"
    with path.open("wb") as out:
        write_mp4(out, samples, (sps, pps), BLANK_SIZE)
    with av.open(str(path)) as container:
        shown = [frame.pts for frame in container.decode(video=0)]
        assert container.duration == (samples.end_tick - ticks[2]) * 1_000_000 // TICKS_PER_S
    assert shown == (ticks[2:] - ticks[2]).tolist()


def test_no_creation_time_gets_into_a_file() -> None:
    samples, sps, pps = _samples(_uneven(5), 3000, 0)
    first, second = io.BytesIO(), io.BytesIO()
    write_mp4(first, samples, (sps, pps), BLANK_SIZE)
    write_mp4(second, samples, (sps, pps), BLANK_SIZE)
    content = first.getvalue()
    assert content == second.getvalue()
    for box in (b"mvhd", b"tkhd", b"mdhd"):
        times = content.index(box) + 8  # after type, version and flags
        assert content[times : times + 8] == bytes(8)
