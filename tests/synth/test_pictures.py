"""Pictures against their boxes and their geometry."""

from __future__ import annotations

import numpy as np
import pytest

from synth.camera import NEAR_M, Pinhole, Road, clip_near
from synth.encode import H264
from synth.pictures import Painter
from synth.recorded import Drive, simulate
from synth.spec import FleetSpec

SPEC = FleetSpec(drives=2, minutes=3.0, seed=4, width=320, height=240)


@pytest.fixture(scope="module")
def day() -> Drive:
    """Simulates a drive by day."""
    return simulate(SPEC, 0)


@pytest.mark.parametrize("camera", SPEC.cameras)
def test_a_box_holds_the_pixels_of_its_actor(day: Drive, camera: str) -> None:
    """Leaving an actor out changes pixels, all of them inside its box."""
    painter = Painter(SPEC, day, camera)
    checked = 0
    for t_s in np.arange(10.0, 170.0, 8.0):
        whole, rows = painter.draw(float(t_s))
        for _, _, track, _, x, y, w, h, hidden in rows:
            if hidden > 0.3:
                continue
            bare, _ = painter.draw(float(t_s), without=track)
            v, u = np.nonzero((whole != bare).any(axis=2))
            assert len(u), (track, t_s)
            assert u.min() >= x - 1.5
            assert u.max() <= x + w + 1.5
            assert v.min() >= y - 1.5
            assert v.max() <= y + h + 1.5
            assert len(u) > 0.2 * w * h
            checked += 1
    assert checked > 5


def test_dark_drives_are_dark(day: Drive) -> None:
    """Nights are below 35 of 255 on every camera."""
    night = simulate(SPEC, 1)
    assert (day.dark, night.dark) == (False, True)
    for camera in SPEC.cameras:
        bright = Painter(SPEC, day, camera).draw(20.0)[0].mean()
        dark = Painter(SPEC, night, camera).draw(20.0)[0].mean()
        assert bright > 100
        assert dark < 35


def test_the_lane_is_under_the_car(day: Drive) -> None:
    """The road at the car's distance and offset is where the car is."""
    motion = day.motion
    steps = np.arange(0, len(motion.t_s), 37)
    places, headings = Road(motion).at(motion.s_m[steps], motion.offset_m[steps])
    assert np.abs(places[:, 0] - motion.x_m[steps]).max() < 0.3
    assert np.abs(places[:, 1] - motion.y_m[steps]).max() < 0.3
    assert np.abs(headings - motion.road_heading_rad[steps]).max() < 0.1


def test_clip_near_keeps_what_lies_ahead() -> None:
    """A square across the near plane is cut at it; one behind vanishes."""
    square = np.array([[-5.0, -1, 0], [5.0, -1, 0], [5.0, 1, 0], [-5.0, 1, 0]])
    cut = clip_near(square)
    assert cut[:, 0].min() == pytest.approx(NEAR_M)
    assert cut[:, 0].max() == 5.0
    assert len(cut) == 4
    assert len(clip_near(square - [20, 0, 0])) == 0


def test_projection_is_a_pinhole() -> None:
    """Two metres to the right at ten metres is a fifth of the focal length."""
    eye = Pinhole(1.0, 2.0, 1.5, np.pi / 2, 500.0, 640, 480)
    right_ahead = np.array([1.0 + 2.0, 2.0 + 10.0, 1.5])
    assert eye.project(eye.to_camera(right_ahead)) == pytest.approx([320 + 100, 240])


def test_a_lead_vehicle_is_seen_at_its_distance(day: Drive) -> None:
    """The lead's width in pixels agrees with the truth's distance."""
    gap = day.traffic.lead_distance_m
    bend = np.convolve(np.abs(day.motion.yaw_rate_radps), np.full(800, 1 / 800), "same")
    steps = np.flatnonzero((gap > 8) & (gap < 25) & (bend < 0.01))[::300]
    painter = Painter(SPEC, day, "front")
    focal = 160 / np.tan(np.radians(33))
    agreed = 0
    for step in steps:
        from_camera = gap[step] + 1.9
        _, rows = painter.draw(step / 100)
        widths = [row[6] for row in rows if row[3] == "car"]
        agreed += any(w == pytest.approx(1.85 * focal / from_camera, rel=0.2) for w in widths)
    assert len(steps) > 3
    assert agreed >= 0.8 * len(steps)


def test_keyframes_come_once_a_second() -> None:
    """One slice a picture, an IDR every 36."""
    encoder = H264(64, 48)
    rng = np.random.default_rng(1)
    coded = [encoder.encode(rng.integers(0, 255, (48, 64, 3), np.uint8)) for _ in range(80)]
    assert [k for k, frame in enumerate(coded) if frame.is_keyframe] == [0, 36, 72]
    assert {frame.nal[0] & 0x1F for frame in coded} == {1, 5}
