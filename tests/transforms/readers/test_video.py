"""Video files without a known layout: one log each."""

from pathlib import Path

import pytest

from schemas.errors import CorruptError, EmptyError, TruncatedError
from tests.recording import read
from transforms.readers.discover import discover
from transforms.readers.video import BareVideo, camera_of


def test_a_road_video_is_one_log(data: Path) -> None:
    """221 frames at 25 per second, no signals, no clock."""
    (log,) = discover([str(data / "video" / "solidWhiteRight.mp4")]).logs
    recording = read(BareVideo(), log)
    (video,) = recording.videos
    assert (video.camera, video.codec, len(video.t_ns)) == ("front", "h264", 221)
    assert recording.duration_ns == 221 * 40_000_000
    assert video.t_ns.tolist() == [k * 40_000_000 for k in range(221)]
    assert (recording.clock, recording.signals) == ("none", ())


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", EmptyError), (b"words, only words", CorruptError), (b"half", TruncatedError)],
)
def test_a_broken_file_is_refused_with_its_reason(
    data: Path, tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    """Discovery claims damaged files too; reading them raises an error that names the file."""
    real = (data / "video" / "solidWhiteRight.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(real[: len(real) // 2] if content == b"half" else content)
    (log,) = discover([str(tmp_path)]).logs
    with pytest.raises(error, match=r"clip\.mp4"):
        read(BareVideo(), log)


@pytest.mark.parametrize(
    ("path", "camera"),
    [
        ("a.mp4", "front"),
        ("drive/REAR.mkv", "rear"),
        ("left_repeater/0001.mp4", "left_repeater"),
        ("2026-01-01-right_pillar.mp4", "right_pillar"),
        ("upright/bright.mp4", "front"),
        ("back/front.mp4", "front"),
    ],
)
def test_cameras_are_named_by_whole_words(path: str, camera: str) -> None:
    """The file's name has precedence over its folder's; parts of words do not match."""
    assert camera_of(path) == camera
