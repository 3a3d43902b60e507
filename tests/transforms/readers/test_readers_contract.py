"""The contract of every row of FORMATS."""

import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
from av import Packet, VideoFrame
from av import open as av_open

from schemas.errors import DataError, is_final
from schemas.recording import Video
from schemas.records import LogRef
from schemas.signals import SIGNAL
from tests.message_logs import drive, write_bag, write_mcap
from tests.recording import Recording, read
from tests.transforms.readers.claims import logs_of, tree_of
from transforms.readers import FORMATS, Format, ReadOptions, Tree
from transforms.readers.discover import discover
from transforms.video.sei import Telemetry, encode_sei


def _clip(path: Path) -> None:
    """A second of grey video with telemetry before every slice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av_open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        grey = np.full((48, 64, 3), 99, np.uint8)
        frames = [VideoFrame.from_ndarray(grey, format="rgb24") for _ in range(25)]
        for k, packet in enumerate(
            [packet for frame in [*frames, None] for packet in stream.encode(frame)]
        ):
            sei = encode_sei(Telemetry(frame_seq_no=k, speed_mps=10.0, heading_rad=0.01 * k))
            copy = Packet(b"\0\0\0\1" + sei + bytes(packet))
            copy.stream, copy.time_base = stream, packet.time_base
            copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            container.mux(copy)


def _teslacam(root: Path) -> Path:
    folder = root / "TeslaCam" / "SentryClips" / "2026-03-17_17-52-09"
    _clip(folder / "2026-03-17_17-50-00-front.mp4")
    return root


def _video(root: Path) -> Path:
    _clip(root / "clip.mp4")
    return root


def _mcap(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    write_mcap(root / "drive.mcap", drive(1.0))
    return root


def _rosbag(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    write_bag(root / "drive.bag", drive(1.0, version=1))
    return root


GENERATORS: dict[str, Callable[[Path], Path]] = {
    "teslacam": _teslacam,
    "mcap": _mcap,
    "rosbag": _rosbag,
    "video": _video,
}
"""Formats whose smallest log is generated here."""
RECORDED = {"comma2k19": "comma2k19", "lerobot": "lerobot/g1"}
"""Formats whose logs are among the recordings."""


def _reader(name: str) -> Format:
    reader: Format = FORMATS.load(name)()
    return reader


@pytest.fixture
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LogRef, ...]:
    """Logs of one format, generated or recorded."""
    name = request.param
    root = (
        GENERATORS[name](tmp_path)
        if name in GENERATORS
        else request.getfixturevalue("data") / RECORDED[name]
    )
    found = tuple(log for log in discover([str(root)]).logs if log.format == name)
    assert found
    return found


def test_every_format_has_a_log_to_be_tested_with() -> None:
    """A new row must bring a generator or a recording."""
    assert set(FORMATS) == GENERATORS.keys() | RECORDED.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_reader_is_what_its_row_says(name: str) -> None:
    """Name, version, and no claims in an empty tree."""
    reader = _reader(name)
    assert reader.name == name
    assert reader.version >= 1
    assert reader.claim(Tree(fsspec.filesystem("memory"), "/nothing", {})) == []


NPY = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,)}"
"""A header that claims 800 GB."""

GARBAGE = [
    "clip.mp4", "clip.hevc", "meta/info.json", "data/chunk-000/episode_000000.parquet",
    "videos/chunk-000/observation.images.front/episode_000000.mp4", "meta/episodes.jsonl",
    "TeslaCam/SavedClips/2026-03-17_17-52-09/2026-03-17_17-50-00-front.mp4",
    "TeslaCam/SavedClips/2026-03-17_17-52-09/2026-99-17_17-50-00-front.mp4",
    "TeslaCam/SavedClips/2026-03-17_17-52-09/event.json",
    "b0c9d2329ad1606b|2018-08-02--08-34-47/40/processed_log/CAN/speed/t",
    "b0c9d2329ad1606b|2018-08-02--08-34-47/40/processed_log/CAN/speed/value",
    "b0c9d2329ad1606b|2018-08-02--08-34-47/40/processed_log/GNSS/live_gnss_ublox/value",
    "b0c9d2329ad1606b|2018-08-02--08-34-47/40/video.hevc",
    "a/b/c/d/e", "drive.mcap", "notes.txt",
]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_garbage_raises_nothing_but_data_errors(name: str, seed: int, tmp_path: Path) -> None:
    """Empty, random, and plausible-looking files under every format's names."""
    rng = np.random.default_rng(seed)
    contents = [b"", rng.bytes(3000), b"{}", b"PAR1" + rng.bytes(64) + b"PAR1",
                NPY, b'{"codebase_version": "v2.1"}',
                b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov"]  # fmt: skip
    for path in GARBAGE:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(contents[rng.integers(len(contents))])
    reader = _reader(name)
    for log in logs_of(reader, str(tmp_path)):
        message = None
        try:
            assert reader.open(log, ReadOptions(native=True)).header.log is log
        except DataError as error:
            message = str(error)
        assert message is None or str(tmp_path) in message, "the message must name the place"


@pytest.mark.parametrize("name", FORMATS)
def test_claims_are_of_the_tree(name: str, tmp_path: Path) -> None:
    """Claimed paths are in the listing, under their base, and make distinct member names."""
    for generator in GENERATORS.values():
        generator(tmp_path)
    tree = tree_of(str(tmp_path))
    for claim in _reader(name).claim(tree):
        assert set(claim.paths) <= set(tree.paths)
        assert all(path.startswith(claim.base) for path in claim.paths)
        assert len(set(claim.paths)) == len(claim.paths)


def _assert_times(recording: Recording) -> None:
    end = recording.duration_ns
    columns = [c.t_ns for c in recording.signals + recording.native]
    columns += [v.t_ns for v in recording.videos]
    columns += [recording.joints.t_ns] if recording.joints else []
    for t_ns in columns:
        assert t_ns.dtype == np.int64
        assert ((t_ns >= 0) & (t_ns < end)).all()
    assert all(0 <= annotation.t_ns < end for annotation in recording.annotations)


def _place(video: Video) -> tuple[str, int, str]:
    return video.camera, int(video.t_ns[0]), video.uri


@pytest.mark.parametrize("logs", FORMATS, indirect=True)
def test_a_log_reads_to_a_recording(logs: tuple[LogRef, ...]) -> None:
    """Times inside the log, signals of the table, videos in order, twice the same."""
    log = logs[0]
    reader = _reader(log.format)
    first, second = (read(reader, log, ReadOptions(native=True)) for _ in range(2))
    assert first.log == log
    assert first.drive_id
    assert first.vehicle_id
    assert first.clock in {"utc", "local", "boot", "none"}
    _assert_times(first)
    names = [channel.name for channel in first.signals]
    assert set(names) <= SIGNAL.keys()
    assert len(set(names)) == len(names)
    assert [_place(v) for v in first.videos] == sorted(_place(v) for v in first.videos)
    for video in first.videos:
        assert (np.diff(video.t_ns) > 0).all()
        assert (np.diff(video.pts) > 0).all()
    assert first.signals or first.joints or first.videos
    for a, b in zip(first.signals + first.native, second.signals + second.native, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.t_ns, b.t_ns)
        np.testing.assert_array_equal(a.values, b.values)
    for v, w in zip(first.videos, second.videos, strict=True):
        np.testing.assert_array_equal(v.byte_offset, w.byte_offset)
        np.testing.assert_array_equal(v.t_ns, w.t_ns)
    assert (first.annotations, first.rejects, first.counts) == (
        second.annotations,
        second.rejects,
        second.counts,
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_log_whose_files_went_away_is_not_rejected_for_good(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As with a mount that is away for a moment: the content is not at fault."""
    here, away = tmp_path / "here", tmp_path / "away"
    if name in GENERATORS:
        GENERATORS[name](here)
    else:
        shutil.copytree(request.getfixturevalue("data") / RECORDED[name], here)
    found = [log for log in discover([str(here)]).logs if log.format == name]
    assert found
    here.rename(away)
    for log in found:
        try:
            reasons = [reject.reason for reject in read(_reader(name), log).rejects]
        except DataError as error:
            reasons = [error.reason]
        assert not all(is_final(reason) for reason in reasons), reasons
