"""TeslaCam folders, generated with known telemetry, read back."""

import json
import math
import struct
from collections.abc import Callable
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from schemas.errors import CorruptError, DataError
from tests.recording import Recording, read
from transforms.readers import ReadOptions
from transforms.readers.discover import discover
from transforms.readers.teslacam import TeslaCam, yaw_rate
from transforms.video.sei import Telemetry, encode_sei

START = datetime.fromisoformat("2026-03-17T17:50:00")
TICKS = 10_000


def _drive(t: float) -> Telemetry:
    """A left curve of 0.2 rad/s at rising speed, t seconds after the start."""
    heading = math.remainder(3.0 + 0.2 * t, 2 * math.pi)
    return Telemetry(
        frame_seq_no=round(t * 36),
        speed_mps=5 + 2 * t,
        accelerator_frac=0.25,
        steering_angle_rad=0.5,
        heading_rad=heading,
        lat_deg=37.4,
        lon_deg=-122.1,
        accel_x_mps2=2.0,
        gear="drive",
        blinker_left=t > 1,
        autopilot=1 if t > 2 else 0,
    )


def write_clip(
    path: Path,
    times: list[float],
    told: Callable[[float], Telemetry] | None,
    late: float = 0.0,
) -> None:
    """Writes one camera's file: a frame at each time, telemetry in an SEI before its slice.

    The first picture comes `late` seconds into the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=36, options={"preset": "ultrafast", "bf": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS)
        grey = np.full((48, 64, 3), 90, np.uint8)
        pending = []
        for t in times:
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = round((t - times[0]) * TICKS), Fraction(1, TICKS)
            pending += stream.encode(frame)
        pending += stream.encode(None)
        for packet, t in zip(pending, times, strict=True):
            unit = b"\0\0\0\1" + encode_sei(told(t)) if told else b""
            copy = av.Packet(unit + bytes(packet))
            copy.stream, copy.time_base = stream, packet.time_base
            # Within the file's time base, which the muxer chose.
            shift = round(late / packet.time_base)
            assert packet.pts is not None
            assert packet.dts is not None
            copy.pts, copy.dts = packet.pts + shift, packet.dts + shift
            copy.is_keyframe = packet.is_keyframe
            container.mux(copy)


def _frames(start: float, seconds: float) -> list[float]:
    """36 frames a second with a dropped one and jitter, as the vehicle records."""
    k = np.arange(round(seconds * 36))
    t = start + k / 36 + 0.002 * np.sin(k)
    t[0] = start
    return list(np.delete(t, 20))


def _event_folder(root: Path, cameras: tuple[str, ...] = ("front", "back")) -> Path:
    folder = root / "car-7" / "TeslaCam" / "SavedClips" / "2026-03-17_17-52-09"
    for minute in range(2):
        stamp = START + timedelta(seconds=3 * minute)
        for camera in cameras:
            told = _drive if camera == "front" else None
            write_clip(
                folder / f"{stamp:%Y-%m-%d_%H-%M-%S}-{camera}.mp4", _frames(3.0 * minute, 2.9), told
            )
    event = {
        "timestamp": "2026-03-17T17:50:04",
        "est_lat": "37.4",
        "est_lon": "-122.1",
        "reason": "user_interaction_honk",
        "camera": "0",
    }
    (folder / "event.json").write_text(json.dumps(event))
    (folder / "thumb.png").write_bytes(b"\x89PNG")
    return folder


def _read(root: Path, *, native: bool = False) -> Recording:
    (log,) = discover([str(root)]).logs
    return read(TeslaCam(), log, ReadOptions(native=native))


def test_an_event_folder_is_one_log(tmp_path: Path) -> None:
    """Videos, event and telemetry share one clock, and are in the units of schemas.signals."""
    _event_folder(tmp_path)
    recording = _read(tmp_path, native=True)
    assert recording.log.name == "car-7/TeslaCam/SavedClips/2026-03-17_17-52-09"
    assert (recording.vehicle_id, recording.drive_id) == ("car-7", "car-7/2026-03-17")
    assert (recording.clock, recording.start_local) == ("local", "2026-03-17T17:50:00")
    assert recording.rejects == ()
    assert [v.camera for v in recording.videos] == ["back", "back", "front", "front"]
    assert [int(v.t_ns[0]) for v in recording.videos] == [0, 3_000_000_000] * 2
    assert all(v.variable_rate for v in recording.videos)
    expected_t = np.array(_frames(0, 2.9) + _frames(3, 2.9))
    signals = {channel.name: channel for channel in recording.signals}
    t = signals["speed_mps"].t_ns / 1e9
    np.testing.assert_allclose(t, expected_t, atol=1.01e-4)
    np.testing.assert_allclose(signals["speed_mps"].values, 5 + 2 * expected_t, rtol=1e-6)
    np.testing.assert_allclose(signals["steering_angle_rad"].values, 0.5, rtol=1e-6)
    np.testing.assert_allclose(signals["yaw_rate_radps"].values, 0.2, atol=2e-3)
    assert signals["engaged"].values.tolist() == (expected_t > 2).tolist()
    assert set(signals["gear"].values) == {"drive"}
    assert "sei/autopilot" in {channel.name for channel in recording.native}
    (annotation,) = recording.annotations
    assert (annotation.t_ns, annotation.reason, annotation.lat_deg) == (
        4_000_000_000,
        "user_interaction_honk",
        37.4,
    )
    counts = {count.of: count for count in recording.counts}
    assert counts["video files"].kept == 4
    assert counts["video frames"].kept == sum(len(v.t_ns) for v in recording.videos)
    assert counts["telemetry messages"].kept == len(expected_t)


def test_frames_are_at_the_offsets_of_the_index(tmp_path: Path) -> None:
    """The byte range of a frame holds its telemetry and slice, length-prefixed."""
    _event_folder(tmp_path, ("front",))
    video = _read(tmp_path).videos[0]
    content = Path(video.uri).read_bytes()
    for at, size in zip(video.byte_offset[1:].tolist(), video.byte_size[1:].tolist(), strict=True):
        sample = content[at : at + size]
        first = int.from_bytes(sample[:4], "big")
        assert sample[4:6] == b"\x06\x05"
        assert sample[4 + first + 4] & 0x1F in {1, 5}


def test_damaged_files_are_rejects_and_the_others_are_read(tmp_path: Path) -> None:
    """Empty, truncated and foreign files, and a corrupt event, are one reject each."""
    folder = _event_folder(tmp_path, ("front", "back", "left_repeater", "right_repeater"))
    names = sorted(path.name for path in folder.glob("*.mp4"))
    first = [folder / name for name in names[:4]]
    first[0].write_bytes(b"")
    first[1].write_bytes(first[1].read_bytes()[:2000])
    first[2].write_text("not a video at all")
    (folder / "event.json").write_text('{"timestamp": "yester')
    recording = _read(tmp_path)
    assert sorted((Path(r.uri).name, r.reason) for r in recording.rejects) == sorted(
        [
            (names[0], "empty"),
            (names[1], "truncated"),
            (names[2], "corrupt"),
            ("event.json", "corrupt"),
        ]
    )
    assert {r.subject for r in recording.rejects} == {recording.log.log_id}
    assert len(recording.videos) == 5
    assert recording.annotations == ()
    assert recording.counts[0].rejected == 3


def test_telemetry_comes_from_another_camera_if_the_front_has_none(tmp_path: Path) -> None:
    """Without the front file of a minute, the next camera with telemetry is used."""
    folder = tmp_path / "2026-03-17_17-52-09"
    write_clip(folder / "2026-03-17_17-50-00-back.mp4", _frames(0, 2), None)
    write_clip(folder / "2026-03-17_17-50-00-left_pillar.mp4", _frames(0, 2), _drive)
    speed = next(c for c in _read(tmp_path).signals if c.name == "speed_mps")
    assert len(speed.t_ns) == len(_frames(0, 2))


def test_a_log_without_a_usable_file_is_a_data_error(tmp_path: Path) -> None:
    """With only an empty file the log is unusable, and the message names it."""
    folder = tmp_path / "2026-03-17_17-52-09"
    folder.mkdir()
    (folder / "2026-03-17_17-50-00-front.mp4").write_bytes(b"")
    (log,) = discover([str(tmp_path)]).logs
    with pytest.raises(CorruptError, match="2026-03-17_17-52-09"):
        read(TeslaCam(), log)


def test_recent_clips_are_cut_where_recording_paused(tmp_path: Path) -> None:
    """Consecutive minutes are a log, across dated folders and midnight; a pause ends it."""
    recent = tmp_path / "TeslaCam" / "RecentClips"
    write_clip(recent / "2026-03-17" / "2026-03-17_23-59-10-front.mp4", _frames(0, 1), None)
    write_clip(recent / "2026-03-18" / "2026-03-18_00-00-10-front.mp4", _frames(0, 1), None)
    write_clip(recent / "2026-03-18" / "2026-03-18_08-00-00-front.mp4", _frames(0, 1), None)
    logs = discover([str(tmp_path)]).logs
    assert [(log.name, len(log.members)) for log in logs] == [
        ("TeslaCam/RecentClips/2026-03-17_23-59-10", 2),
        ("TeslaCam/RecentClips/2026-03-18_08-00-00", 1),
    ]
    assert [int(v.t_ns[0]) for v in read(TeslaCam(), logs[0]).videos] == [
        0,
        60_000_000_000,
    ]


def test_a_camera_that_starts_late_has_its_pictures_at_their_times(tmp_path: Path) -> None:
    """The other cameras of the minute start with the file."""
    folder = tmp_path / "TeslaCam" / "SavedClips" / "2026-03-17_17-52-09"
    for camera, late in (("front", 0.0), ("left_pillar", 0.917)):
        for minute in range(2):
            stamp = START + timedelta(seconds=4 * minute)
            path = folder / f"{stamp:%Y-%m-%d_%H-%M-%S}-{camera}.mp4"
            write_clip(path, _frames(0.0, 2.9), _drive, late)
    recording = _read(tmp_path)
    starts = [(video.camera, int(video.t_ns[0]) / 1e9) for video in recording.videos]
    assert starts == [
        ("front", 0.0),
        ("front", 4.0),
        ("left_pillar", pytest.approx(0.917, abs=1e-4)),
        ("left_pillar", pytest.approx(4.917, abs=1e-4)),
    ]


def test_a_last_frame_of_an_hour_does_not_move_the_files_after_it(tmp_path: Path) -> None:
    """As a recorder writes that lost power while it closed the file."""
    folder = _event_folder(tmp_path, ("front",))
    path = sorted(folder.glob("*.mp4"))[0]
    content = path.read_bytes()
    at = content.index(b"stts") + 4
    (entries,) = struct.unpack_from(">I", content, at + 4)
    last = at + 8 + 8 * (entries - 1)
    number, _ = struct.unpack_from(">II", content, last)
    assert number == 1, "the last delta is of the last frame alone"
    (timescale,) = struct.unpack_from(">I", content, content.index(b"mdhd") + 4 + 12)
    path.write_bytes(
        content[: last + 4] + struct.pack(">I", 3600 * timescale) + content[last + 8 :]
    )
    recording = _read(tmp_path)
    assert [int(video.t_ns[0]) for video in recording.videos] == [0, 3_000_000_000]
    assert recording.duration_ns < 10 * 1_000_000_000


def test_a_file_whose_pictures_are_an_hour_apart_is_a_reject(tmp_path: Path) -> None:
    folder = _event_folder(tmp_path, ("front",))
    path = sorted(folder.glob("*.mp4"))[0]
    write_clip(path, [*_frames(0.0, 1.0), 3600.0], _drive)
    recording = _read(tmp_path)
    assert [int(video.t_ns[0]) for video in recording.videos] == [3_000_000_000]
    (reject,) = recording.rejects
    assert "s after the one before it" in reject.detail


def test_files_of_one_camera_do_not_overlap(tmp_path: Path) -> None:
    """Stamps are truncated to seconds: a file starts no earlier than the previous one ends."""
    folder = tmp_path / "2026-03-17_17-52-09"
    write_clip(folder / "2026-03-17_17-50-00-front.mp4", _frames(0, 2.5), None)
    write_clip(folder / "2026-03-17_17-50-02-front.mp4", _frames(0, 2.5), None)
    first, second = _read(tmp_path).videos
    assert int(second.t_ns[0]) == first.duration_ns > 2_000_000_000


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"x"',
        "{}",
        "null",
        "[" * 100_000,
        '{"timestamp": 5}',
        '{"timestamp": "2026-99-01T00:00:00"}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_an_invalid_event_loses_only_the_annotation(tmp_path: Path, text: str) -> None:
    """The videos are read whatever is in event.json."""
    folder = _event_folder(tmp_path, ("front",))
    (folder / "event.json").write_text(text)
    recording = _read(tmp_path)
    assert [Path(r.uri).name for r in recording.rejects] == ["event.json"]
    assert len(recording.videos) == 2


@pytest.mark.parametrize("seconds", [-3600, -121, -119, 119, 122, 7200])
def test_an_event_of_another_time_than_the_footage_is_a_reject(
    tmp_path: Path, seconds: int
) -> None:
    """Up to two minutes outside it is put at the log's first or last instant."""
    folder = _event_folder(tmp_path, ("front",))
    read = _read(tmp_path)
    end = 0 if seconds < 0 else read.duration_ns // 10**9
    moment = datetime.fromisoformat(str(read.start_local)) + timedelta(seconds=end + seconds)
    (folder / "event.json").write_text(json.dumps({"timestamp": moment.isoformat()}))
    recording = _read(tmp_path)
    if abs(seconds) < 120:
        (annotation,) = recording.annotations
        assert annotation.t_ns == (0 if seconds < 0 else recording.duration_ns - 1)
        return
    assert recording.annotations == ()
    (reject,) = recording.rejects
    assert (reject.reason, Path(reject.uri).name) == ("corrupt", "event.json")
    assert "is not that of the footage" in reject.detail


def test_a_zero_position_of_an_event_is_dropped(tmp_path: Path) -> None:
    folder = _event_folder(tmp_path, ("front",))
    said = _read(tmp_path).start_local
    event = {"timestamp": said, "est_lat": "0", "est_lon": "0"}
    (folder / "event.json").write_text(json.dumps(event))
    (annotation,) = _read(tmp_path).annotations
    assert (annotation.lat_deg, annotation.lon_deg, annotation.reason) == (None, None, "unknown")


def test_damaged_clips_raise_nothing_but_data_errors(tmp_path: Path) -> None:
    """With random bytes in it, a clip with telemetry is read or is a data error."""
    folder = tmp_path / "2026-03-17_17-52-09"
    path = folder / "2026-03-17_17-50-00-front.mp4"
    write_clip(path, _frames(0, 1), _drive)
    content = path.read_bytes()
    rng = np.random.default_rng(3)
    readable = 0
    for _ in range(150):
        forged = bytearray(content)
        for _ in range(rng.integers(1, 30)):
            forged[rng.integers(len(forged))] = int(rng.integers(256))
        path.write_bytes(forged)
        (log,) = discover([str(tmp_path)]).logs
        try:
            read(TeslaCam(), log)
            readable += 1
        except DataError:
            pass
    assert 0 < readable < 150


def test_the_yaw_rate_is_the_derivative_of_the_heading() -> None:
    """Across the wrap of the heading; NaN at standstill, and windows end at gaps."""
    t = np.delete(np.arange(0, 20, 1 / 36), slice(300, 400))
    rate = 0.3 * np.sin(0.5 * t)
    heading = 3.0 - 0.6 * np.cos(0.5 * t)
    wrapped = np.angle(np.exp(1j * heading))
    speed = np.where(t > 15, 0.5, 10.0)
    found = yaw_rate(np.rint(t * 1e9).astype(np.int64), wrapped, speed)
    moving = t <= 15
    assert np.isnan(found[~moving]).all()
    inner = moving & (np.abs(t - t[299]) > 0.5) & (np.abs(t - t[300]) > 0.5) & (t > 0.5) & (t < 14)
    np.testing.assert_allclose(found[inner], rate[inner], atol=2e-3)
    assert np.abs(found[moving]).max() < 0.31
