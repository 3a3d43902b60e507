"""Vehicle signals from the channels of a comma2k19 segment.

The phone's axes are forward, right, down according to the dataset. On its example segment,
the first axis of the accelerometer follows the derivative of the wheel speed (r = 0.84), the
second the speed times the yaw rate to the right (r = 0.78), the third is -9.7 m/s^2, the
reaction to gravity; the third axis of the gyro is opposite to the steering (r = -0.90).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from schemas.arrays import FloatArray, IntArray
from schemas.recording import Channel
from schemas.times import NS_PER_MS, NS_PER_S

SMOOTH_S = 0.2
"""Window of the mean that removes vibration from the accelerometer."""
MOVING_MPS = 1.0
"""Speed below which the course of a GNSS receiver is noise."""
LANE_HALF_M = 1.5
RADAR_CYCLE_S = 0.02
"""Radar tracks that arrive closer together than this are of the same cycle: the radar sends all of
them within some milliseconds, 20 times a second."""
UTC_RANGE_MS = (946_684_800_000, 4_102_444_800_000)
"""The years 2000 to 2100."""

AXES = ("forward", "right", "down")
LIVE = ("lat_deg", "lon_deg", "speed_mps", "utc_ms", "alt_m", "bearing_deg")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "CAN/speed": ("",),
    "CAN/steering_angle": ("",),
    "CAN/wheel_speed": ("front_left", "front_right", "rear_left", "rear_right"),
    "CAN/radar": ("forward_m", "left_m", "speed_mps", "3", "4", "address", "new_track"),
    "GNSS/live_gnss_qcom": LIVE,
    "GNSS/live_gnss_ublox": LIVE,
    "GNSS/raw_gnss_qcom": tuple("0123456789"),
    "GNSS/raw_gnss_ublox": tuple("0123456789"),
    "IMU/accelerometer": AXES,
    "IMU/gyro": AXES,
    "IMU/gyro_bias": AXES,
    "IMU/gyro_uncalibrated": AXES,
    "IMU/magnetometer": AXES,
    "IMU/magnetometer_uncalibrated": AXES,
}
"""The columns of each channel, with the units that the dataset's documentation states."""


@dataclass(frozen=True, slots=True)
class Samples:
    """One channel: t_s float64[n] ascending, s since boot; values float64[n, c], NaN or finite."""

    t_s: FloatArray
    values: FloatArray


def since(t_s: FloatArray, origin_s: float) -> IntArray:
    """Converts boot times in seconds to int64 nanoseconds since an origin.

    >>> since(np.array([46_400.5, 46_401.0]), 46_400.0).tolist()
    [500000000, 1000000000]
    """
    return np.round((t_s - origin_s) * NS_PER_S).astype(np.int64)


def signals_of(channels: Mapping[str, Samples], origin_s: float) -> Iterator[Channel]:
    """Yields the vehicle signals that the channels of a segment have."""

    def channel(name: str, t_s: FloatArray, values: FloatArray) -> Channel:
        return Channel(name, since(t_s, origin_s), values)

    if speed := channels.get("CAN/speed"):
        yield channel("speed_mps", speed.t_s, np.abs(speed.values[:, 0]))
    if angle := channels.get("CAN/steering_angle"):
        yield channel("steering_angle_rad", angle.t_s, np.radians(angle.values[:, 0]))
    gyro = channels.get("IMU/gyro")
    if gyro:
        yield channel("yaw_rate_radps", gyro.t_s, -gyro.values[:, 2])
    if acceleration := channels.get("IMU/accelerometer"):
        level = _level(acceleration, gyro, speed)
        for axis, values in zip("xyz", level.T, strict=True):
            yield channel(f"accel_{axis}_mps2", acceleration.t_s, values)
    if live := _live(channels):
        for name in ("lat_deg", "lon_deg", "alt_m"):
            yield channel(name, live.t_s, live.values[:, LIVE.index(name)])

        moving = live.values[:, LIVE.index("speed_mps")] >= MOVING_MPS
        bearing = np.radians(live.values[moving, LIVE.index("bearing_deg")])
        course = np.pi - np.mod(np.pi / 2 + bearing, 2 * np.pi)
        yield channel("heading_rad", live.t_s[moving], course)
    radar = channels.get("CAN/radar")
    if radar and speed:
        t_s, distance, lead_speed = _lead(radar, speed)
        yield channel("lead_distance_m", t_s, distance)
        yield channel("lead_speed_mps", t_s, lead_speed)


def native_channels(channels: Mapping[str, Samples], origin_s: float) -> Iterator[Channel]:
    """Yields every column of every channel, as `<channel>/<column>`."""
    for name, samples in channels.items():
        t_ns = since(samples.t_s, origin_s)
        for column, values in zip(COLUMNS[name], samples.values.T, strict=True):
            yield Channel(f"{name}/{column}" if column else name, t_ns, values)


def utc_start(channels: Mapping[str, Samples], origin_s: float) -> int | None:
    """Returns the UTC time of the origin: the median over GNSS fixes of UTC less boot time."""
    live = _live(channels)
    if live is None:
        return None
    utc_ms = live.values[:, LIVE.index("utc_ms")]
    usable = (utc_ms >= UTC_RANGE_MS[0]) & (utc_ms <= UTC_RANGE_MS[1])
    if not usable.any():
        return None
    # float64 resolves UTC in nanoseconds to 256 ns only, so a common base is subtracted first.
    base_ms = int(utc_ms[usable][0])
    offset_ns = (utc_ms[usable] - base_ms) * NS_PER_MS - since(live.t_s[usable], origin_s)
    return base_ms * NS_PER_MS + round(float(np.median(offset_ns)))


def _live(channels: Mapping[str, Samples]) -> Samples | None:
    """Returns the better GNSS receiver: ublox at 10 Hz, else qcom at 0.5 Hz."""
    for name in ("GNSS/live_gnss_ublox", "GNSS/live_gnss_qcom"):
        if name in channels:
            return channels[name]
    return None


def _level(acceleration: Samples, gyro: Samples | None, speed: Samples | None) -> FloatArray:
    """Rotates the accelerometer into the vehicle frame, smooths it and removes gravity.

    The phone is mounted on the windscreen: it is tilted by a few degrees, and its vibration
    is of several m/s^2. Samples are averaged over 0.2 s. Gravity, including the tilt, is
    estimated as the segment's mean less the mean acceleration that wheels and gyro measure:
    dv/dt forward, v times the yaw rate to the left, none upward.

    Returns:
        float64[n, 3]: forward, left, up, m/s^2.
    """
    force = acceleration.values * np.array([1.0, -1.0, -1.0])
    motion = np.zeros(3)
    known = np.isfinite(speed.values[:, 0]) if speed else np.zeros(0, np.bool_)
    if speed and known.sum() > 1:
        t_s, v = speed.t_s[known], speed.values[known, 0]
        motion[0] = (v[-1] - v[0]) / max(t_s[-1] - t_s[0], 1.0)
        if gyro:
            motion[1] = np.nanmean(np.interp(gyro.t_s, t_s, v) * -gyro.values[:, 2])
    gravity = np.nanmean(force, axis=0) - motion
    step_s = np.median(np.diff(acceleration.t_s)) if len(acceleration.t_s) > 1 else 0.0
    half = int(SMOOTH_S / step_s / 2) if step_s > 0 else 0
    kernel = np.ones(2 * min(half, (len(force) - 1) // 2) + 1)
    weight = np.convolve(np.ones(len(force)), kernel, mode="same")
    smooth = [np.convolve(axis, kernel, mode="same") / weight for axis in (force - gravity).T]
    return np.stack(smooth, axis=1)


def _lead(radar: Samples, speed: Samples) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Selects the lead vehicle: in each radar cycle the nearest track in the ego lane.

    The ego lane is taken as 1.5 m to either side of straight ahead, so there is no lead in
    bends. Cycles without a track in the lane yield no sample.

    Returns:
        The lead's time in s, distance in m and speed over ground in m/s, float64[m] each.
    """
    forward, left, relative = radar.values[:, 0], radar.values[:, 1], radar.values[:, 2]
    ahead = (forward > 0) & (np.abs(left) <= LANE_HALF_M) & np.isfinite(relative)
    # Tracks of one cycle arrive in a burst; sorted by cycle, then by distance.
    cycle = np.cumsum(np.diff(radar.t_s, prepend=-np.inf) > RADAR_CYCLE_S)
    order = np.lexsort((forward[ahead], cycle[ahead]))
    first = np.flatnonzero(np.diff(cycle[ahead][order], prepend=-1))
    nearest = np.flatnonzero(ahead)[order[first]]
    t_s = radar.t_s[nearest]
    ego_speed = np.interp(t_s, speed.t_s, np.abs(speed.values[:, 0]))
    return t_s, forward[nearest], ego_speed + relative[nearest]
