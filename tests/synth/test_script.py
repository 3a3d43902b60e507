"""Every injected event against what its type claims, and benign driving against its limits."""

from __future__ import annotations

import numpy as np
import pytest

from synth.motion import Motion
from synth.profiles import DT_S, SIM_HZ
from synth.script import CALM_S, EVENT_TYPES, LANE_M, Injected, Script, write_script
from synth.spec import rng


def test_benign_driving_stays_benign(hours: tuple[Script, Motion]) -> None:
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
    script, motion = hours
    drops = np.flatnonzero(script.engaged[:-1] & ~script.engaged[1:]) + 1
    moving = {int(k) for k in drops if motion.speed_mps[k] > 0.5}
    assert moving == {e.anchor for e in script.events if e.type == "disengagement"}
    assert script.engaged.mean() > 0.4


@pytest.mark.parametrize("minutes", [0.05, 0.5, 1.0, 2.5])
def test_short_drives_have_the_wanted_length(minutes: float) -> None:
    script = write_script(rng(3, 1, "script"), minutes * 60, 6.0)
    assert len(script.accel) == round(minutes * 6000)
    assert all(event.end <= len(script.accel) for event in script.events)


def test_no_events_on_request() -> None:
    assert write_script(rng(3, 1, "script"), 600, 0.0).events == ()


@pytest.mark.parametrize("seed", range(12))
def test_no_event_is_cut_off_by_the_end(seed: int) -> None:
    script = write_script(rng(seed, 0, "script"), 75.0, 6.0)
    assert all(event.end <= len(script.accel) for event in script.events)
