"""Sensed signals against the motion, with the noise that the module states."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.arrays import FloatArray
from schemas.signals import SIGNALS
from synth.motion import Motion
from synth.profiles import SIM_HZ
from synth.script import Script
from synth.sensors import clean, sense, wrap


@pytest.fixture(scope="module")
def motion(hours: tuple[Script, Motion]) -> Motion:
    return hours[1]


def test_clean_signals_are_the_motion(motion: Motion) -> None:
    columns = clean(motion)
    signals = {signal.name: signal.type for signal in SIGNALS}
    assert set(columns) <= set(signals)
    assert {len(column) for column in columns.values()} == {len(motion.t_s)}
    assert columns["speed_mps"] is motion.speed_mps
    np.testing.assert_allclose(np.exp(1j * columns["heading_rad"]), np.exp(1j * motion.heading_rad))
    assert (columns["gear"] == "park").sum() == motion.parked.sum() > 0


def test_without_noise_sensors_tell_the_truth(motion: Motion) -> None:
    columns, truth = sense(motion, np.random.default_rng(1), 0.0), clean(motion)
    assert set(columns) == set(truth)
    for name, column in columns.items():
        np.testing.assert_array_equal(column, truth[name])


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_noise_has_the_stated_deviation(motion: Motion, scale: float) -> None:
    columns, truth = sense(motion, np.random.default_rng(1), scale), clean(motion)
    moving = motion.speed_mps > 5
    for name, sigma in (
        ("accel_x_mps2", np.hypot(0.15, 0.05)),
        ("accel_y_mps2", np.hypot(0.15, 0.05)),
        ("speed_mps", 0.05),
        ("yaw_rate_radps", 0.003),
        ("steering_angle_rad", np.radians(0.3)),
    ):
        off = (columns[name] - truth[name])[moving]
        rel = 0.2 if name.startswith("accel") else 0.08  # the bias is a single draw
        assert np.sqrt(np.mean(off**2)) == pytest.approx(scale * sigma, rel=rel), name
    turned: FloatArray = columns["heading_rad"] - truth["heading_rad"]
    drift = wrap(turned)
    assert np.std(drift) == pytest.approx(scale * np.radians(0.5), rel=0.25)
    jitter = np.diff(drift)[1000:]
    assert np.std(jitter) < scale * np.radians(0.06)  # a fused attitude drifts, it does not jump
    north_m = np.radians(columns["lat_deg"] - truth["lat_deg"]) * 6_371_000
    assert np.std(north_m) == pytest.approx(scale * 1.5, rel=0.25)
    states = ("gear", "blinker_left", "blinker_right", "engaged", "brake_on")
    assert all((columns[name] == truth[name]).all() for name in states)


def test_a_standing_car_reports_no_speed(motion: Motion) -> None:
    columns = sense(motion, np.random.default_rng(1), 1.0)
    assert not columns["speed_mps"][motion.speed_mps <= 0.05].any()
    assert columns["speed_mps"].min() == 0


def test_slow_noise_is_slow(motion: Motion) -> None:
    """A position error keeps its sign over seconds: autocorrelation exp(-t / 15 s)."""
    columns = sense(motion, np.random.default_rng(1), 1.0)
    off = columns["lat_deg"] - motion.lat_deg
    lag = 5 * SIM_HZ
    assert np.corrcoef(off[:-lag], off[lag:])[0, 1] == pytest.approx(np.exp(-5 / 15), abs=0.08)


def test_wrapped_angles_point_the_same_way() -> None:
    angle = np.asarray(np.linspace(-20, 20, 999), np.float64)
    wrapped = wrap(angle)
    assert wrapped.min() > -np.pi
    assert wrapped.max() <= np.pi
    np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * angle), atol=1e-12)
