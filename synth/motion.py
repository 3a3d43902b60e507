"""The motion of the car: a script integrated with a kinematic bicycle model.

The reference point is the middle of the rear axle, where there is no side slip: lateral
acceleration = speed * yaw rate, curvature = tan(road wheel angle) / wheelbase
(Rajamani, Vehicle Dynamics and Control, 2nd edition, section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from synth.profiles import DT_S
from synth.script import Script

WHEELBASE_M = 2.9
STEERING_RATIO = 14.0
EARTH_RADIUS_M = 6_371_000.0


@dataclass(frozen=True, slots=True)
class Motion:
    """The true motion, one entry per simulation step, in SI units.

    Vehicle frame x forward, y left; local map x east, y north. `s_m` is the distance driven,
    `offset_m` the lateral offset to the left of the first lane's centre line, and
    `road_heading_rad` the heading of that line. Headings are not wrapped.
    """

    t_s: FloatArray
    x_m: FloatArray
    y_m: FloatArray
    s_m: FloatArray
    heading_rad: FloatArray
    speed_mps: FloatArray
    accel_x_mps2: FloatArray
    accel_y_mps2: FloatArray
    yaw_rate_radps: FloatArray
    steering_angle_rad: FloatArray
    accelerator_frac: FloatArray
    brake_frac: FloatArray
    brake_on: BoolArray
    parked: BoolArray
    blinker_left: BoolArray
    blinker_right: BoolArray
    engaged: BoolArray
    offset_m: FloatArray
    road_heading_rad: FloatArray
    lat_deg: FloatArray
    lon_deg: FloatArray


def _integral(values: FloatArray) -> FloatArray:
    """Integrates over time by the trapezoidal rule, starting at 0."""
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(middles) * DT_S])


def drive(script: Script, rng: np.random.Generator) -> Motion:
    """Integrates a script; `rng` draws the start position and heading, and the lane wander."""
    speed = np.maximum(0.0, np.concatenate([[0.0], np.cumsum(script.accel[:-1]) * DT_S]))
    speed[speed < 1e-6] = 0.0
    s = _integral(speed)
    wander, slope = _wander(s, rng)
    moving = np.maximum(speed, 1.0)
    tilt = np.arctan(np.gradient(script.offset, DT_S) / moving + slope)
    road_heading = rng.uniform(-np.pi, np.pi) + _integral(script.curvature * speed)
    heading = road_heading + tilt
    yaw_rate = np.where(speed > 0, np.gradient(heading, DT_S), 0.0)
    accel_x = np.gradient(speed, DT_S)
    curvature = np.where(speed > 0.5, yaw_rate / moving, script.curvature)
    wheel = STEERING_RATIO * np.arctan(WHEELBASE_M * curvature) + script.torque
    x, y = _integral(speed * np.cos(heading)), _integral(speed * np.sin(heading))
    lat0, lon0 = rng.uniform(30, 48), rng.uniform(-120, -80)
    standing = speed < 0.05
    drag = 0.02 + 0.00035 * speed**2 / 2
    brake = np.clip((-accel_x - 1.0) / 8, 0, 1) + np.where(standing, 0.15, 0.0)
    return Motion(
        t_s=np.asarray(np.arange(len(speed)) * DT_S, np.float64),
        x_m=x,
        y_m=y,
        s_m=s,
        heading_rad=heading,
        speed_mps=speed,
        accel_x_mps2=accel_x,
        accel_y_mps2=speed * yaw_rate,
        yaw_rate_radps=yaw_rate,
        steering_angle_rad=wheel,
        accelerator_frac=np.where(
            standing & (accel_x <= 0), 0.0, np.clip(accel_x / 7 + drag, 0.0, 1.0)
        ),
        brake_frac=brake,
        brake_on=brake > 0,
        parked=script.parked,
        blinker_left=script.blinker_left,
        blinker_right=script.blinker_right,
        engaged=script.engaged,
        offset_m=script.offset + wander,
        road_heading_rad=road_heading,
        lat_deg=lat0 + np.degrees(y / EARTH_RADIUS_M),
        lon_deg=lon0 + np.degrees(x / EARTH_RADIUS_M / np.cos(np.radians(lat0))),
    )


def _wander(s: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draws the wander within the lane: offset in m, and its derivative by distance driven."""
    offset, slope = np.zeros_like(s), np.zeros_like(s)
    for amplitude, wavelength in ((0.12, 230.0), (0.06, 140.0), (0.03, 90.0)):
        k = 2 * np.pi / (wavelength * rng.uniform(0.9, 1.1))
        start = rng.uniform(0, 2 * np.pi)
        offset += amplitude * np.sin(k * s + start)
        slope += amplitude * k * np.cos(k * s + start)
    return offset, slope
