"""Sparse decoding against full decodes, and by a bar code painted into every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pyarrow as pa
import pytest

from schemas.arrays import Image
from schemas.errors import CorruptError, DataError, UnreadableError
from schemas.records import VideoFile
from schemas.times import NS_PER_S, Span
from transforms.video.decode import Frame, decode_keyframes, decode_window
from transforms.video.demux import index_video

WIDTH, HEIGHT, BITS = 128, 64, 12
ALWAYS = Span(-(10**15), 10**15)


def paint(number: int) -> Image:
    """Paints a number as a bar code: one white bar per set bit."""
    bits = [255 * (number >> bit & 1) for bit in range(BITS)]
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, : BITS * 8] = np.repeat(np.array(bits, np.uint8), 8)[None, :, None]
    return image


def number(image: Image) -> int:
    """Reads the bar code of a decoded picture."""
    return sum(int(image[:, 8 * bit + 2 : 8 * bit + 6].mean() > 127) << bit for bit in range(BITS))


def write_video(
    path: Path,
    pts: Sequence[int],
    base: Fraction,
    *,
    first: int = 0,
    options: dict[str, str] | None = None,
) -> None:
    """Writes one frame per pts, numbered from `first`."""
    x264 = {"preset": "ultrafast", "g": "10", "crf": "20", **(options or {})}
    movie = {"movie_timescale": str(base.denominator)} if path.suffix in {".mp4", ".mov"} else {}
    with av.open(str(path), "w", options=movie) as container:
        stream: Any = container.add_stream("libx264", options=x264)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = base
        for index, at in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(paint(first + index), "bgr24")
            frame.pts, frame.time_base = at, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def index_of(path: Path | str, start_ns: int = 0) -> tuple[VideoFile, pa.Table]:
    """Indexes a file: its record and its rows of `frames`."""
    with fsspec.open(str(path), "rb") as file, av.open(file) as container:
        stream: Any = container.streams.video[0]
        base = stream.time_base
        packets: list[Any] = [p for p in container.demux(stream) if p.pts is not None]
        packets = [packet for packet in packets if not packet.is_discard]
        width, height = stream.width, stream.height
    packets.sort(key=lambda packet: packet.pts)
    t_ns = [start_ns + round((p.pts - packets[0].pts) * base * NS_PER_S) for p in packets]
    table = pa.table(
        {
            "uri": [str(path)] * len(packets),
            "t_ns": pa.array(t_ns, pa.int64()),
            "pts": pa.array([p.pts for p in packets], pa.int64()),
            "is_keyframe": [p.is_keyframe for p in packets],
            "byte_offset": [p.pos for p in packets],
            "byte_size": [p.size for p in packets],
        }
    )
    video = VideoFile(
        "front",
        str(path),
        start_ns,
        t_ns[-1] - start_ns + 1,
        base.numerator,
        base.denominator,
        width,
        height,
    )
    return video, table


def jittered(count: int, seed: int = 1, start: int = 0) -> list[int]:
    """Returns times in units of 1/10000 s, in TeslaCam's steps of 14 to 549."""
    steps = np.random.default_rng(seed).integers(14, 549, count)
    return [int(at) + start for at in np.cumsum(steps) - steps[0]]


def numbers(found: Sequence[Frame]) -> list[int]:
    """Reads every frame's bar code."""
    return [number(frame.image) for frame in found]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_every_window_gives_exactly_its_frames(tmp_path: Path, suffix: str, b_frames: int) -> None:
    path = tmp_path / f"odd name | 100%: {b_frames}.{suffix}"
    base = Fraction(1, 10_000)
    write_video(path, jittered(60), base, options={"bf": str(b_frames)})
    video, frames = index_of(path)
    t_ns = frames["t_ns"].to_pylist()
    for first, last in [(0, 60), (0, 1), (9, 11), (10, 20), (19, 20), (31, 48), (59, 60)]:
        end = t_ns[last] if last < 60 else t_ns[-1] + 1
        found = list(decode_window([video], frames, Span(t_ns[first], end)))
        assert numbers(found) == list(range(first, last))
        assert [frame.t_ns for frame in found] == t_ns[first:last]


def test_frames_that_an_edit_list_hides_are_not_given(tmp_path: Path) -> None:
    """As in TeslaCam, the first pts are negative, and the keyframe among them is hidden."""
    path = tmp_path / "a.mp4"
    pts = jittered(30, start=-550)
    write_video(path, pts, Fraction(1, 10_000))
    video, frames = index_of(path)
    hidden = sum(at < 0 for at in pts)
    assert hidden > 0
    np.testing.assert_array_equal(np.diff(frames["pts"]), np.diff(pts[hidden:]))
    assert numbers(list(decode_window([video], frames, ALWAYS))) == list(range(hidden, 30))


def test_threads_give_the_same_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, jittered(60), Fraction(1, 10_000), options={"bf": "2"})
    video, frames = index_of(path)
    span = Span(frames["t_ns"][13].as_py(), frames["t_ns"][37].as_py())
    one, four = (list(decode_window([video], frames, span, threads=n)) for n in (1, 4))
    assert len(one) == 24
    for a, b in zip(one, four, strict=True):
        assert a.t_ns == b.t_ns
        np.testing.assert_array_equal(a.image, b.image)


def test_a_window_runs_from_one_file_into_the_next(tmp_path: Path) -> None:
    base = Fraction(1, 10_000)
    write_video(tmp_path / "1.mp4", jittered(25, 1), base)
    write_video(tmp_path / "2.mp4", jittered(25, 2), base, first=25)
    video1, frames1 = index_of(tmp_path / "1.mp4")
    video2, frames2 = index_of(tmp_path / "2.mp4", start_ns=5 * NS_PER_S)
    frames = pa.concat_tables([frames2, frames1])
    span = Span(frames1["t_ns"][17].as_py(), frames2["t_ns"][4].as_py())
    found = list(decode_window([video2, video1], frames, span))
    assert numbers(found) == list(range(17, 29))
    assert [f.t_ns for f in found] == sorted(f.t_ns for f in found)


def test_elementary_stream_is_read_by_offset(tmp_path: Path) -> None:
    """Parameter sets are only at the stream's start, and its packets have no pts."""
    write_video(tmp_path / "a.mp4", range(40), Fraction(1, 20), options={"bf": "2"})
    video, frames = index_of(tmp_path / "a.mp4")
    raw, rows = b"", frames.to_pylist()
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream: Any = container.streams.video[0]
        annex_b: Any = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in container.demux(stream):
            for part in annex_b.filter(packet) if packet.pts is not None else []:
                row = next(row for row in rows if row["pts"] == part.pts)
                row["byte_offset"], row["byte_size"] = len(raw), part.size
                row["uri"] = str(tmp_path / "a.h264")
                raw += bytes(part)
    (tmp_path / "a.h264").write_bytes(raw)
    video = replace(video, uri=str(tmp_path / "a.h264"))
    table = pa.Table.from_pylist(rows)
    t_ns = table["t_ns"].to_pylist()
    for first, last in [(0, 5), (13, 27), (38, 40)]:
        end = t_ns[last] if last < 40 else t_ns[-1] + 1
        found = list(decode_window([video], table, Span(t_ns[first], end)))
        assert numbers(found) == list(range(first, last))


def test_keyframes_at_most_so_many_a_second(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, range(0, 2000, 20), Fraction(1, 500), options={"g": "5"})
    video, frames = index_of(path)  # 25 frames/s for 4 s, a keyframe each 0.2 s
    assert numbers(list(decode_keyframes(video, frames, fps=100.0))) == list(range(0, 100, 5))
    assert numbers(list(decode_keyframes(video, frames, fps=1.0))) == [0, 25, 50, 75]
    assert numbers(list(decode_keyframes(video, frames, fps=0.3))) == [0, 85]
    with pytest.raises(ValueError, match="fps"):
        next(decode_keyframes(video, frames, fps=0.0))


def test_remote_files_are_read_through_fsspec(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", jittered(30), Fraction(1, 10_000))
    with fsspec.open("memory://decode/a.mp4", "wb") as file:
        file.write((tmp_path / "a.mp4").read_bytes())
    video, frames = index_of("memory://decode/a.mp4")
    assert numbers(list(decode_window([video], frames, ALWAYS))) == list(range(30))


def test_a_span_without_frames_gives_none(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", range(5), Fraction(1, 20))
    video, frames = index_of(tmp_path / "a.mp4")
    assert list(decode_window([video], frames, Span(10**12, 2 * 10**12))) == []
    assert list(decode_keyframes(video, frames.slice(0, 0), 1.0)) == []


def test_a_damaged_packet_costs_only_its_own_group(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, jittered(40), Fraction(1, 10_000))
    video, frames = index_of(path)
    row = frames.to_pylist()[13]
    body = bytearray(path.read_bytes())
    for at in range(row["byte_offset"], row["byte_offset"] + row["byte_size"]):
        body[at] = 0xFF
    path.write_bytes(body)
    seen = numbers(list(decode_window([video], frames, ALWAYS)))
    assert set(range(13)) | set(range(20, 40)) <= set(seen)
    assert 13 not in seen


def test_a_torn_file_gives_what_it_still_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, jittered(40), Fraction(1, 10_000))
    video, frames = index_of(path)
    path.write_bytes(path.read_bytes()[: frames["byte_offset"][25].as_py()])
    assert numbers(list(decode_window([video], frames, ALWAYS))) == list(range(25))
    late = Span(frames["t_ns"][30].as_py(), frames["t_ns"][35].as_py())
    with pytest.raises(CorruptError, match=r"a\.mkv.*no frame"):
        list(decode_window([video], frames, late))


def test_what_is_not_the_indexed_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, range(20), Fraction(1, 20))
    video, frames = index_of(path)
    with pytest.raises(CorruptError, match="time base"):
        list(decode_window([replace(video, time_base_den=7)], frames, ALWAYS))
    with pytest.raises(CorruptError, match="128x64"):
        list(decode_window([replace(video, width=130)], frames, ALWAYS))
    whole = path.read_bytes()
    for body in (b"", b"a text named .mp4\n" * 50, whole[: len(whole) // 2], b"\0" * 5000):
        path.write_bytes(body)
        with pytest.raises(CorruptError, match=r"a\.mp4"):
            list(decode_window([video], frames, ALWAYS))
    path.unlink()
    with pytest.raises(UnreadableError, match=r"a\.mp4"):
        list(decode_window([video], frames, ALWAYS))


def test_pictures_over_the_limit_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged size must not exhaust the memory."""
    write_video(tmp_path / "a.mp4", range(5), Fraction(1, 20))
    video, frames = index_of(tmp_path / "a.mp4")
    monkeypatch.setattr("transforms.video.decode.MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(CorruptError, match="no frame"):
        list(decode_window([video], frames, ALWAYS))


def test_a_playlist_opens_no_other_address(tmp_path: Path) -> None:
    write_video(tmp_path / "real.mp4", range(20), Fraction(1, 20))
    video, frames = index_of(tmp_path / "real.mp4")
    uri = str(tmp_path / "a.mp4")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nreal.mp4\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.mp4").write_text(playlist)
    frames = frames.set_column(0, "uri", pa.array([uri] * 20))
    with pytest.raises(CorruptError):
        list(decode_window([replace(video, uri=uri)], frames, ALWAYS))


def test_noise_in_the_bytes_raises_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, jittered(20), Fraction(1, 10_000))
    video, frames = index_of(path)
    whole = path.read_bytes()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        body = bytearray(whole)
        for at in rng.integers(0, len(body), 30):
            body[at] = rng.integers(256)
        path.write_bytes(body)
        try:
            found = list(decode_window([video], frames, ALWAYS))
        except DataError:
            continue
        assert {f.t_ns for f in found} <= set(frames["t_ns"].to_pylist())


@pytest.mark.parametrize(
    "name",
    [
        "video/solidWhiteRight.mp4",
        "lerobot/g1/videos/chunk-000/observation.images.cam_high/episode_000001.mp4",
    ],
)
def test_real_videos_equal_a_full_decode(data: Path, name: str) -> None:
    path = data / name
    video, frames = index_of(path)
    t_ns = frames["t_ns"].to_pylist()
    with av.open(str(path)) as container:
        full: dict[int | None, Any] = {}
        for picture in container.decode(video=0):
            full[picture.pts] = picture if picture.time is not None and picture.time < 3 else None
    assert list(full) == frames["pts"].to_pylist()
    for first, last in [(0, 3), (37, 50), (61, 62)]:
        found = list(decode_window([video], frames, Span(t_ns[first], t_ns[last])))
        assert [frame.t_ns for frame in found] == t_ns[first:last]
        for frame, pts in zip(found, list(full)[first:last], strict=True):
            truth = full[pts].to_ndarray(format="bgr24").astype(int)
            # OpenCV and swscale differ in how they place and round the colours.
            assert np.abs(frame.image - truth).mean() < 2


def ingested(path: Path) -> tuple[VideoFile, pa.Table]:
    """Indexes a file as readers do."""
    found = index_video(str(path), "front", 0)
    frames = pa.table(
        {
            "uri": [found.uri] * len(found.t_ns),
            "t_ns": found.t_ns,
            "pts": found.pts,
            "is_keyframe": found.is_keyframe,
            "byte_offset": found.byte_offset,
            "byte_size": found.byte_size,
        }
    )
    size = (found.width, found.height)
    return VideoFile("front", found.uri, 0, found.duration_ns, *found.time_base, *size), frames


def test_a_container_that_was_cut_off_before_its_index_gives_its_pictures(tmp_path: Path) -> None:
    """As a camera leaves an AVI whose power was cut: FFmpeg does not seek to its start."""
    path = tmp_path / "a.avi"
    write_video(path, range(80), Fraction(1, 20), options={"bf": "0"})
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"idx1")])
    video, frames = ingested(path)
    assert numbers(list(decode_window([video], frames, ALWAYS))) == list(range(80))
    for start in (0, 15, 50):
        span = Span(start * NS_PER_S // 20, (start + 12) * NS_PER_S // 20)
        found = numbers(list(decode_window([video], frames, span)))
        assert found == list(range(start, start + 12))
    assert numbers(list(decode_keyframes(video, frames, 2.0))) == list(range(0, 80, 10))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "h264"])
def test_a_file_that_was_replaced_gives_no_other_pictures(tmp_path: Path, suffix: str) -> None:
    """The new file has frames at the same times."""
    path, base = tmp_path / f"a.{suffix}", Fraction(1, 25)
    write_video(path, range(40), base, options={"bf": "0"})
    video, frames = ingested(path)
    assert numbers(list(decode_window([video], frames, ALWAYS))) == list(range(40))
    write_video(path, range(40), base, first=1365, options={"bf": "0", "crf": "35"})
    with pytest.raises(CorruptError, match="the file was replaced; ingest it again"):
        list(decode_window([video], frames, ALWAYS))
