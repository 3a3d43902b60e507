"""Pinhole projection and the road against geometry done another way."""

from __future__ import annotations

import numpy as np
import pytest

from synth.camera import MOUNTS, NEAR_M, Pinhole, Road, clip_near, pinhole
from synth.recorded import Drive
from synth.spec import CAMERAS


def test_projection_is_a_pinhole() -> None:
    camera = Pinhole(1.0, 2.0, 1.5, np.pi / 2, 500.0, 640, 480)
    right_ahead = np.array([1.0 + 2.0, 2.0 + 10.0, 1.5])
    assert camera.project(camera.to_camera(right_ahead)) == pytest.approx([320 + 100, 240])


@pytest.mark.parametrize("name", CAMERAS)
def test_projected_ground_points_project_back(name: str) -> None:
    """Intersects the ray of every pixel with the ground, with matrices instead of the class."""
    camera = pinhole(name, 31.0, -7.0, 2.2, (640, 480))
    dice = np.random.default_rng(2)
    ahead, across = dice.uniform(2, 80, 200), dice.uniform(-10, 10, 200)
    heading = camera.heading_rad
    forward, left = (
        np.array([np.cos(heading), np.sin(heading), 0]),
        np.array([-np.sin(heading), np.cos(heading), 0]),
    )
    points = np.array([camera.x_m, camera.y_m, 0]) + np.outer(ahead, forward)
    points += np.outer(across, left)
    pixels = camera.project(camera.to_camera(points))
    intrinsics = np.array([[camera.focal_px, 0, 320], [0, camera.focal_px, 240], [0, 0, 1]])
    rays = np.linalg.solve(intrinsics, np.column_stack([pixels, np.ones(200)]).T).T
    rotation = np.stack([-left, [0, 0, -1], forward])  # rows: right, down, ahead on the map
    on_map = rays @ rotation
    centre = np.array([camera.x_m, camera.y_m, camera.z_m])
    back = centre - on_map * (camera.z_m / on_map[:, 2])[:, None]
    np.testing.assert_allclose(back, points, atol=1e-8)


@pytest.mark.parametrize("name", CAMERAS)
def test_the_edges_of_the_image_are_half_the_field_of_view_away(name: str) -> None:
    camera = pinhole(name, 0.0, 0.0, 0.0, (640, 480))
    _, _, _, yaw, fov = MOUNTS[name]
    for side, u in ((1, 0), (-1, 640)):
        angle = np.radians(yaw + side * fov / 2)
        far = np.array([camera.x_m + 50 * np.cos(angle), camera.y_m + 50 * np.sin(angle), 1.0])
        assert camera.project(camera.to_camera(far))[0] == pytest.approx(u, abs=1e-6)


def test_mounts_turn_with_the_car() -> None:
    straight, turned = (pinhole("left_repeater", 0, 0, h, (640, 480)) for h in (0.0, np.pi / 2))
    assert (turned.x_m, turned.y_m) == pytest.approx((-straight.y_m, straight.x_m))
    assert turned.heading_rad - straight.heading_rad == pytest.approx(np.pi / 2)


def test_nothing_in_the_image_is_culled() -> None:
    """Compares with the projection of dense points of the cylinder."""
    dice = np.random.default_rng(3)
    camera = pinhole("front", 5.0, 3.0, 0.7, (320, 240))
    turn = np.linspace(0, 2 * np.pi, 90)
    culled = 0
    for x, y, radius in zip(
        dice.uniform(-60, 60, 300),
        dice.uniform(-60, 60, 300),
        dice.uniform(0.3, 6, 300),
        strict=True,
    ):
        rim = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn), 0 * turn], axis=1)
        seen = camera.to_camera(rim)
        u = camera.project(seen[seen[:, 0] > NEAR_M])[:, 0]
        if not camera.may_show(x, y, radius):
            culled += 1
            assert not ((u > -1) & (u < 321)).any()
    assert culled > 150


def test_clip_near_keeps_what_lies_ahead() -> None:
    square = np.array([[-5.0, -1, 0], [5.0, -1, 0], [5.0, 1, 0], [-5.0, 1, 0]])
    cut = clip_near(square)
    assert cut[:, 0].min() == pytest.approx(NEAR_M)
    assert cut[:, 0].max() == 5.0
    assert len(cut) == 4
    assert len(clip_near(square - [20, 0, 0])) == 0


def test_clipping_keeps_the_plane_of_a_polygon() -> None:
    triangle = np.array([[-1.0, 0, 0], [3.0, 2, 1], [3.0, -2, 5]])
    normal = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
    cut = clip_near(triangle)
    assert len(cut) == 4
    np.testing.assert_allclose((cut - triangle[0]) @ normal, 0, atol=1e-12)


def test_the_lane_is_under_the_car(day: Drive) -> None:
    motion = day.motion
    steps = np.arange(0, len(motion.t_s), 37)
    places, headings = Road(motion).at(motion.s_m[steps], motion.offset_m[steps])
    assert np.abs(places[:, 0] - motion.x_m[steps]).max() < 0.3
    assert np.abs(places[:, 1] - motion.y_m[steps]).max() < 0.3
    assert np.abs(headings - motion.road_heading_rad[steps]).max() < 0.1


def test_the_road_goes_straight_on_beyond_its_ends(day: Drive) -> None:
    road, end = Road(day.motion), float(day.motion.s_m[-1])
    places, headings = road.at(np.array([end + 10, end + 110]), np.array([2.0, 2.0]))
    np.testing.assert_allclose(np.hypot(*np.diff(places, axis=0)[0]), 100)
    assert headings[0] == headings[1]


def test_an_offset_is_left_of_the_road(day: Drive) -> None:
    road = Road(day.motion)
    (middle, left), (heading, _) = road.at(np.array([200.0, 200.0]), np.array([0.0, 3.5]))
    np.testing.assert_allclose(left - middle, [-3.5 * np.sin(heading), 3.5 * np.cos(heading)])
