"""Signals from channels of a phone and a car whose motion is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.arrays import FloatArray
from schemas.recording import Channel
from schemas.times import NS_PER_S
from transforms.readers.comma2k19_signals import (
    COLUMNS,
    LIVE,
    Samples,
    native_channels,
    signals_of,
    since,
    utc_start,
)

BOOT_S = 46_400.0
GRAVITY = 9.81
T_S = np.asarray(BOOT_S + np.arange(0, 60, 0.01), np.float64)


def found(channels: dict[str, Samples]) -> dict[str, Channel]:
    """Returns the signals by name."""
    signals = list(signals_of(channels, BOOT_S))
    assert len({signal.name for signal in signals}) == len(signals)
    return {signal.name: signal for signal in signals}


def live(t_s: FloatArray, **columns: Any) -> Samples:
    """Makes GNSS fixes, zero but for some columns."""
    values = np.zeros((len(t_s), len(LIVE)))
    for name, column in columns.items():
        values[:, LIVE.index(name)] = column
    return Samples(t_s, values)


def test_times_are_relative_to_the_origin() -> None:
    assert since(BOOT_S + np.array([0.0, 0.5, 59.999]), BOOT_S).tolist() == [
        0,
        NS_PER_S // 2,
        59_999_000_000,
    ]


def test_speed_and_yaw_rate_are_positive_forward_and_to_the_left() -> None:
    signals = found(
        {
            "CAN/speed": Samples(T_S[:2], np.array([[-3.0], [4.0]])),
            "CAN/steering_angle": Samples(T_S[:2], np.array([[90.0], [-180.0]])),
            "IMU/gyro": Samples(T_S[:2], np.array([[0.0, 0.0, 0.5], [0.0, 0.0, -0.25]])),
        }
    )
    assert signals["speed_mps"].values.tolist() == [3.0, 4.0]
    assert signals["steering_angle_rad"].values.tolist() == [np.pi / 2, -np.pi]
    assert signals["yaw_rate_radps"].values.tolist() == [-0.5, 0.25]


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.06, -0.04)])
def test_gravity_and_vibration_are_removed(tilt: tuple[float, float]) -> None:
    forward = 0.8 * np.sin(0.3 * (T_S - BOOT_S))
    yaw_rate = 0.2 * np.sin(0.7 * (T_S - BOOT_S))
    speed = 15 + np.cumsum(forward) * 0.01
    motion = np.stack([forward, speed * yaw_rate, np.zeros(len(T_S))], 1)
    gravity = GRAVITY * np.array([*np.sin(tilt), 1.0])
    vibration = 2 * np.sin(2 * np.pi * 25 * T_S)[:, None]
    signals = found(
        {
            "CAN/speed": Samples(T_S, speed[:, None]),
            "IMU/gyro": Samples(T_S, np.stack([0 * T_S, 0 * T_S, -yaw_rate], 1)),
            "IMU/accelerometer": Samples(T_S, (motion + gravity + vibration) * [1, -1, -1]),
        }
    )
    inner = slice(20, -20)
    for axis, want in zip("xyz", motion.T, strict=True):
        np.testing.assert_allclose(
            signals[f"accel_{axis}_mps2"].values[inner], want[inner], atol=0.12
        )


@pytest.mark.parametrize("apart_s", [1e-4, 2e-3, 7e-3])
def test_the_lead_is_the_nearest_track_of_the_lane_in_each_cycle(apart_s: float) -> None:
    cycles = BOOT_S + np.arange(5) * 0.05
    tracks = [  # forward, left, relative speed
        [60.0, 0.2, -5.0],
        [30.0, -1.4, -1.0],
        [10.0, 1.6, 2.0],  # in another lane
        [-5.0, 0.0, 0.0],  # behind
        [20.0, 0.0, np.nan],  # without a speed
    ]
    rows = np.array([[*track, np.nan, np.nan, 528, 0] for track in tracks])
    values = np.tile(rows, (len(cycles), 1))
    t_s = np.repeat(cycles, len(rows)) + np.tile(np.arange(len(rows)) * apart_s, len(cycles))
    signals = found(
        {
            "CAN/radar": Samples(t_s, values),
            "CAN/speed": Samples(np.array([BOOT_S, BOOT_S + 1]), np.array([[10.0], [20.0]])),
        }
    )
    assert signals["lead_distance_m"].values.tolist() == [30.0] * 5
    t_ns = signals["lead_speed_mps"].t_ns
    np.testing.assert_allclose(t_ns, np.arange(5) * 50_000_000 + apart_s * 1e9, atol=10)
    np.testing.assert_allclose(signals["lead_speed_mps"].values, 9 + t_ns / 1e8)


def test_without_a_track_in_the_lane_there_is_no_lead() -> None:
    radar = Samples(T_S[:3], np.tile([20.0, 4.0, 0, 0, 0, 0, 0], (3, 1)))
    speed = Samples(T_S[:3], np.ones((3, 1)))
    signals = found({"CAN/radar": radar, "CAN/speed": speed})
    assert len(signals["lead_distance_m"].values) == len(signals["lead_speed_mps"].values) == 0
    assert "lead_distance_m" not in found({"CAN/radar": radar})


def test_the_course_is_counter_clockwise_from_east_and_only_while_moving() -> None:
    bearing = np.array([0.0, 90.0, 180.0, 270.0, 45.0])
    fixes = live(T_S[:5], bearing_deg=bearing, speed_mps=[5, 5, 5, 5, 0.5], lat_deg=37.0)
    signals = found({"GNSS/live_gnss_qcom": fixes})
    np.testing.assert_allclose(
        signals["heading_rad"].values, [np.pi / 2, 0, -np.pi / 2, np.pi], atol=1e-12
    )
    assert len(signals["lat_deg"].values) == 5


def test_the_better_receiver_is_used() -> None:
    channels = {
        "GNSS/live_gnss_qcom": live(T_S[:2], lat_deg=1.0),
        "GNSS/live_gnss_ublox": live(T_S[:9], lat_deg=2.0),
    }
    assert found(channels)["lat_deg"].values.tolist() == [2.0] * 9


def test_utc_is_the_median_over_valid_fixes() -> None:
    true_ms = 1_533_226_488_123
    t_s = np.asarray(BOOT_S + np.arange(50) / 10, np.float64)
    utc_ms = true_ms + np.round((t_s - BOOT_S) * 1000)
    utc_ms[:10] = [0, np.nan, 1e300, 9e12, 1, 2, 3, 4, 5, -1]  # invalid
    utc_ms[10:15] += 60_000  # wrong by a minute
    start = utc_start({"GNSS/live_gnss_ublox": live(t_s, utc_ms=utc_ms)}, BOOT_S)
    assert start is not None
    assert abs(start - true_ms * 1_000_000) < 1_000_000
    assert utc_start({"GNSS/live_gnss_ublox": live(t_s, utc_ms=0.0)}, BOOT_S) is None
    assert utc_start({}, BOOT_S) is None


def test_every_column_is_a_native_channel() -> None:
    channels = {
        name: Samples(T_S[:2], np.arange(2.0)[:, None] + np.arange(len(columns)))
        for name, columns in COLUMNS.items()
    }
    native = list(native_channels(channels, BOOT_S))
    assert len(native) == sum(map(len, COLUMNS.values()))
    assert len({channel.name for channel in native}) == len(native)
    assert {"CAN/speed", "CAN/wheel_speed/front_left", "IMU/gyro/down"} <= {c.name for c in native}
    assert next(c for c in native if c.name == "IMU/gyro/down").values.tolist() == [2.0, 3.0]
