"""Traffic against the motion of the car that meets it."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.arrays import FloatArray
from synth.motion import Motion, drive
from synth.profiles import DT_S, SIM_HZ
from synth.script import LANE_M, Script, write_script
from synth.spec import rng
from synth.traffic import KERB_M, NOSE_M, SIZES_M, Actor, Traffic, populate

Scene = tuple[Script, Motion, Traffic]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Half an hour of driving with its traffic."""
    script = write_script(rng(7, 0, "script"), 1800, 3.0)
    motion = drive(script, rng(7, 0, "road"))
    return script, motion, populate(script, motion, rng(7, 0, "traffic"))


def _gaps(actor: Actor, motion: Motion, t_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bumper to bumper gap and lateral distance from the car, by interpolation."""
    s = np.interp(t_s, actor.knots[:, 0], actor.knots[:, 1])
    d = np.interp(t_s, actor.knots[:, 0], actor.knots[:, 2])
    ours = np.interp(t_s, motion.t_s, motion.s_m)
    off = np.interp(t_s, motion.t_s, motion.offset_m)
    return s - SIZES_M[actor.kind][0] / 2 - ours - NOSE_M, d - off


def test_an_actor_moves_linearly_between_its_knots() -> None:
    actor = Actor(1, "car", np.array([[2.0, 10.0, 0.0], [4.0, 30.0, 3.5]]), 1, 0)
    assert actor.at(2.0) == (10.0, 0.0)
    assert actor.at(2.5) == (15.0, 0.875)
    assert actor.at(4.0) == (30.0, 3.5)


def test_track_ids_count_and_knots_rise(scene: Scene) -> None:
    actors = scene[2].actors
    assert [actor.track_id for actor in actors] == list(range(1, len(actors) + 1))
    assert {actor.kind for actor in actors} == set(SIZES_M)
    for actor in actors:
        assert actor.facing in {-1, 0, 1}
        assert (np.diff(actor.knots[:, 0]) > 0).all()


def test_the_lead_signal_is_the_gap_to_a_vehicle_of_our_lane(scene: Scene) -> None:
    _, motion, traffic = scene
    ahead = np.full(len(motion.t_s), np.inf)
    for actor in traffic.actors:
        if actor.kind != "car" or actor.facing < 0 or len(actor.knots) < 3:
            continue
        alive = (motion.t_s >= actor.knots[0, 0]) & (motion.t_s <= actor.knots[-1, 0])
        gap, across = _gaps(actor, motion, motion.t_s[alive])
        gap[np.abs(across) > 0.7 * LANE_M] = np.inf
        ahead[alive] = np.minimum(ahead[alive], gap)
    told = np.isfinite(traffic.lead_distance_m)
    assert 0.2 < told.mean() < 0.9
    agree = np.abs(traffic.lead_distance_m[told] - ahead[told]) < 0.5
    assert agree.mean() > 0.95


def test_a_lead_never_drives_backward_and_its_speed_is_the_derivative(scene: Scene) -> None:
    _, motion, traffic = scene
    place = motion.s_m + traffic.lead_distance_m
    steps = np.diff(place)
    inside = np.isfinite(steps) & (np.abs(np.diff(traffic.lead_distance_m)) < 1)
    assert steps[inside].min() > -1e-9
    known = np.isfinite(traffic.lead_speed_mps)
    assert traffic.lead_speed_mps[known].min() >= 0
    middle = (traffic.lead_speed_mps[1:] + traffic.lead_speed_mps[:-1])[inside] / 2
    close = np.isclose(steps[inside] / DT_S, middle, atol=0.2)
    assert close[np.isfinite(middle)].mean() > 0.99


def test_cut_ins_enter_our_lane_at_their_anchor(scene: Scene) -> None:
    script, motion, traffic = scene
    events = [event for event in script.events if event.type == "cut_in"]
    assert events
    for event in events:
        t_s = event.anchor * DT_S
        actor = min(
            (a for a in traffic.actors if a.kind == "car" and len(a.knots) > 2),
            key=lambda a: abs(a.knots[0, 0] - event.start * DT_S),
        )
        gap, _ = _gaps(actor, motion, np.array([t_s]))
        assert gap[0] == pytest.approx(event.params["gap_m"], abs=1.0)
        assert abs(actor.at(t_s)[1] - LANE_M / 2) < 0.3
        after = actor.at(t_s + 3.0)[1]
        assert round(after / LANE_M) == round(script.offset[event.anchor] / LANE_M)


def test_only_injected_pedestrians_come_near(scene: Scene) -> None:
    script, _, traffic = scene
    crossings = [event for event in script.events if event.type == "pedestrian_crossing"]
    crossed = 0
    for actor in traffic.actors:
        if actor.kind != "person":
            continue
        if actor.facing == 0:
            crossed += 1
            assert np.ptp(actor.knots[:, 2]) == pytest.approx(11.0)
        else:
            assert actor.knots[:, 2].max() <= KERB_M - 8.0
    assert crossed == len(crossings) > 0


def test_pedestrians_cross_ahead_of_the_slowed_car(scene: Scene) -> None:
    script, motion, traffic = scene
    for event in script.events:
        if event.type != "pedestrian_crossing":
            continue
        walkers = [a for a in traffic.actors if a.facing == 0]
        actor = min(walkers, key=lambda a: abs(np.mean(a.knots[:, 0]) - event.end * DT_S))
        (t0, s, d0), (t1, _, d1) = actor.knots
        assert (d1 - d0) / (t1 - t0) == pytest.approx(event.params["walk_mps"])
        during = (motion.t_s >= t0) & (motion.t_s <= min(t1, event.end * DT_S))
        ahead = s - motion.s_m[during] - NOSE_M
        assert ahead.min() > 4.0


def test_oncoming_vehicles_keep_to_their_lanes_and_turn_up_ahead(scene: Scene) -> None:
    traffic = scene[2]
    oncoming = [
        a for a in traffic.actors if a.facing < 0 and a.kind != "person" and len(a.knots) == 2
    ]
    oncoming = [a for a in oncoming if a.knots[0, 2] > LANE_M]
    assert len(oncoming) > 100
    for actor in oncoming:
        speed = np.diff(actor.knots[:, 1]) / np.diff(actor.knots[:, 0])
        assert -16.1 < speed[0] < -7.9
        assert actor.knots[0, 2] == actor.knots[1, 2] > 2 * LANE_M
    meets = np.sort([np.interp(2 / 3, [0, 1], a.knots[:, 0]) for a in oncoming])
    assert np.diff(meets).mean() == pytest.approx(6.0, rel=0.2)


def test_no_lead_where_an_event_needs_an_empty_road(scene: Scene) -> None:
    script, _, traffic = scene
    for event in script.events:
        if event.type in {"lane_change", "pedestrian_crossing"}:
            span = slice(event.start, event.end - SIM_HZ)
            assert np.isnan(traffic.lead_distance_m[span]).all()
