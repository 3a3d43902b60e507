"""The comma2k19 reader: the real segment against its own processed channels, and damage."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pytest

from schemas.errors import DataError, UsageError
from schemas.recording import Channel
from schemas.records import Count, LogRef
from schemas.signals import SIGNAL
from schemas.times import NS_PER_S, Span
from tests.recording import Recording
from tests.transforms.readers.claims import logs_of
from transforms.align import align
from transforms.readers import ReadOptions
from transforms.readers.comma2k19 import Comma2k19
from transforms.readers.discover import discover

ROUTE = "b0c9d2329ad1606b|2018-08-02--08-34-47"
BOOT_S = 46_408.5
SECONDS = 3
DBC = (
    'BU_: X\n\nBO_ 170 WHEEL_SPEEDS: 8 X\n SG_ WHEEL_SPEED_FL : 7|16@0+ (1,0) [0|0] "km/h" X\n'
    ' SG_ WHEEL_SPEED_FR : 23|16@0+ (1,0) [0|0] "km/h" X\n'
    ' SG_ WHEEL_SPEED_RL : 39|16@0+ (1,0) [0|0] "km/h" X\n'
    ' SG_ WHEEL_SPEED_RR : 55|16@0+ (1,0) [0|0] "km/h" X\n\nBO_ 9 LONG: 12 X\n'
    ' SG_ x : 0|8@1+ (1,0) [0|0] "" X\n'
)


def logs(root: str) -> list[LogRef]:
    """Claims the logs under a folder."""
    return logs_of(Comma2k19(), root)


def read(log: LogRef, *dbc: str, native: bool = False) -> Recording:
    """Reads a log."""
    return Recording.of(Comma2k19().open(log, ReadOptions(dbc=dbc, native=native)))


def signal(recording: Recording, name: str) -> Channel:
    """Returns the one signal of a name."""
    (channel,) = (c for c in (*recording.signals, *recording.native) if c.name == name)
    return channel


def npy(array: Any) -> bytes:
    """Saves an array."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """Writes a small segment: every channel that yields signals, and raw CAN."""
    root = tmp_path / ROUTE / "7"
    t_s = BOOT_S + np.arange(SECONDS * 100) / 100
    gnss_s = t_s[::10] + 0.002
    live = np.tile([37.0, -122.0, 10.0, 0.0, 30.0, 90.0], (len(gnss_s), 1))
    live[:, 3] = 1_533_226_488_000 + np.round((gnss_s - BOOT_S) * 1000)
    force = np.tile([0.3, -0.2, -9.7], (len(t_s), 1))
    can = np.zeros((40, 8), np.uint8)
    can[:, [0, 2, 4, 6]] = [[1, 2, 3, 4]]  # 256, 512, 768, 1024: each ends in a zero byte
    files = {
        "CAN/speed/t": t_s,
        "CAN/speed/value": np.full((len(t_s), 1), 10.0),
        "CAN/steering_angle/t": t_s,
        "CAN/steering_angle/value": np.full(len(t_s), 90.0),
        "CAN/radar/t": np.repeat(t_s[::5], 2) + np.tile([0, 1e-5], len(t_s[::5])),
        "CAN/radar/value": np.tile(
            [[40.0, 0.5, -2.0, np.nan, np.nan, 528, 0], [20.0, -3.0, 1.0, np.nan, np.nan, 529, 0]],
            (len(t_s[::5]), 1),
        ),
        "CAN/raw_can/t": t_s[:40],
        "CAN/raw_can/src": np.array([0, 1, 0, 128] * 10),
        "CAN/raw_can/address": np.array([170, 170, 171, 170, 9, 9, 170, 9] * 5),
        "CAN/raw_can/data": can.view("S8")[:, 0],
        "IMU/accelerometer/t": t_s,
        "IMU/accelerometer/value": force,
        "IMU/gyro/t": t_s,
        "IMU/gyro/value": np.tile([0.0, 0.0, -0.1], (len(t_s), 1)),
        "GNSS/live_gnss_ublox/t": gnss_s,
        "GNSS/live_gnss_ublox/value": live,
    }
    for name, array in files.items():
        path = root / "processed_log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(npy(array))
    return root


def test_a_segment_that_gains_what_is_not_read_stays_the_same_log(segment: Path) -> None:
    (before,) = discover([str(segment.parent)]).logs
    for name in ("preview.png", "raw_log.bz2", "global_pose/frame_gps_times", ".DS_Store"):
        (segment / name).parent.mkdir(exist_ok=True)
        (segment / name).write_bytes(b"x")
    (after,) = discover([str(segment.parent)]).logs
    assert (after.log_id, after.members) == (before.log_id, before.members)
    (segment / "processed_log/CAN/speed/t").write_bytes(b"x")
    (other,) = discover([str(segment.parent)]).logs
    assert other.log_id != before.log_id


@pytest.fixture
def real(data: Path) -> LogRef:
    """The segment of the recordings."""
    (log,) = logs(str(data / "comma2k19"))
    return log


def test_the_real_segment_is_one_log_of_a_minute(real: LogRef) -> None:
    recording = read(real, native=True)
    assert recording.drive_id == "b0c9d2329ad1606b_2018-08-02--08-34-47"
    assert (recording.vehicle_id, recording.clock) == ("b0c9d2329ad1606b", "boot")
    assert recording.rejects == ()
    assert 59.9 * NS_PER_S < recording.duration_ns < 60.1 * NS_PER_S
    # The drive began at 08:34:47 local time, 7 h behind UTC, and this is its minute 40.
    begin = np.datetime64("2018-08-02T15:34:47", "ns").astype(int) + 40 * 60 * NS_PER_S
    assert recording.start_ns is not None
    assert abs(recording.start_ns - begin) < 90 * NS_PER_S
    for channel in (*recording.signals, *recording.native):
        assert channel.t_ns.min() >= 0
        assert channel.t_ns.max() < recording.duration_ns


def test_every_frame_of_real_can_is_accounted_for(real: LogRef, data: Path) -> None:
    assert read(real).counts == (Count("ingest", "CAN frames", filtered=135_468),)
    (count,) = read(real, str(data / "dbc/toyota_2017.dbc")).counts
    assert count == Count("ingest", "CAN frames", kept=31_097, filtered=104_371)
    assert count.total == 135_468


def test_real_can_reproduces_the_processed_channels(real: LogRef, data: Path) -> None:
    recording = read(real, str(data / "dbc/toyota_2017.dbc"), native=True)
    wheels = {"FL": "front_left", "FR": "front_right", "RL": "rear_left", "RR": "rear_right"}
    for short, name in wheels.items():
        decoded = signal(recording, f"can/WHEEL_SPEEDS/WHEEL_SPEED_{short}")
        processed = signal(recording, f"CAN/wheel_speed/{name}")
        np.testing.assert_array_equal(decoded.t_ns, processed.t_ns)
        np.testing.assert_allclose(decoded.values / 3.6, processed.values, rtol=0, atol=1e-12)
    angle = signal(recording, "can/STEER_ANGLE_SENSOR/STEER_ANGLE")
    fraction = signal(recording, "can/STEER_ANGLE_SENSOR/STEER_FRACTION")
    processed = signal(recording, "CAN/steering_angle")
    np.testing.assert_array_equal(angle.t_ns, processed.t_ns)
    np.testing.assert_array_equal(angle.values + fraction.values, processed.values)
    plain = read(real)
    for name in ("speed_mps", "steering_angle_rad"):
        ours, theirs = signal(recording, name), signal(plain, name)
        np.testing.assert_array_equal(ours.t_ns, theirs.t_ns)
        np.testing.assert_allclose(ours.values, theirs.values, rtol=0, atol=1e-12)


def test_the_radar_of_a_car_has_a_lead_20_times_a_second(real: LogRef) -> None:
    lead = signal(read(real), "lead_distance_m")
    steps = np.diff(lead.t_ns)
    assert steps.min() > 40e6
    assert np.median(steps) == pytest.approx(50e6, rel=0.01)
    # A lead changes when another one cuts in, and not from cycle to cycle.
    assert (np.abs(np.diff(lead.values)) > 5).sum() < 0.01 * len(steps)


def test_signs_and_axes_agree_with_each_other(real: LogRef, data: Path) -> None:
    """Wheels, gyro, accelerometer, steering, GNSS and CAN are consistent."""

    def on_grid(recording: Recording, name: str) -> Any:
        values = align(recording.signals, Span(0, recording.duration_ns)).column(name).to_numpy()
        return np.convolve(values, np.ones(50) / 50, "same")[100:-100]

    def agree(one: Any, other: Any) -> float:
        return float(np.corrcoef(one, other)[0, 1])

    phone, car = read(real), read(real, str(data / "dbc/toyota_2017.dbc"))
    speed, yaw = on_grid(phone, "speed_mps"), on_grid(phone, "yaw_rate_radps")
    assert agree(on_grid(phone, "accel_x_mps2"), np.gradient(speed)) > 0.8
    assert agree(on_grid(phone, "accel_y_mps2"), speed * yaw) > 0.6
    assert agree(on_grid(phone, "steering_angle_rad"), yaw) > 0.85
    assert agree(on_grid(car, "accel_x_mps2"), on_grid(phone, "accel_x_mps2")) > 0.9
    assert agree(on_grid(car, "accel_y_mps2"), on_grid(phone, "accel_y_mps2")) > 0.8
    north = np.gradient(on_grid(phone, "lat_deg"))
    east = np.gradient(on_grid(phone, "lon_deg")) * np.cos(np.radians(37.7))
    course = on_grid(phone, "heading_rad")
    assert np.median(np.abs(course - np.arctan2(north, east))) < 0.02
    # Where there is a lead, its speed is the derivative of its distance over ours.
    lead = signal(phone, "lead_distance_m")
    assert len(lead.t_ns) > 1000
    assert (signal(phone, "lead_speed_mps").values > 0).all()


def test_a_segment_reads_to_signals_in_si_units(segment: Path) -> None:
    (log,) = logs(str(segment.parent.parent))
    recording = read(log)
    assert log.name == f"{ROUTE}/7"
    assert recording.rejects == ()
    assert recording.duration_ns == round((SECONDS - 0.01) * NS_PER_S) + 1
    assert recording.start_ns == pytest.approx(1_533_226_488_000_000_000, abs=2_000_000)
    want = {
        "speed_mps": 10.0,
        "steering_angle_rad": np.pi / 2,
        "yaw_rate_radps": 0.1,
        "accel_x_mps2": 0.0,
        "accel_y_mps2": 1.0,  # v times yaw rate; the tilt of the phone is gone
        "accel_z_mps2": 0.0,
        "lat_deg": 37.0,
        "lon_deg": -122.0,
        "alt_m": 30.0,
        "heading_rad": 0.0,  # bearing east
        "lead_distance_m": 40.0,  # the nearer track is in another lane
        "lead_speed_mps": 8.0,
    }
    assert [channel.name for channel in recording.signals] == sorted(want)
    for channel in recording.signals:
        np.testing.assert_allclose(channel.values, want[channel.name], atol=1e-9)
        assert channel.name in SIGNAL


def test_with_a_database_can_overrides_the_processed_speed(segment: Path, tmp_path: Path) -> None:
    dbc = tmp_path / "car.dbc"
    dbc.write_text(DBC)
    (log,) = logs(str(segment))
    recording = read(log, str(dbc), native=True)
    speed = signal(recording, "speed_mps")
    # Trailing zero bytes of a payload are part of it.
    assert set(speed.values.tolist()) == {(256 + 512 + 768 + 1024) / 4 * (1 / 3.6)}
    assert signal(recording, "can/WHEEL_SPEEDS/WHEEL_SPEED_RR").values.tolist() == [1024.0] * 10
    # Of 20 frames on bus 0, 10 are wheel speeds, 5 of no known id, 5 too short for theirs.
    assert recording.counts == (Count("ingest", "CAN frames", kept=10, filtered=25, rejected=5),)


@pytest.mark.parametrize("separator", ["|", "_"])
def test_the_folder_names_drive_and_vehicle(segment: Path, separator: str) -> None:
    route = segment.parent.rename(segment.parent.parent / ROUTE.replace("|", separator))
    (log,) = logs(str(route.parent))
    assert read(log).drive_id == ROUTE.replace("|", "_")
    other = route.rename(route.parent / "elsewhere")
    (log,) = logs(str(other))
    assert (read(log).vehicle_id, log.name) == ("unknown", "7")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda content: content[:-8],
    "text": lambda _: b"t,value\n0,1\n",
    "objects": lambda _: npy(np.array([{}], dtype=object)),
    "scalar": lambda _: npy(np.float64(1)),
    "longer": lambda _: npy(np.zeros((9999, 2))),
    "huge": lambda content: content.replace(b"'shape': (", b"'shape': (99999999"),
    "nan": lambda _: npy(np.full(40, np.nan)),
    "strays": lambda _: npy(np.arange(40.0) * 1e300),
}


@pytest.mark.parametrize("damage", sorted(DAMAGE))
@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("CAN/speed/t", {"speed_mps"}),
        ("CAN/speed/value", {"speed_mps"}),
        ("IMU/accelerometer/value", {"accel_x_mps2", "accel_y_mps2", "accel_z_mps2"}),
        ("CAN/raw_can/t", set()),
        ("CAN/raw_can/data", set()),
    ],
)
def test_a_damaged_channel_is_one_reject(
    segment: Path, damage: str, name: str, lost: set[str]
) -> None:
    path = segment / "processed_log" / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    (log,) = logs(str(segment))
    recording = read(log)
    assert len(recording.rejects) == 1
    reject = recording.rejects[0]
    place = "/".join(name.split("/")[:2])
    assert place in reject.uri
    assert place in reject.detail
    assert (reject.stage, reject.subject) == ("ingest", log.log_id)
    names = {channel.name for channel in recording.signals}
    assert not lost & names
    assert {"steering_angle_rad", "lat_deg"} <= names
    assert (recording.counts == ()) == name.startswith("CAN/raw_can")


def test_half_a_channel_is_a_reject_and_an_empty_one_is_none(segment: Path) -> None:
    (segment / "processed_log/CAN/speed/value").unlink()
    for part, array in (("t", np.zeros(0)), ("value", np.zeros((0, 7)))):
        (segment / "processed_log/CAN/radar" / part).write_bytes(npy(array))
    (log,) = logs(str(segment))
    assert ["CAN/speed" in reject.uri for reject in read(log).rejects] == [True]


def test_values_that_are_no_numbers_do_not_spread(segment: Path) -> None:
    path = segment / "processed_log/IMU/accelerometer/value"
    values = np.load(path)
    values[100] = [np.inf, -np.inf, np.nan]
    path.write_bytes(npy(values))
    (log,) = logs(str(segment))
    channel = signal(read(log), "accel_y_mps2")
    assert np.isnan(channel.values).sum() < 30
    np.testing.assert_allclose(channel.values[~np.isnan(channel.values)], 1.0, atol=1e-6)


def test_a_segment_without_anything_usable_is_a_data_error(segment: Path) -> None:
    for path in sorted(segment.rglob("*")):
        if path.is_file():
            path.write_bytes(b"lost")
    (log,) = logs(str(segment))
    with pytest.raises(DataError, match="nothing of this segment"):
        read(log)


def test_a_bad_database_is_a_usage_error(segment: Path, tmp_path: Path) -> None:
    (log,) = logs(str(segment))
    with pytest.raises(UsageError, match=r"gone\.dbc"):
        read(log, str(tmp_path / "gone.dbc"))


def test_reading_twice_and_from_memory_gives_the_same(segment: Path) -> None:
    (log,) = logs(str(segment))
    memory = fsspec.filesystem("memory")
    memory.put(str(segment), f"/{ROUTE}/7", recursive=True)
    (copy,) = logs(f"memory:///{ROUTE}")
    one, two = read(log, native=True), read(copy, native=True)
    memory.rm(f"/{ROUTE}", recursive=True)
    assert replace(one, log=copy, signals=(), native=()) == replace(two, signals=(), native=())
    for a, b in zip(one.signals + one.native, two.signals + two.native, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.t_ns, b.t_ns)
        np.testing.assert_array_equal(a.values, b.values)


def write_hevc(path: Path, frames: int) -> None:
    """Encodes a raw HEVC stream."""
    with av.open(str(path), "w", format="hevc") as container:
        stream = container.add_stream("libx265", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.options = {"x265-params": "log-level=none:bframes=0"}
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index, np.uint8), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 20)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_frames_take_the_times_of_the_pose_table(segment: Path) -> None:
    write_hevc(segment / "video.hevc", 12)
    (log,) = logs(str(segment))
    (video,) = read(log).videos
    assert (video.camera, video.codec, len(video.t_ns)) == ("front", "hevc", 12)
    assert video.t_ns.tolist() == [index * NS_PER_S // 20 for index in range(12)]
    poses = segment / "global_pose/frame_times"
    poses.parent.mkdir()
    poses.write_bytes(npy(BOOT_S + 0.5 + np.arange(12) * 0.051))
    (log,) = logs(str(segment))
    (video,) = read(log).videos
    np.testing.assert_allclose(video.t_ns / NS_PER_S, 0.5 + np.arange(12) * 0.051, atol=1e-9)
    # A table that is too short tells where the video begins.
    poses.write_bytes(npy(BOOT_S + 3.0 + np.arange(7) * 0.051))
    (log,) = logs(str(segment))
    recording = read(log)
    (video,) = recording.videos
    np.testing.assert_allclose(video.t_ns / NS_PER_S, 3.0 + np.arange(12) / 20, atol=1e-9)
    (reject,) = recording.rejects
    assert "7 times, and the video 12 frames" in reject.detail
    poses.write_bytes(npy(BOOT_S + 0.5 + np.arange(12) * 0.051))
    (segment / "video.hevc").write_bytes(b"")
    (log,) = logs(str(segment))
    recording = read(log)
    assert [reject.uri for reject in recording.rejects] == [str(segment / "video.hevc")]
    assert recording.videos == ()
