"""The physics of a drive, and every injected event against what it claims to be."""

from __future__ import annotations

import numpy as np
import pytest

from synth.motion import STEERING_RATIO, WHEELBASE_M, Motion, drive
from synth.profiles import DT_S, SIM_HZ, ramp, shift, swerve
from synth.script import CALM_S, EVENT_TYPES, LANE_M, Injected, Script, write_script
from synth.spec import rng


@pytest.fixture(scope="module")
def hours() -> tuple[Script, Motion]:
    """Three hours of driving: at least twenty events of every type."""
    script = write_script(rng(11, 0, "script"), 3 * 3600, 1.5)
    return script, drive(script, rng(11, 0, "road"))


def test_speed_is_the_derivative_of_position(hours: tuple[Script, Motion]) -> None:
    """Differences of the position give the speed."""
    _, motion = hours
    moved = np.hypot(np.diff(motion.x_m), np.diff(motion.y_m)) / DT_S
    middle = (motion.speed_mps[1:] + motion.speed_mps[:-1]) / 2
    np.testing.assert_allclose(moved, middle, atol=0.02)


def test_pose_follows_from_speed_and_yaw_rate(hours: tuple[Script, Motion]) -> None:
    """A second integration, by Euler from speed and yaw rate alone, ends at the same pose."""
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
    """Lateral acceleration and steering obey the kinematic bicycle."""
    script, motion = hours
    np.testing.assert_allclose(motion.accel_y_mps2, motion.speed_mps * motion.yaw_rate_radps)
    fast = motion.speed_mps > 2
    wheel = (motion.steering_angle_rad - script.torque)[fast] / STEERING_RATIO
    turned = motion.speed_mps[fast] * np.tan(wheel) / WHEELBASE_M
    np.testing.assert_allclose(turned, motion.yaw_rate_radps[fast], atol=1e-9)


def test_acceleration_is_the_derivative_of_speed(hours: tuple[Script, Motion]) -> None:
    """Acceleration integrates to speed, and jerk is bounded."""
    _, motion = hours
    gained = np.cumsum(motion.accel_x_mps2) * DT_S
    np.testing.assert_allclose(gained, motion.speed_mps - motion.speed_mps[0], atol=0.05)
    jerk = np.abs(np.diff(motion.accel_x_mps2)) / DT_S
    assert jerk.max() < 45
    assert motion.speed_mps.min() == 0
    assert motion.speed_mps.max() < 40


def test_benign_driving_stays_benign(hours: tuple[Script, Motion]) -> None:
    """Outside events nothing exceeds 2 m/s2, yet there are real curves and stops."""
    script, motion = hours
    benign = np.ones(len(motion.t_s), np.bool_)
    for event in script.events:
        benign[event.start : event.end] = False
    assert benign.mean() > 0.5
    assert np.abs(motion.accel_x_mps2[benign]).max() <= 2.0
    assert np.abs(motion.accel_y_mps2[benign]).max() <= 2.0
    assert np.abs(motion.accel_y_mps2[benign]).max() > 1.2
    assert motion.accel_x_mps2[benign].min() < -1.5


def test_events_are_frequent_apart_and_inside(hours: tuple[Script, Motion]) -> None:
    """Types are balanced, the rate is as asked, and events keep apart."""
    script, motion = hours
    counts = {kind: sum(e.type == kind for e in script.events) for kind in EVENT_TYPES}
    assert min(counts.values()) >= 20
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len(script.events) / (len(motion.t_s) * DT_S / 60) == pytest.approx(1.5, rel=0.1)
    for before, after in zip(script.events, script.events[1:], strict=False):
        assert after.start - before.end >= CALM_S * SIM_HZ
    for event in script.events:
        assert 0 <= event.start <= event.anchor < event.end <= len(motion.t_s)


def _shows(event: Injected, script: Script, motion: Motion) -> None:
    span = slice(event.start, event.end)
    seconds = (event.end - event.start) * DT_S
    speed, accel = motion.speed_mps[span], motion.accel_x_mps2[span]
    across, offset = motion.accel_y_mps2[span], script.offset[span]
    turn = abs(float(np.degrees(motion.heading_rad[event.end] - motion.heading_rad[event.start])))
    match event.type:
        case "hard_brake":
            assert -8.1 <= accel.min() <= -4.9
            assert 1 <= seconds <= 3.5
            assert accel[event.anchor - event.start] < 0.98 * accel.min()
        case "hard_acceleration":
            assert accel.max() >= 3.5
            assert (accel > 3.4).sum() * DT_S > 1
        case "sharp_turn":
            assert 60 <= turn <= 105
            assert 2.8 <= seconds <= 4.2
            assert 3.0 <= np.abs(across).max() <= 5.2
            assert 4.9 <= speed.mean() <= 9.1
        case "swerve":
            assert across.max() > 3
            assert across.min() < -3
            assert 1.5 <= seconds <= 2.6
            assert abs(offset[-1] - offset[0]) < 0.05
            assert 0.4 < np.abs(offset - offset[0]).max() < 2.0
        case "lane_change":
            blinker = script.blinker_left if offset[-1] > offset[0] else script.blinker_right
            assert abs(offset[-1] - offset[0]) == pytest.approx(LANE_M, abs=0.01)
            assert blinker[span].all()
            assert speed.min() > 10
            assert np.abs(across).max() < 2
        case "stop_and_go":
            moving = np.diff((speed > 0.5).astype(int))
            assert (moving == 1).sum() >= 3
            assert speed.max() <= 6.1
        case "disengagement":
            assert script.engaged[event.anchor - 1]
            assert not script.engaged[event.anchor : event.end].any()
            assert speed.min() > 5
            assert np.abs(script.torque[span]).max() > 0.05
        case "cut_in" | "pedestrian_crossing":
            assert accel.min() < -0.8
            assert accel.min() >= -2.0
        case other:
            pytest.fail(f"nothing is said about {other}")


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_event_is_what_it_claims(hours: tuple[Script, Motion], kind: str) -> None:
    """Every event's signals show the manoeuvre of its type."""
    script, motion = hours
    events = [
        event for event in script.events if event.type == kind and event.end < len(motion.t_s)
    ]
    assert events
    for event in events:
        _shows(event, script, motion)


def test_assistant_goes_off_in_motion_only_by_disengagement(
    hours: tuple[Script, Motion],
) -> None:
    """A drop of `engaged` in motion is always a true event."""
    script, motion = hours
    drops = np.flatnonzero(script.engaged[:-1] & ~script.engaged[1:]) + 1
    moving = {int(k) for k in drops if motion.speed_mps[k] > 0.5}
    assert moving == {e.anchor for e in script.events if e.type == "disengagement"}
    assert script.engaged.mean() > 0.4


def test_lateral_profiles_end_where_they_should() -> None:
    """A lane change ends a lane on, a swerve where it began."""
    change = shift(LANE_M, 5.0)
    assert change[0] == pytest.approx(0, abs=1e-6)
    assert change[-1] == pytest.approx(LANE_M, abs=1e-6)
    evasive = swerve(5.0, 2.0)
    accel = np.gradient(np.gradient(evasive, DT_S), DT_S)
    assert abs(evasive[-1]) < 1e-3
    assert np.abs(accel).max() == pytest.approx(5.0, rel=0.03)


@pytest.mark.parametrize("change", [-20.0, -0.3, 0.7, 14.0])
def test_ramp_reaches_its_speed_and_keeps_its_peak(change: float) -> None:
    """A ramp's sum is exact, its peak bounded, its sign constant."""
    accel = ramp(change, 2.0, 1.5)
    assert accel.sum() * DT_S == pytest.approx(change)
    assert np.abs(accel).max() <= 2.1
    assert (np.sign(accel) == np.sign(change)).all()


@pytest.mark.parametrize("minutes", [0.05, 0.5, 1.0, 2.5])
def test_short_drives_have_the_wanted_length(minutes: float) -> None:
    """Length is exact and no event is cut off."""
    script = write_script(rng(3, 1, "script"), minutes * 60, 6.0)
    assert len(script.accel) == round(minutes * 6000)
    assert all(event.end <= len(script.accel) for event in script.events)


def test_no_events_on_request() -> None:
    """A rate of 0 is a benign drive."""
    assert write_script(rng(3, 1, "script"), 600, 0.0).events == ()


@pytest.mark.parametrize("seed", range(12))
def test_no_event_is_cut_off_by_the_end(seed: int) -> None:
    """What half happens would be found, and be in no truth."""
    script = write_script(rng(seed, 0, "script"), 75.0, 6.0)
    assert all(event.end <= len(script.accel) for event in script.events)
