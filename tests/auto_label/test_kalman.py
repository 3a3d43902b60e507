"""The vectorised filter and smoother against plain matrices, one coordinate at a time."""

from __future__ import annotations

import numpy as np
import pytest

from auto_label.kalman import Noise, predict, smooth_step, start, to_boxes, update
from schemas.arrays import FloatArray

NOISE = Noise(box=0.08, accel=0.5, speed=1.0)


def _random(count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """States with proper covariances."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(0, 20, (count, 4, 2)) + 200
    spread = rng.uniform(1, 30, (count, 1, 2))
    shared = rng.uniform(-0.9, 0.9, (count, 1)) * spread[..., 0] * spread[..., 1]
    return mean, np.stack([spread[..., 0] ** 2, shared, spread[..., 1] ** 2], axis=-1)


def _matrix(cov: FloatArray) -> FloatArray:
    return np.array([[cov[0], cov[1]], [cov[1], cov[2]]])


@pytest.mark.parametrize("dt", [0.0, 0.03, 1.7])
def test_predict_is_the_constant_velocity_model(dt: float) -> None:
    mean, cov = _random(5, 1)
    moved, grown = predict(mean, cov, dt, NOISE)
    move = np.array([[1, dt], [0, 1]])
    for k in range(5):
        density = (NOISE.accel * mean[k, 3, 0]) ** 2
        walk = density * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        for axis in range(4):
            np.testing.assert_allclose(moved[k, axis], move @ mean[k, axis])
        expected = move @ _matrix(cov[k, 0]) @ move.T + walk
        np.testing.assert_allclose(_matrix(grown[k, 0]), expected)


def test_predicting_twice_is_predicting_once() -> None:
    mean, cov = _random(5, 2)
    mean[:, 3, 1] = 0  # a constant height keeps the noise constant
    twice = predict(*predict(mean, cov, 0.2, NOISE), 0.3, NOISE)
    for ours, expected in zip(twice, predict(mean, cov, 0.5, NOISE), strict=True):
        np.testing.assert_allclose(ours, expected)


def test_update_is_the_kalman_gain() -> None:
    mean, cov = _random(5, 3)
    xywh = np.random.default_rng(4).uniform(20, 200, (5, 4))
    new_mean, new_cov = update(mean, cov, xywh, NOISE)
    observe = np.array([[1.0, 0.0]])
    for k in range(5):
        prior = _matrix(cov[k, 0])
        total = observe @ prior @ observe.T + (NOISE.box * xywh[k, 3]) ** 2
        gain = prior @ observe.T / total
        centre_size = [*(xywh[k, :2] + xywh[k, 2:] / 2), *xywh[k, 2:]]
        for axis, value in enumerate(centre_size):
            expected = mean[k, axis] + gain[:, 0] * (value - mean[k, axis, 0])
            np.testing.assert_allclose(new_mean[k, axis], expected)
        expected_cov = (np.eye(2) - gain @ observe) @ prior
        np.testing.assert_allclose(_matrix(new_cov[k, 0]), expected_cov)


def test_smoothing_is_the_rauch_tung_striebel_step() -> None:
    mean, cov = _random(5, 5)
    later, later_cov = _random(5, 6)
    dt = 0.4
    predicted = predict(mean, cov, dt, NOISE)
    smooth, smooth_cov = smooth_step(mean, cov, predicted, (later, later_cov), dt)
    move = np.array([[1, dt], [0, 1]])
    for k in range(5):
        ahead = _matrix(predicted[1][k, 0])
        gain = _matrix(cov[k, 0]) @ move.T @ np.linalg.inv(ahead)
        for axis in range(4):
            expected = mean[k, axis] + gain @ (later[k, axis] - predicted[0][k, axis])
            np.testing.assert_allclose(smooth[k, axis], expected)
        expected_cov = _matrix(cov[k, 0]) + gain @ (_matrix(later_cov[k, 0]) - ahead) @ gain.T
        np.testing.assert_allclose(_matrix(smooth_cov[k, 0]), expected_cov, atol=1e-8)


def test_a_new_track_stands_at_its_box() -> None:
    xywh = np.array([[10.0, 20, 30, 40], [5, 5, 2, 0.5]])
    mean, cov = start(xywh, NOISE)
    assert not mean[..., 1].any()
    np.testing.assert_allclose(to_boxes(mean)[0], xywh[0])
    assert to_boxes(mean)[1, 3] == 1.0  # at least one pixel
    np.testing.assert_allclose(cov[:, 0, 0], [(0.08 * 40) ** 2, 0.08**2])
    np.testing.assert_allclose(cov[:, 0, 2], [40.0**2, 1.0])
