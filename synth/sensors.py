"""Sensor models: the signals that the car reports of its motion, with noise.

Standard deviations at scale 1: acceleration 0.15 m/s2 white (vertical 0.2) and 0.05 bias; speed
0.05 m/s, half of the variance slow, none at standstill (wheel pulses); steering 0.3 degrees; yaw
rate 0.003 rad/s; heading 0.5 degrees slow and 0.02 white (a fused attitude drifts and does not
jitter); position 1.5 m slow. Slow noise is a first-order Gauss-Markov process.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from schemas.arrays import AnyArray, FloatArray
from synth.motion import EARTH_RADIUS_M, Motion
from synth.profiles import DT_S

Columns = dict[str, AnyArray]


def clean(motion: Motion) -> Columns:
    """Returns the true signals at every simulation step, by their names in schemas.signals."""
    return {
        "speed_mps": motion.speed_mps,
        "accel_x_mps2": motion.accel_x_mps2,
        "accel_y_mps2": motion.accel_y_mps2,
        "accel_z_mps2": np.zeros_like(motion.speed_mps),
        "yaw_rate_radps": motion.yaw_rate_radps,
        "steering_angle_rad": motion.steering_angle_rad,
        "accelerator_frac": motion.accelerator_frac,
        "brake_frac": motion.brake_frac,
        "brake_on": motion.brake_on,
        "gear": np.where(motion.parked, "park", "drive"),
        "blinker_left": motion.blinker_left,
        "blinker_right": motion.blinker_right,
        "engaged": motion.engaged,
        "lat_deg": motion.lat_deg,
        "lon_deg": motion.lon_deg,
        "alt_m": np.full_like(motion.speed_mps, 120.0),
        "heading_rad": wrap(motion.heading_rad),
    }


def sense(motion: Motion, rng: np.random.Generator, scale: float) -> Columns:
    """Returns the signals with sensor noise; `scale` 0 gives the true ones."""
    columns = clean(motion)
    if not scale:
        return columns
    n = len(motion.t_s)

    def white(sigma: float) -> FloatArray:
        return np.asarray(rng.standard_normal(n) * (sigma * scale))

    def slow(sigma: float, time_s: float) -> FloatArray:
        keep = float(np.exp(-DT_S / time_s))
        drive = rng.standard_normal(n) * np.sqrt(1 - keep**2)
        drive[0] = rng.standard_normal()
        return np.asarray(lfilter([1.0], [1.0, -keep], drive) * (sigma * scale))

    moving = motion.speed_mps > 0.05
    for axis, sigma in (("x", 0.15), ("y", 0.15), ("z", 0.2)):
        bias = rng.standard_normal() * 0.05 * scale
        shaking = np.where(moving, 1.0, 0.2)
        columns[f"accel_{axis}_mps2"] = (
            columns[f"accel_{axis}_mps2"] + white(sigma) * shaking + bias
        )
    speed = motion.speed_mps + white(0.035) + slow(0.035, 1.0)
    columns["speed_mps"] = np.where(moving, np.maximum(speed, 0.0), 0.0)
    columns["yaw_rate_radps"] = motion.yaw_rate_radps + white(0.003)
    columns["steering_angle_rad"] = motion.steering_angle_rad + white(np.radians(0.3))
    columns["heading_rad"] = wrap(
        motion.heading_rad + slow(np.radians(0.5), 20.0) + white(np.radians(0.02))
    )
    metre = np.degrees(1 / EARTH_RADIUS_M)
    columns["lat_deg"] = motion.lat_deg + slow(1.5, 15.0) * metre
    columns["lon_deg"] = motion.lon_deg + slow(1.5, 15.0) * metre / np.cos(
        np.radians(motion.lat_deg)
    )
    return columns


def wrap(angle_rad: FloatArray) -> FloatArray:
    """Wraps angles to (-pi, pi].

    >>> wrap(np.array([np.pi, -np.pi, 3 * np.pi / 2])).round(4).tolist()
    [3.1416, 3.1416, -1.5708]
    """
    return np.asarray(np.pi - np.mod(np.pi - angle_rad, 2 * np.pi))
