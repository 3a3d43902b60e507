"""Edit lists: by hand, and random ones against libavformat's own demuxer."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest

from transforms.video.edits import Timeline, present
from transforms.video.mp4 import Track, read_index

STEP = 10
GROUP = 4
N = 12
DTS = np.arange(N) * STEP
KEYFRAMES = np.arange(N) % GROUP == 0
NO_OFFSET = np.zeros(N, np.int64)


def apply(*edits: tuple[int, int]) -> Timeline:
    """Applies edits to 12 samples of 10 ticks, a keyframe every fourth, without B-frames."""
    return present(edits, DTS, NO_OFFSET, KEYFRAMES, 0, reordered=False)


@pytest.mark.parametrize("edits", [(), ((70, -1),)])
def test_without_a_media_edit_nothing_changes(edits: tuple[tuple[int, int], ...]) -> None:
    timeline = apply(*edits)
    assert timeline.rows.tolist() == list(range(N))
    assert timeline.dts.tolist() == DTS.tolist()
    assert not timeline.is_hidden.any()


def test_an_edit_takes_the_keyframe_before_it_and_the_one_after_it() -> None:
    timeline = apply((20, 50))
    # [50, 70) starts after the keyframe at 40 and ends at the keyframe at 80.
    assert timeline.rows.tolist() == [4, 5, 6, 7, 8]
    assert timeline.dts.tolist() == [-10, 0, 10, 20, 30]
    assert timeline.is_hidden.tolist() == [True, False, False, True, True]


def test_an_empty_edit_delays_the_media() -> None:
    plain, late = apply((N * STEP, 0)), apply((70, -1), (N * STEP, 0))
    assert (late.dts - plain.dts == 70).all()
    assert late.rows.tolist() == plain.rows.tolist() == list(range(N))
    assert not late.is_hidden.any()


def test_edits_follow_each_other_and_may_repeat_samples() -> None:
    timeline = apply((40, 40), (40, 40), (20, 0))
    shown = ~timeline.is_hidden
    assert timeline.rows[shown].tolist() == [4, 5, 6, 7, 4, 5, 6, 7, 0, 1]
    assert timeline.dts[shown].tolist() == list(range(0, 100, STEP))


def test_an_edit_beyond_the_media_presents_nothing() -> None:
    timeline = apply((40, N * STEP + 100))
    assert timeline.is_hidden.all()


@pytest.fixture(scope="module")
def source() -> bytes:
    """A clip of 40 frames with B-frames and irregular times, `moov` at its end."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {"x264-params": "bframes=2:b-adapt=0:keyint=8"}
        pts = 0
        for k in range(40):
            picture = np.full((48, 64, 3), 6 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = pts
            pts += 1 + k % 3 // 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def with_edits(content: bytes, edits: list[tuple[int, int]]) -> bytes:
    """Replaces the `elst` of an MP4 whose `moov` comes last; durations in movie ticks."""
    table = struct.pack(">II", 0, len(edits))
    table += b"".join(struct.pack(">IiI", duration, time, 1 << 16) for duration, time in edits)
    at = content.index(b"elst") - 4
    size = struct.unpack_from(">I", content, at)[0]
    grown = len(table) + 8 - size
    new = bytearray(content[:at] + struct.pack(">I4s", len(table) + 8, b"elst") + table)
    new += content[at + size :]
    for name in (b"moov", b"trak", b"edts"):
        place = content.index(name) - 4
        struct.pack_into(">I", new, place, struct.unpack_from(">I", content, place)[0] + grown)
    return bytes(new)


def video_track(content: bytes) -> Track:
    """Indexes the one track."""
    (track,) = read_index(io.BytesIO(content), "clip.mp4")
    return track


@pytest.mark.parametrize("seed", range(30))
def test_random_edit_lists_are_applied_as_libavformat_does(source: bytes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = video_track(source)
    media_ticks = int(whole.pts.max() + whole.duration[-1])
    movie_ms = media_ticks * 1000 // whole.time_base[1]
    edits = [(int(rng.integers(1, 300)), -1)] if rng.random() < 0.3 else []
    for _ in range(rng.integers(1, 4)):
        edits.append((int(rng.integers(1, movie_ms)), int(rng.integers(0, media_ticks))))
    content = with_edits(source, edits)
    track = video_track(content)
    with av.open(io.BytesIO(content), "r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert track.pts.tolist() == [packet.pts for packet in packets]
    assert track.dts.tolist() == [packet.dts for packet in packets]
    assert track.byte_offset.tolist() == [packet.pos for packet in packets]
    assert track.is_hidden.tolist() == [packet.is_discard for packet in packets]
