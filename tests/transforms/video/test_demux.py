"""The packet index of files in any container, against the decoder's output."""

import subprocess
from pathlib import Path

import av
import fsspec
import imageio_ffmpeg
import numpy as np
import pytest

from schemas.errors import (
    CorruptError,
    DataError,
    EmptyError,
    TruncatedError,
    UnreadableError,
    UnsupportedError,
)
from transforms.video.demux import index_video


def _make(path: Path, *arguments: str) -> Path:
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi",
            "-i", "testsrc2=size=96x64:rate=25", "-t", "2", "-c:v", "libx264",
            "-preset", "ultrafast", "-g", "10", "-bf", "2", *arguments, str(path),
        ],
        check=True,
        timeout=60,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts", "avi"])
def test_times_are_those_of_the_decoded_frames(tmp_path: Path, suffix: str) -> None:
    """Every presented frame once, in order, at the decoder's timestamp."""
    path = _make(tmp_path / f"a.{suffix}", *(["-bf", "0"] if suffix == "avi" else []))
    video = index_video(str(path), "front", 7)
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        assert base is not None
        decoded = [(f.pts, f.key_frame) for f in container.decode(video=0) if f.pts is not None]
    assert video.pts.tolist() == [pts for pts, _ in decoded]
    assert video.is_keyframe.tolist() == [key for _, key in decoded]
    expected = [7 + round((pts - decoded[0][0]) * base * 1_000_000_000) for pts, _ in decoded]
    assert np.abs(video.t_ns - np.array(expected)).max() <= 1
    assert (video.width, video.height, video.codec) == (96, 64, "h264")
    assert not video.variable_rate
    assert video.duration_ns == pytest.approx(2_000_000_000, abs=2_000_000)


def test_fragments_are_put_together(tmp_path: Path) -> None:
    """A fragmented MP4 has the same index as the plain one."""
    plain = index_video(str(_make(tmp_path / "a.mp4")), "front", 0)
    parts = _make(tmp_path / "b.mp4", "-movflags", "frag_keyframe+empty_moov")
    assert index_video(str(parts), "front", 0).t_ns.tolist() == plain.t_ns.tolist()


@pytest.mark.parametrize("fps", [None, 12.5])
def test_a_raw_stream_runs_at_the_given_rate(tmp_path: Path, fps: float | None) -> None:
    """An H.264 elementary stream has no timestamps: 20 frames per second by default."""
    path = _make(tmp_path / "a.h264", "-bf", "0")
    video = index_video(str(path), "front", 0, fps)
    assert len(video.t_ns) == 50
    assert video.t_ns.tolist() == [round(k * 1e9 / (fps or 20)) for k in range(50)]
    assert int(video.byte_offset[-1] + video.byte_size[-1]) == path.stat().st_size


def test_an_irregular_rate_is_told(tmp_path: Path) -> None:
    """Dropping every fifth frame makes the rate variable."""
    path = _make(tmp_path / "a.mp4", "-vf", "select='mod(n,5)'", "-fps_mode", "vfr")
    assert index_video(str(path), "front", 0).variable_rate


def test_any_filesystem_will_do(tmp_path: Path) -> None:
    """A file in memory:// has the same index as the local one."""
    path = _make(tmp_path / "a.mp4")
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/demux|test/a #1.mp4", path.read_bytes())
    there = index_video("memory://demux|test/a #1.mp4", "front", 0)
    assert there.byte_offset.tolist() == index_video(str(path), "front", 0).byte_offset.tolist()


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "hevc"])
def test_each_kind_of_damage_has_its_reason(tmp_path: Path, suffix: str) -> None:
    """Text is corrupt, no bytes are empty, a missing file is unreadable; all name the file."""
    path = tmp_path / f"x.{suffix}"
    with pytest.raises(UnreadableError, match=path.name):
        index_video(str(path), "front", 0)
    path.write_bytes(b"")
    with pytest.raises(EmptyError, match=path.name):
        index_video(str(path), "front", 0)
    path.write_text("These are words. " * 300)
    with pytest.raises((CorruptError, EmptyError), match=path.name):
        index_video(str(path), "front", 0)


def test_half_a_file_is_truncated_wherever_its_index_lies(tmp_path: Path) -> None:
    """Cut in the middle, with moov at the end and at the start."""
    for name, flags in (("end.mp4", ""), ("start.mp4", "+faststart")):
        path = _make(tmp_path / name, *(["-movflags", flags] if flags else []))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(TruncatedError, match=name):
            index_video(str(path), "front", 0)


def test_a_playlist_opens_nothing_else(tmp_path: Path) -> None:
    """A playlist with a video's suffix must not cause the files that it names to be opened."""
    secret = _make(tmp_path / "secret.ts")
    path = tmp_path / "x.ts"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n")
    with pytest.raises(DataError):
        index_video(str(path), "front", 0)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi", "h264"])
def test_damaged_containers_raise_nothing_but_data_errors(tmp_path: Path, suffix: str) -> None:
    """Random bytes in, and truncations of, containers that libavformat reads."""
    path = _make(tmp_path / f"x.{suffix}", "-bf", "0")
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(25):
        forged = bytearray(content[: rng.integers(1, len(content))])
        for _ in range(20):
            forged[rng.integers(len(forged))] = int(rng.integers(256))
        path.write_bytes(forged)
        try:
            video = index_video(str(path), "front", 0)
        except DataError:
            continue
        assert (np.diff(video.pts) >= 0).all()
        assert video.duration_ns > int(video.t_ns[-1])


@pytest.mark.parametrize(("suffix", "container"), [("h264", "h264"), ("avi", "avi")])
def test_b_frames_without_presentation_times_are_unsupported(
    tmp_path: Path, suffix: str, container: str
) -> None:
    """Their frames would silently be indexed in the wrong order."""
    path = tmp_path / f"b.{suffix}"
    for b_frames in (0, 2):
        with av.open(str(path), "w", format=container) as out:
            stream = out.add_stream("libx264", rate=25, options={"bf": str(b_frames)})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for k in range(20):
                picture = np.full((48, 64, 3), 12 * k, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            out.mux(stream.encode())
        if b_frames:
            with pytest.raises(UnsupportedError, match="remux it"):
                index_video(str(path), "front", 0)
        else:
            assert len(index_video(str(path), "front", 0).pts) == 20
