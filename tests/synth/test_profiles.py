"""Profiles against the boundary values and limits that they promise."""

from __future__ import annotations

import numpy as np
import pytest

from synth.profiles import DT_S, SIM_HZ, hold, phase, plateau, ramp, shift, steps, swerve
from synth.script import LANE_M


def test_lateral_profiles_end_where_they_should() -> None:
    change = shift(LANE_M, 5.0)
    assert change[0] == pytest.approx(0, abs=1e-6)
    assert change[-1] == pytest.approx(LANE_M, abs=1e-6)
    evasive = swerve(5.0, 2.0)
    accel = np.gradient(np.gradient(evasive, DT_S), DT_S)
    assert abs(evasive[-1]) < 1e-3
    assert np.abs(accel).max() == pytest.approx(5.0, rel=0.03)


@pytest.mark.parametrize("change", [-20.0, -0.3, 0.7, 14.0])
def test_ramp_reaches_its_speed_and_keeps_its_peak(change: float) -> None:
    accel = ramp(change, 2.0, 1.5)
    assert accel.sum() * DT_S == pytest.approx(change)
    assert np.abs(accel).max() <= 2.1
    assert (np.sign(accel) == np.sign(change)).all()


@pytest.mark.parametrize(("peak", "jerk"), [(2.0, 1.5), (7.0, 20.0)])
def test_the_mean_slope_of_a_ramp_is_the_jerk(peak: float, jerk: float) -> None:
    accel = ramp(12.0, peak, jerk)
    rise_s = np.flatnonzero(accel > 0.99 * accel.max())[0] * DT_S
    assert rise_s == pytest.approx(peak / jerk, rel=0.15)
    assert np.abs(np.diff(accel)).max() / DT_S <= np.pi / 2 * jerk * 1.05


def test_a_ramp_of_nothing_is_empty() -> None:
    assert len(ramp(0.0, 2.0, 1.5)) == 0


@pytest.mark.parametrize("duration_s", [0.0, 0.004, 0.01, 2.5])
def test_steps_count_the_simulation_rate(duration_s: float) -> None:
    assert steps(duration_s) == max(1, duration_s * SIM_HZ // 1)
    assert hold(duration_s).tolist() == [0.0] * steps(duration_s)


@pytest.mark.parametrize("n", [1, 7, 500])
def test_a_plateau_is_symmetric_and_within_0_and_1(n: int) -> None:
    shape = plateau(n, 0.3)
    np.testing.assert_allclose(shape, shape[::-1], atol=1e-12)
    assert shape.min() >= 0
    assert shape.max() == pytest.approx(1.0)
    np.testing.assert_allclose(np.diff(phase(n)), 1 / n)


def test_a_shift_has_no_speed_and_no_acceleration_at_its_ends() -> None:
    offset = shift(LANE_M, 5.0)
    speed = np.gradient(offset, DT_S)
    assert np.abs(speed[[0, -1]]).max() < 1e-3
    assert np.abs(np.gradient(speed, DT_S)[[0, -1]]).max() < 0.05
    assert (np.diff(offset) >= 0).all()
