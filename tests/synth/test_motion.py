"""Motion against the kinematic bicycle model and against its own derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from synth.motion import EARTH_RADIUS_M, STEERING_RATIO, WHEELBASE_M, Motion, drive
from synth.profiles import DT_S, SIM_HZ
from synth.script import Script, write_script
from synth.spec import rng


def test_speed_is_the_derivative_of_position(hours: tuple[Script, Motion]) -> None:
    _, motion = hours
    moved = np.hypot(np.diff(motion.x_m), np.diff(motion.y_m)) / DT_S
    middle = (motion.speed_mps[1:] + motion.speed_mps[:-1]) / 2
    np.testing.assert_allclose(moved, middle, atol=0.02)


def test_distance_is_the_integral_of_speed(hours: tuple[Script, Motion]) -> None:
    _, motion = hours
    middle = (motion.speed_mps[1:] + motion.speed_mps[:-1]) / 2
    np.testing.assert_allclose(np.diff(motion.s_m) / DT_S, middle, atol=1e-6)


def test_pose_follows_from_speed_and_yaw_rate(hours: tuple[Script, Motion]) -> None:
    _, motion = hours
    steps = slice(0, 120 * SIM_HZ)
    heading = motion.heading_rad[0] + np.cumsum(motion.yaw_rate_radps[steps]) * DT_S
    x = motion.x_m[0] + np.cumsum(motion.speed_mps[steps] * np.cos(heading)) * DT_S
    y = motion.y_m[0] + np.cumsum(motion.speed_mps[steps] * np.sin(heading)) * DT_S
    away = np.hypot(x - motion.x_m[steps], y - motion.y_m[steps])
    assert motion.s_m[steps][-1] > 500
    assert away.max() < 1.0
    np.testing.assert_allclose(heading, motion.heading_rad[steps], atol=0.02)


def test_bicycle_model(hours: tuple[Script, Motion]) -> None:
    script, motion = hours
    np.testing.assert_allclose(motion.accel_y_mps2, motion.speed_mps * motion.yaw_rate_radps)
    fast = motion.speed_mps > 2
    wheel = (motion.steering_angle_rad - script.torque)[fast] / STEERING_RATIO
    turned = motion.speed_mps[fast] * np.tan(wheel) / WHEELBASE_M
    np.testing.assert_allclose(turned, motion.yaw_rate_radps[fast], atol=1e-9)


def test_acceleration_is_the_derivative_of_speed(hours: tuple[Script, Motion]) -> None:
    _, motion = hours
    gained = np.cumsum(motion.accel_x_mps2) * DT_S
    np.testing.assert_allclose(gained, motion.speed_mps - motion.speed_mps[0], atol=0.05)
    jerk = np.abs(np.diff(motion.accel_x_mps2)) / DT_S
    assert jerk.max() < 45
    assert motion.speed_mps.min() == 0
    assert motion.speed_mps.max() < 40


def test_geographic_positions_are_the_map_on_a_sphere(hours: tuple[Script, Motion]) -> None:
    _, motion = hours
    lat, lon = np.radians(motion.lat_deg), np.radians(motion.lon_deg)
    north = (lat - lat[0]) * EARTH_RADIUS_M
    east = (lon - lon[0]) * EARTH_RADIUS_M * np.cos(lat[0])
    np.testing.assert_allclose(north, motion.y_m - motion.y_m[0], atol=1e-4)
    np.testing.assert_allclose(east, motion.x_m - motion.x_m[0], atol=1e-4)


def test_pedals_agree_with_the_acceleration(hours: tuple[Script, Motion]) -> None:
    _, motion = hours
    for pedal in (motion.accelerator_frac, motion.brake_frac):
        assert pedal.min() >= 0
        assert pedal.max() <= 1.15
    braking = motion.accel_x_mps2 < -1.5
    assert motion.brake_on[braking].all()
    assert not motion.brake_on[(motion.speed_mps > 1) & (motion.accel_x_mps2 > 0)].any()
    assert (motion.accelerator_frac[motion.accel_x_mps2 > 1] > 0.14).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_car_at_rest_does_not_turn(seed: int) -> None:
    motion = drive(write_script(rng(seed, 0, "script"), 120, 6.0), rng(seed, 0, "road"))
    resting = motion.speed_mps == 0
    assert resting.any()
    assert not motion.yaw_rate_radps[resting].any()
    assert not motion.accel_y_mps2[resting].any()


def test_the_car_wanders_but_stays_in_its_lane(hours: tuple[Script, Motion]) -> None:
    script, motion = hours
    off = motion.offset_m - script.offset
    assert 0.1 < np.abs(off).max() <= 0.12 + 0.06 + 0.03
