"""The ego path: poses of the vehicle around an event, estimated from its own signals.

An extended Kalman filter over the 50 Hz grid, followed by a Rauch-Tung-Striebel smoother.
State: x, y, heading, speed, yaw rate, yaw-rate bias. Motion model: constant turn rate and
velocity (CTRV), with both as random walks. Measurements: speed; yaw rate, or the steering
wheel angle through a kinematic bicycle model; course and position where available. The path
is given in the frame of the pose at the anchor: x forward, y left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.arrays import BoolArray, FloatArray, IntArray
from schemas.tables import TABLES
from schemas.times import NS_PER_S, Span

VERSION = 1
"""Increases when the same signals give a different path."""


STEP_NS = NS_PER_S // 10
"""The path has a row each 100 ms."""

_X, _Y, _HEADING, _SPEED, _YAW, _BIAS = range(6)

# Standard deviations, units in the names; those of random walks per square root of s.
_SPEED_WALK_MPS = 1.0
_YAW_WALK_RADPS = 0.3
_HEADING_WALK_RAD = 0.001
_BIAS_WALK_RADPS = 1e-4
_SPEED_MPS = 0.15
_YAW_RADPS = 0.01
_YAW_STEER_RADPS = 0.03
_BIAS_RADPS = 0.005
_STANDING_RADPS = 1e-3
_HEADING_RAD = 0.03
_POSITION_M = 2.0

_FIX_S = 1.0
"""Interval of the positions and courses that are used: their errors correlate over seconds.

Without a yaw rate or steering angle, courses are used once per row of the path instead.
"""
_STANDING_MPS = 0.1
_COURSE_MPS = 2.0
"""Below this speed the course over ground does not give the heading."""
_GATE = 16.0
"""Innovation gate, in variances: beyond 4 standard deviations a measurement is an outlier."""

_FIXED = 1e-4
"""Standard deviation in m or rad of a fixed origin; above 0, so that no matrix is singular."""

_STEERING_RATIO = 14.5
_WHEELBASE_M = 2.85
"""Those of a typical passenger car; used only where the yaw rate is not measured."""

_EARTH_A_M = 6_378_137.0
_EARTH_E2 = 6.694379990141316e-3
"""WGS 84: semi-major axis in m, and squared first eccentricity."""

_NAMES = ("t_ns", "x_m", "y_m", "heading_rad", "speed_mps", "sigma_m")
_COLUMNS = pa.schema([TABLES["ego_path"].schema.field(name) for name in _NAMES])


@dataclass(frozen=True, slots=True)
class _Measured:
    """Measurements on the grid, float64[n] each, NaN where there is none.

    `yaw_sigma` is the standard deviation of `yaw`; `course`, `x` and `y` are thinned out to one
    in `_FIX_S`.
    """

    t_ns: IntArray
    speed: FloatArray
    yaw: FloatArray
    yaw_sigma: float
    course: FloatArray
    x: FloatArray
    y: FloatArray


def ego_path(signals: pa.Table, span: Span, anchor_ns: int) -> pa.Table:
    """Estimates the path of the vehicle through an event.

    Args:
        signals: rows of `signals` of one log, ordered by t_ns; rows outside `span` are ignored.
        span: the event's window.
        anchor_ns: the origin is the pose at the row of the span nearest to this time.

    Returns:
        One row each 100 ms: t_ns, x_m, y_m, heading_rad (relative to the anchor, not wrapped),
        speed_mps (negative in reverse) and sigma_m (standard error of the position relative to
        the anchor, 0 there). Empty where neither speed nor position is known.
    """
    measured = _measure(signals, span)
    if not (np.isfinite(measured.speed).any() or np.isfinite(measured.x).sum() >= 2):
        return _COLUMNS.empty_table()
    mean, cov, gains = _smooth(measured)
    anchor = int(np.abs(measured.t_ns - anchor_ns).argmin())
    local, sigma = _relative(mean, cov, gains, anchor)
    due = _thin(measured.t_ns, STEP_NS)
    return pa.table(
        {
            "t_ns": measured.t_ns[due],
            "x_m": local[due, 0],
            "y_m": local[due, 1],
            "heading_rad": mean[due, _HEADING] - mean[anchor, _HEADING],
            "speed_mps": mean[due, _SPEED],
            "sigma_m": sigma[due],
        },
        schema=_COLUMNS,
    )


def _measure(signals: pa.Table, span: Span) -> _Measured:
    t_ns = signals.column("t_ns").to_numpy().astype(np.int64)
    inside = (t_ns >= span.start_ns) & (t_ns < span.end_ns)
    t_ns = t_ns[inside]

    def column(name: str, limit: float) -> FloatArray:
        values = np.array(signals.column(name).to_numpy()[inside], dtype=np.float64)
        values[~(np.abs(values) <= limit)] = np.nan
        return values

    speed, yaw = column("speed_mps", 150.0), column("yaw_rate_radps", 10.0)
    gear = np.array(signals.column("gear").to_pylist(), dtype=object)[inside]
    reverse = gear == "reverse"
    speed[reverse] *= -1
    yaw_sigma = _YAW_RADPS
    if not np.isfinite(yaw).any():
        wheel = column("steering_angle_rad", 20.0) / _STEERING_RATIO
        yaw, yaw_sigma = speed * np.tan(np.clip(wheel, -1, 1)) / _WHEELBASE_M, _YAW_STEER_RADPS
    course = column("heading_rad", 7.0)
    course[reverse | (speed < _COURSE_MPS)] = np.nan
    x, y = _plane(column("lat_deg", 89.0), column("lon_deg", 180.0))
    due = _thin(t_ns, round(_FIX_S * NS_PER_S))
    x[~due], y[~due] = np.nan, np.nan
    turns = np.isfinite(yaw).any()
    course[~(due if turns else _thin(t_ns, STEP_NS))] = np.nan
    return _Measured(t_ns, speed, yaw, yaw_sigma, course, x, y)


def _thin(t_ns: IntArray, step_ns: int) -> BoolArray:
    """Marks the first row of every interval of `step_ns` of the log's time."""
    step = t_ns // step_ns
    return np.asarray(np.diff(step, prepend=step[:1] - 1) > 0)


def _plane(lat_deg: FloatArray, lon_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Projects to the plane tangent to WGS 84 at the first position: east, north in m."""
    known = np.flatnonzero(np.isfinite(lat_deg) & np.isfinite(lon_deg))
    if not len(known):
        return np.full_like(lat_deg, np.nan), np.full_like(lat_deg, np.nan)
    lat0, lon0 = np.radians(lat_deg[known[0]]), lon_deg[known[0]]
    bulge = 1 - _EARTH_E2 * np.sin(lat0) ** 2
    prime, meridian = _EARTH_A_M / np.sqrt(bulge), _EARTH_A_M * (1 - _EARTH_E2) / bulge**1.5
    east = np.radians((lon_deg - lon0 + 180) % 360 - 180) * prime * np.cos(lat0)
    return east, (np.radians(lat_deg) - lat0) * meridian


def _start(measured: _Measured) -> tuple[FloatArray, FloatArray]:
    """Returns the state before the first row, and its covariance.

    Without positions the origin is arbitrary and set to 0. Without a course the heading is the
    direction to the first position 5 m away, or else arbitrary and set to 0.
    """
    mean, sigma = np.zeros(6), np.array([_FIXED, _FIXED, _FIXED, 30.0, 1.0, _BIAS_RADPS])
    known = np.flatnonzero(np.isfinite(measured.speed))
    if len(known):
        mean[_SPEED] = measured.speed[known[0]]
        sigma[_SPEED] = 1.0
    fixes = np.flatnonzero(np.isfinite(measured.x))
    courses = np.flatnonzero(np.isfinite(measured.course))
    if len(fixes):
        mean[_X], mean[_Y] = measured.x[fixes[0]], measured.y[fixes[0]]
        sigma[_X] = sigma[_Y] = 2 * _POSITION_M
    if len(courses):
        mean[_HEADING], sigma[_HEADING] = measured.course[courses[0]], 0.3
    elif len(fixes):
        dx, dy = measured.x[fixes] - mean[_X], measured.y[fixes] - mean[_Y]
        far = np.flatnonzero(np.hypot(dx, dy) > 5.0)
        if len(far):
            backward = np.pi if mean[_SPEED] < 0 else 0.0
            mean[_HEADING] = np.arctan2(dy[far[0]], dx[far[0]]) + backward
            sigma[_HEADING] = 0.5
    return mean, np.diag(sigma**2)


def _smooth(measured: _Measured) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Runs the extended Kalman filter and smoother (Särkkä, 2013, algorithms 5.4 and 9.1).

    Returns:
        mean float64[n, 6], cov float64[n, 6, 6], and the smoother's gains float64[n - 1, 6, 6].
    """
    count = len(measured.t_ns)
    mean, cov = np.empty((count, 6)), np.empty((count, 6, 6))
    guess, guess_cov = np.empty((count, 6)), np.empty((count, 6, 6))
    jacobian = np.empty((count, 6, 6))
    now, now_cov = _start(measured)
    steps = np.diff(measured.t_ns, prepend=measured.t_ns[:1]) / NS_PER_S
    rows = np.stack(
        [measured.speed, measured.yaw, measured.course, measured.x, measured.y], axis=1
    ).tolist()
    for k, (dt, row) in enumerate(zip(steps.tolist(), rows, strict=True)):
        now, now_cov, jacobian[k] = _predict(now, now_cov, dt)
        guess[k], guess_cov[k] = now, now_cov
        now, now_cov = _correct(now, now_cov, row, measured.yaw_sigma)
        mean[k], cov[k] = now, now_cov
    gains = np.empty((count - 1, 6, 6))
    for k in range(count - 2, -1, -1):
        gain = np.linalg.solve(guess_cov[k + 1], jacobian[k + 1] @ cov[k]).T
        mean[k] += gain @ (mean[k + 1] - guess[k + 1])
        cov[k] += gain @ (cov[k + 1] - guess_cov[k + 1]) @ gain.T
        gains[k] = gain
    return mean, cov, gains


def _predict(
    mean: FloatArray, cov: FloatArray, dt: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Predicts dt seconds ahead, along the chord of the arc; also returns the Jacobian."""
    x, y, heading, speed, yaw, bias = mean.tolist()
    along = heading + yaw * dt / 2
    cos, sin = np.cos(along), np.sin(along)
    moved = np.array(
        [x + speed * cos * dt, y + speed * sin * dt, heading + yaw * dt, speed, yaw, bias]
    )
    jacobian = np.eye(6)
    jacobian[_X, 2:5] = -speed * sin * dt, cos * dt, -speed * sin * dt * dt / 2
    jacobian[_Y, 2:5] = speed * cos * dt, sin * dt, speed * cos * dt * dt / 2
    jacobian[_HEADING, _YAW] = dt
    grown = jacobian @ cov @ jacobian.T
    walk = (_HEADING_WALK_RAD, _SPEED_WALK_MPS, _YAW_WALK_RADPS, _BIAS_WALK_RADPS)
    for index, rate in zip((_HEADING, _SPEED, _YAW, _BIAS), walk, strict=True):
        grown[index, index] += rate * rate * dt
    return moved, grown, jacobian


def _correct(
    mean: FloatArray, cov: FloatArray, row: list[float], yaw_sigma: float
) -> tuple[FloatArray, FloatArray]:
    """Updates with the measurements of one row, one scalar after the other."""
    speed, yaw, course, x, y = row
    standing = abs(speed) < _STANDING_MPS
    if math.isfinite(speed):
        mean, cov = _scalar(mean, cov, (_SPEED,), speed - mean[_SPEED], _SPEED_MPS)
    if math.isfinite(yaw):
        mean, cov = _scalar(mean, cov, (_YAW, _BIAS), yaw - mean[_YAW] - mean[_BIAS], yaw_sigma)
    if standing:
        mean, cov = _scalar(mean, cov, (_YAW,), -mean[_YAW], _STANDING_RADPS)
    if math.isfinite(course):
        off = (course - mean[_HEADING] + np.pi) % (2 * np.pi) - np.pi
        mean, cov = _scalar(mean, cov, (_HEADING,), off, _HEADING_RAD, gate=_GATE)
    for index, value in ((_X, x), (_Y, y)):
        if math.isfinite(value):
            mean, cov = _scalar(mean, cov, (index,), value - mean[index], _POSITION_M, gate=_GATE)
    return mean, cov


def _scalar(
    mean: FloatArray,
    cov: FloatArray,
    states: tuple[int, ...],
    off: float,
    sigma: float,
    *,
    gate: float = np.inf,
) -> tuple[FloatArray, FloatArray]:
    """Updates with a scalar that measures the sum of `states`.

    Args:
        mean: float64[6].
        cov: float64[6, 6].
        states: indexes into the state.
        off: innovation: measured less predicted.
        sigma: standard deviation of the measurement.
        gate: squared innovations above so many variances are ignored.
    """
    column = cov[:, states].sum(axis=1)
    total = column[list(states)].sum() + sigma * sigma
    if off * off > gate * total:
        return mean, cov
    gain = column / total
    return mean + gain * off, cov - np.outer(gain, column)


def _relative(
    mean: FloatArray, cov: FloatArray, gains: FloatArray, anchor: int
) -> tuple[FloatArray, FloatArray]:
    """Transforms positions to the anchor's frame, with standard errors relative to the anchor.

    These need the cross-covariance of two poses, which follows from the smoother's gains:
    Cov(k, n) = G[k] ... G[n-1] P[n] for k < n.

    Returns:
        Positions float64[n, 2] in m, and float64[n], the root of the summed variances in m.
    """
    count = len(mean)
    cross = np.empty((count, 6, 6))
    cross[anchor] = cov[anchor]
    chain = np.eye(6)
    for k in range(anchor - 1, -1, -1):
        chain = gains[k] @ chain
        cross[k] = chain @ cov[anchor]
    chain = np.eye(6)
    for k in range(anchor + 1, count):
        chain = chain @ gains[k - 1]
        cross[k] = (chain @ cov[k]).T
    heading = mean[anchor, _HEADING]
    turn = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    local = (mean[:, :2] - mean[anchor, :2]) @ turn.T
    # Jacobians of the relative position by the pose itself, and by the anchor's pose.
    here = np.zeros((count, 2, 6))
    here[:, :, :2] = turn
    there = -here
    there[:, 0, _HEADING], there[:, 1, _HEADING] = local[:, 1], -local[:, 0]
    mixed = here @ cross @ there.transpose(0, 2, 1)
    error = here @ cov @ here.transpose(0, 2, 1) + mixed + mixed.transpose(0, 2, 1)
    error += there @ cov[anchor] @ there.transpose(0, 2, 1)
    return local, np.sqrt(np.maximum(np.trace(error, axis1=1, axis2=2), 0.0))
