"""Sample tables against libavformat's own demuxer, and with forged boxes."""

import io
import struct
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from schemas.errors import CorruptError, DataError, EmptyError, TruncatedError, UnsupportedError
from transforms.video.mp4 import Track, read_index


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of B-frames at irregular times, with audio, moov at the end."""
    path = tmp_path_factory.mktemp("mp4") / "source.mp4"
    _ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=size=96x64:rate=30", "-f", "lavfi", "-i", "sine",
        "-t", "4", "-vf", "select='mod(n,3)+eq(mod(n,7),0)'", "-fps_mode", "vfr",
        "-c:v", "libx264", "-preset", "ultrafast", "-bf", "3", "-g", "12",
        "-x264-params", "bframes=3:b-adapt=0:b-pyramid=normal", "-c:a", "aac", str(path),
    )  # fmt: skip
    return path


def _ffmpeg(*arguments: str) -> None:
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments], check=True, timeout=60
    )


def _video_track(path: Path) -> Track:
    with path.open("rb") as file:
        return next(t for t in read_index(file, str(path)) if t.kind == "vide")


def _assert_as_libavformat(path: Path) -> None:
    track = _video_track(path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert stream.time_base is not None
        assert track.time_base == (1, stream.time_base.denominator)
        assert (track.width, track.height) == (stream.width, stream.height)
    assert track.pts.tolist() == [p.pts for p in packets]
    assert track.dts.tolist() == [p.dts for p in packets]
    assert track.byte_offset.tolist() == [p.pos for p in packets]
    assert track.byte_size.tolist() == [p.size for p in packets]
    assert track.is_keyframe.tolist() == [p.is_keyframe for p in packets]
    assert track.is_hidden.tolist() == [p.is_discard for p in packets]


REMUXES: dict[str, tuple[list[str], list[str], str]] = {
    "plain": ([], [], "mp4"),
    "moov first": ([], ["-movflags", "+faststart"], "mp4"),
    "negative offsets": ([], ["-movflags", "negative_cts_offsets"], "mp4"),
    "cut with an edit": (["-ss", "1.3"], [], "mp4"),
    "cut, negative offsets": (["-ss", "1.3"], ["-t", "1", "-movflags", "negative_cts_offsets"],
                              "mp4"),
    "late start": (["-itsoffset", "0.7"], [], "mp4"),
    "mov, ticks of TeslaCam": ([], ["-video_track_timescale", "10000"], "mov"),
    "no edit list": ([], ["-use_editlist", "0"], "mp4"),
}  # fmt: skip


@pytest.mark.parametrize("name", REMUXES)
def test_generated_files_read_as_libavformat_reads_them(
    name: str, source: Path, tmp_path: Path
) -> None:
    """Timestamps, offsets, sizes, keyframes and hidden frames are exactly equal."""
    before, after, suffix = REMUXES[name]
    path = tmp_path / f"remuxed.{suffix}"
    _ffmpeg(*before, "-i", str(source), "-c", "copy", *after, str(path))
    _assert_as_libavformat(path)


def test_negative_first_pts_of_a_teslacam_file(tmp_path: Path) -> None:
    """Frames before the edit have negative times and are hidden; no decoder returns them."""
    path = tmp_path / "front.mp4"
    _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=36", "-t", "2", "-c:v", "libx264",
            "-preset", "ultrafast", "-bf", "0", "-video_track_timescale", "10000",
            str(tmp_path / "whole.mp4"))  # fmt: skip
    _ffmpeg("-ss", "0.056", "-i", str(tmp_path / "whole.mp4"), "-c", "copy",
            "-video_track_timescale", "10000", str(path))  # fmt: skip
    _assert_as_libavformat(path)
    track = _video_track(path)
    assert track.pts[0] < 0
    assert track.is_hidden[0]
    with av.open(str(path)) as container:
        decoded = [frame.pts for frame in container.decode(video=0)]
    assert track.pts[track.presented()].tolist() == decoded


@pytest.mark.parametrize(
    "name",
    [
        "video/solidWhiteRight.mp4",
        "gpmf/max-heromode.mp4",
        "lerobot/g1/videos/chunk-000/observation.images.cam_high/episode_000001.mp4",
    ],
)
def test_real_files_read_as_libavformat_reads_them(data: Path, name: str) -> None:
    """H.264 of a road and of an action camera with four more tracks, and AV1 of a robot."""
    _assert_as_libavformat(data / name)


def test_data_tracks_are_indexed_too(data: Path) -> None:
    """The action camera's telemetry track is found, its audio left out."""
    path = data / "gpmf" / "max-heromode.mp4"
    with path.open("rb") as file:
        tracks = {t.codec: t for t in read_index(file, str(path))}
        payload = tracks["gpmd"]
        file.seek(int(payload.byte_offset[0]))
        assert file.read(4) == b"DEVC"
    assert "mp4a" not in tracks


class _Counting(io.BytesIO):
    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        return content


def test_the_media_is_never_read(source: Path) -> None:
    """Only moov and a few headers are read."""
    content = source.read_bytes()
    at = content.index(b"moov") - 4
    file = _Counting(content)
    read_index(file, "x.mp4")
    assert file.bytes_read <= struct.unpack_from(">I", content, at)[0] + 16 * 8


def test_64_bit_boxes_and_offsets(source: Path) -> None:
    """With a 64-bit mdat and co64 offsets a file has the same index, moved by 8 bytes."""
    content = source.read_bytes()
    mdat = content.index(b"mdat") - 4
    size = struct.unpack_from(">I", content, mdat)[0]
    moov = content[mdat + size :]
    wide = _stco_to_co64(moov, shift=8)
    large = (
        content[:mdat]
        + struct.pack(">I4sQ", 1, b"mdat", size + 8)
        + content[mdat + 8 : mdat + size]
        + wide
    )
    small_track = read_index(io.BytesIO(content), "small")[0]
    large_track = read_index(io.BytesIO(large), "large")[0]
    assert (large_track.byte_offset - small_track.byte_offset == 8).all()
    assert large_track.pts.tolist() == small_track.pts.tolist()


def _stco_to_co64(data: bytes, shift: int) -> bytes:
    """Rewrites boxes with every stco as a co64, the offsets moved by `shift`."""
    out, at = b"", 0
    while at < len(data):
        size, type_ = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + size]
        if type_ in {b"moov", b"trak", b"mdia", b"minf", b"stbl"}:
            body = _stco_to_co64(body, shift)
        elif type_ == b"stco":
            type_ = b"co64"
            offsets = np.frombuffer(body[8:], ">u4").astype(">u8") + np.uint64(shift)
            body = body[:8] + offsets.astype(">u8").tobytes()
        out += struct.pack(">I4s", len(body) + 8, type_) + body
        at += size
    return out


def test_each_kind_of_damage_has_its_own_error(source: Path, tmp_path: Path) -> None:
    """The error class gives the reason of the reject, and the message names the file."""
    content = source.read_bytes()
    fragmented = tmp_path / "fragmented.mp4"
    _ffmpeg("-i", str(source), "-c", "copy", "-movflags", "frag_keyframe+empty_moov",
            str(fragmented))  # fmt: skip
    moov_first = tmp_path / "first.mp4"
    _ffmpeg("-i", str(source), "-c", "copy", "-movflags", "+faststart", str(moov_first))
    first = moov_first.read_bytes()
    cases: list[tuple[bytes, type[DataError]]] = [
        (b"", EmptyError),
        (b"just some text, no video", CorruptError),
        (content[: len(content) // 2], TruncatedError),
        (content[:-20], TruncatedError),
        (first[: len(first) // 2], TruncatedError),
        (fragmented.read_bytes(), UnsupportedError),
    ]
    for damaged, error in cases:
        with pytest.raises(error, match=r"clip\.mp4"):
            read_index(io.BytesIO(damaged), "clip.mp4")


def test_truncation_anywhere_is_a_data_error(source: Path) -> None:
    """Cut at many bytes of moov, and at some before it."""
    content = source.read_bytes()
    moov = content.index(b"moov") - 4
    for cut in [*range(moov, len(content), 37), *range(0, moov, max(1, moov // 50))]:
        with pytest.raises(DataError):
            read_index(io.BytesIO(content[:cut]), "x.mp4")


@pytest.mark.parametrize("seed", range(4))
def test_forged_boxes_raise_nothing_but_data_errors(source: Path, seed: int) -> None:
    """Random bytes, and huge counts and sizes, in a moov of 20 KB."""
    content = source.read_bytes()
    moov = content.index(b"moov") + 4
    rng = np.random.default_rng(seed)
    read = 0
    for _ in range(400):
        forged = bytearray(content)
        for _ in range(rng.integers(1, 6)):
            at = int(rng.integers(moov, len(forged) - 4))
            word = [rng.bytes(1), rng.bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4]
            new = word[rng.integers(len(word))]
            forged[at : at + len(new)] = new
        try:
            read_index(io.BytesIO(bytes(forged)), "x.mp4")
            read += 1
        except DataError:
            pass
    # Both ends of the test are reached: some damage is fatal, some is not.
    assert 0 < read < 400


@pytest.mark.parametrize("box", [b"stsz", b"stts", b"ctts", b"stss", b"stsc", b"stco", b"elst"])
def test_a_forged_count_is_not_allocated(source: Path, box: bytes) -> None:
    """A count of four billion in a table of a few rows is rejected before allocating."""
    content = bytearray(source.read_bytes())
    at = content.index(box) + 4 + (8 if box == b"stsz" else 4)
    content[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(DataError):
        read_index(io.BytesIO(bytes(content)), "x.mp4")


def _box(type_: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), type_) + body


def _hand_made(sizes: bytes, samples: int, delta: int = 40) -> bytes:
    """One video track of 1000 ticks per second, all samples in one chunk at byte 0."""
    entry = _box(b"avc1", bytes(24), struct.pack(">HH", 64, 48), bytes(50))
    table = _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), entry),
        _box(b"stts", struct.pack(">IIII", 0, 1, samples, delta)),
        _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, samples, 1)),
        _box(b"stco", struct.pack(">III", 0, 1, 0)),
        sizes,
    )
    clock = struct.pack(">IIIIII", 0, 0, 0, 1000, 0, 0)
    handler = _box(b"hdlr", bytes(8), b"vide", bytes(13))
    media = _box(b"mdia", _box(b"mdhd", clock), handler, _box(b"minf", table))
    movie = _box(b"moov", _box(b"mvhd", clock, bytes(80)), _box(b"trak", media))
    return _box(b"ftyp", b"isom", bytes(4)) + movie


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (_box(b"stsz", struct.pack(">III", 0, 5, 3)), [5, 5, 5]),
        (_box(b"stz2", struct.pack(">III", 0, 4, 3), b"\x12\x30"), [1, 2, 3]),
        (_box(b"stz2", struct.pack(">III", 0, 8, 3), b"\x01\x20\x03"), [1, 32, 3]),
        (_box(b"stz2", struct.pack(">III", 0, 16, 3), b"\0\x01\0\x20\0\x03"), [1, 32, 3]),
    ],
)
def test_every_way_to_write_sizes(sizes: bytes, expected: list[int]) -> None:
    """One size for all samples, and compact sizes of 4, 8 and 16 bits."""
    (track,) = read_index(io.BytesIO(_hand_made(sizes, 3)), "x.mp4")
    assert track.byte_size.tolist() == expected
    assert track.byte_offset.tolist() == [0, expected[0], expected[0] + expected[1]]
    assert (track.pts.tolist(), track.codec) == ([0, 40, 80], "h264")


def test_sample_tables_beyond_the_file_or_the_limits_are_rejected() -> None:
    """Sixteen million samples of one size, too many samples, invalid widths and durations."""
    for sizes, samples, delta, error in [
        (_box(b"stsz", struct.pack(">III", 0, 1, 1 << 24)), 1 << 24, 1, TruncatedError),
        (_box(b"stsz", struct.pack(">III", 0, 1, 1 << 31)), 1 << 31, 1, UnsupportedError),
        (_box(b"stz2", struct.pack(">III", 0, 7, 3), bytes(8)), 3, 1, CorruptError),
        (_box(b"stsz", struct.pack(">III", 0, 1, 3)), 3, 0xFFFFFFF0, CorruptError),
    ]:
        with pytest.raises(error):
            read_index(io.BytesIO(_hand_made(sizes, samples, delta)), "x.mp4")
