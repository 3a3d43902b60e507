"""Bodies: outlines against the pixels drawn, and projections against SIZES_M."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.arrays import FloatArray, Image
from synth.bodies import (
    SUBPIXEL_BITS,
    Lamp,
    Outline,
    draw_person,
    draw_vehicle,
    fill_polygons,
    fixed_point,
)
from synth.camera import Pinhole
from synth.traffic import SIZES_M, Actor, Class

CAMERA = Pinhole(0.0, 0.0, 1.4, 0.0, 300.0, 640, 480)


def _actor(kind: Class, hue: int = 5) -> Actor:
    return Actor(1, kind, np.zeros((2, 3)), 1, hue)


def _draw(
    kind: Class, pose: tuple[float, float, float], hue: int = 5, t_s: float = 0.3
) -> tuple[Image, Outline | None, list[Lamp]]:
    picture: Image = np.full((480, 640, 3), 123, np.uint8)
    lamps: list[Lamp] = []
    if kind == "person":
        outline = draw_person(picture, CAMERA, _actor(kind, hue), np.array(pose), t_s)
    else:
        outline = draw_vehicle(picture, CAMERA, _actor(kind, hue), np.array(pose), lamps)
    return picture, outline, lamps


def _changed(picture: Image) -> FloatArray:
    v, u = np.nonzero((picture != 123).any(axis=2))
    return np.array([u.min(), v.min(), u.max(), v.max()], np.float64)


@pytest.mark.parametrize("kind", ["car", "truck", "person"])
@pytest.mark.parametrize("turn", [0.0, 0.9, np.pi / 2, 2.5, np.pi, -1.2])
@pytest.mark.parametrize("across", [-4.0, 0.2, 5.0])
def test_the_outline_bounds_the_pixels(kind: Class, turn: float, across: float) -> None:
    picture, outline, _ = _draw(kind, (14.0, across, turn))
    assert outline is not None
    np.testing.assert_allclose(_changed(picture), outline, atol=1.5)


@pytest.mark.parametrize("kind", ["car", "truck"])
def test_the_rear_of_a_vehicle_has_its_projected_size(kind: Class) -> None:
    length, width, height = SIZES_M[kind]
    distance = 20.0
    _, outline, _ = _draw(kind, (distance + length / 2, 0.0, 0.0))
    assert outline is not None
    left, top, right, bottom = outline
    scale = CAMERA.focal_px / distance
    assert right - left == pytest.approx(width * scale, rel=0.01)
    assert bottom == pytest.approx(240 + 1.4 * scale, abs=0.6)  # the ground below the bumper
    if kind == "truck":
        assert top == pytest.approx(240 - (height - 1.4) * scale, abs=0.1)


def test_a_person_is_as_tall_as_the_truth_says() -> None:
    _, outline, _ = _draw("person", (12.0, 1.0, 0.0))
    assert outline is not None
    scale = CAMERA.focal_px / 12.0
    assert outline[3] == pytest.approx(240 + 1.4 * scale, abs=0.5)
    assert outline[3] - outline[1] == pytest.approx(SIZES_M["person"][2] * scale, rel=0.02)


def test_legs_swing_with_time() -> None:
    first, second = (_draw("person", (8.0, 0.0, 0.0), t_s=t_s)[0] for t_s in (0.0, 0.25))
    assert (first != second).any()


@pytest.mark.parametrize("kind", ["car", "truck", "person"])
@pytest.mark.parametrize("x", [-20.0, -5.0])
def test_nothing_is_drawn_of_what_is_behind(kind: Class, x: float) -> None:
    picture, outline, lamps = _draw(kind, (x, 0.5, 0.2))
    assert outline is None
    assert not lamps
    assert (picture == 123).all()


def test_a_vehicle_that_the_camera_is_inside_is_not_drawn() -> None:
    picture, outline, lamps = _draw("truck", (1.0, 0.3, 0.1))
    assert outline is None
    assert not lamps
    assert (picture == 123).all()


def test_a_vehicle_beside_the_camera_is_cut_at_the_near_plane() -> None:
    """A car that passes on the left reaches past the image's edge, and not to the right half."""
    picture, outline, _ = _draw("car", (2.0, 1.6, 0.0))
    assert outline is not None
    assert np.isfinite(outline).all()
    assert outline[0] < 0
    assert _changed(picture)[2] < 320


@pytest.mark.parametrize(("turn", "red"), [(0.0, True), (np.pi, False)])
def test_lamps_are_red_behind_and_white_in_front(turn: float, red: bool) -> None:
    _, outline, lamps = _draw("car", (15.0, 0.0, turn))
    assert outline is not None
    assert len(lamps) == 2
    for centre, radius, (blue, _, strong) in lamps:
        assert outline[0] <= centre[0] <= outline[2]
        assert outline[1] <= centre[1] <= outline[3]
        assert 1 < radius < 4
        assert strong > 200
        assert (blue < 100) == red


def test_paint_follows_the_hue() -> None:
    cars = {_draw("car", (12.0, 0.0, 0.4), hue=hue)[0].tobytes() for hue in range(7)}
    assert len(cars) == 7
    assert _draw("car", (12.0, 0.0, 0.4), hue=7)[0].tobytes() in cars


def test_polygons_fill_their_area() -> None:
    picture: Image = np.zeros((100, 100, 3), np.uint8)
    square = np.array([[10.0, 20.0], [60.0, 20.0], [60.0, 80.0], [10.0, 80.0]])
    fill_polygons(picture, [square, square * 0.1], (1, 2, 3))
    filled = (picture == (1, 2, 3)).all(axis=2)
    assert filled.sum() == pytest.approx(50 * 60 + 5 * 6, rel=0.05)


def test_coordinates_are_limited_to_what_opencv_draws() -> None:
    assert fixed_point(np.array([1.0, 1e12, -1e12])).tolist() == [
        1 << SUBPIXEL_BITS,
        1 << 18,
        -(1 << 18),
    ]
