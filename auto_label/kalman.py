"""A constant-velocity Kalman filter over boxes, and its Rauch-Tung-Striebel smoother.

The four coordinates (centre x, centre y, width, height) are independent and share their noise.
The state of n tracks is therefore mean float64[n, 4, 2] of (value, velocity), in pixels and
pixels/s, and cov float64[n, 1, 3] of (var(value), cov(value, velocity), var(velocity)), and one
numpy operation serves all tracks of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviations in parts of a box's height.

    Args:
        box: of a detected box.
        accel: of the acceleration, per s^2 (a white-noise acceleration model).
        speed: of the velocity of a new track, per s.
    """

    box: float
    accel: float
    speed: float


def predict(
    mean: FloatArray, cov: FloatArray, dt: float, noise: Noise
) -> tuple[FloatArray, FloatArray]:
    """Predicts states dt seconds ahead (Bar-Shalom et al., 2001, section 6.2.2)."""
    density = (noise.accel * np.maximum(mean[:, 3, 0], 1.0))[:, None] ** 2
    moved = mean.copy()
    moved[..., 0] += dt * mean[..., 1]
    p00, p01, p11 = cov[..., 0], cov[..., 1], cov[..., 2]
    grown = np.empty_like(cov)
    grown[..., 0] = p00 + dt * (2 * p01 + dt * p11) + density * dt**3 / 3
    grown[..., 1] = p01 + dt * p11 + density * dt**2 / 2
    grown[..., 2] = p11 + density * dt
    return moved, grown


def update(
    mean: FloatArray, cov: FloatArray, xywh: FloatArray, noise: Noise
) -> tuple[FloatArray, FloatArray]:
    """Updates the state of every track with its measured box, float64[n, 4] xywh."""
    measured, variance = _measured(xywh, noise)
    p00, p01, p11 = cov[..., 0], cov[..., 1], cov[..., 2]
    total = p00 + variance
    gain0, gain1 = p00 / total, p01 / total
    off = measured - mean[..., 0]
    new_mean, new_cov = np.empty_like(mean), np.empty_like(cov)
    new_mean[..., 0] = mean[..., 0] + gain0 * off
    new_mean[..., 1] = mean[..., 1] + gain1 * off
    new_cov[..., 0] = p00 - gain0 * p00
    new_cov[..., 1] = p01 - gain0 * p01
    new_cov[..., 2] = p11 - gain1 * p01
    return new_mean, new_cov


def _measured(xywh: FloatArray, noise: Noise) -> tuple[FloatArray, FloatArray]:
    """Returns centre and size, float64[n, 4], and their variance, float64[n, 1]."""
    measured = np.concatenate([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], axis=1)
    return measured, (noise.box * np.maximum(xywh[:, 3:], 1.0)) ** 2


def start(xywh: FloatArray, noise: Noise) -> tuple[FloatArray, FloatArray]:
    """Starts tracks at boxes, float64[n, 4] xywh, with unknown velocity."""
    measured, variance = _measured(xywh, noise)
    mean = np.stack([measured, np.zeros_like(measured)], axis=2)
    cov = np.zeros((len(xywh), 1, 3))
    cov[..., 0] = variance
    cov[..., 2] = (noise.speed * np.maximum(xywh[:, 3:], 1.0)) ** 2
    return mean, cov


def to_boxes(mean: FloatArray) -> FloatArray:
    """Converts states to boxes, float64[n, 4] xywh, of at least one pixel."""
    size = np.maximum(mean[:, 2:, 0], 1.0)
    return np.concatenate([mean[:, :2, 0] - size / 2, size], axis=1)


def smooth_step(
    mean: FloatArray,
    cov: FloatArray,
    predicted: tuple[FloatArray, FloatArray],
    later: tuple[FloatArray, FloatArray],
    dt: float,
) -> tuple[FloatArray, FloatArray]:
    """Smooths filtered states with the smoothed states of the next frame.

    C = P F' inv(P-), m = m + C (m_s - m-), P = P + C (P_s - P-) C' (Särkkä, 2013, theorem 8.2).

    Args:
        mean: filtered.
        cov: filtered.
        predicted: mean m- and covariance P- predicted for the next frame.
        later: smoothed mean m_s and covariance P_s of the next frame.
        dt: seconds to the next frame.
    """
    p00, p01, p11 = cov[..., 0], cov[..., 1], cov[..., 2]
    g00, g01, g11 = predicted[1][..., 0], predicted[1][..., 1], predicted[1][..., 2]
    a00, a01, a10, a11 = p00 + dt * p01, p01, p01 + dt * p11, p11
    scale = 1.0 / (g00 * g11 - g01 * g01)
    c00, c01 = (a00 * g11 - a01 * g01) * scale, (a01 * g00 - a00 * g01) * scale
    c10, c11 = (a10 * g11 - a11 * g01) * scale, (a11 * g00 - a10 * g01) * scale
    off = later[0] - predicted[0]
    new_mean = np.empty_like(mean)
    new_mean[..., 0] = mean[..., 0] + c00 * off[..., 0] + c01 * off[..., 1]
    new_mean[..., 1] = mean[..., 1] + c10 * off[..., 0] + c11 * off[..., 1]
    less = later[1] - predicted[1]
    d00, d01, d11 = less[..., 0], less[..., 1], less[..., 2]
    new_cov = np.empty_like(cov)
    new_cov[..., 0] = p00 + c00 * c00 * d00 + 2 * c00 * c01 * d01 + c01 * c01 * d11
    new_cov[..., 1] = p01 + c00 * c10 * d00 + (c00 * c11 + c01 * c10) * d01 + c01 * c11 * d11
    new_cov[..., 2] = p11 + c10 * c10 * d00 + 2 * c10 * c11 * d01 + c11 * c11 * d11
    return new_mean, new_cov
