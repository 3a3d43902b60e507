"""Draws road users: vehicles as shaded boxes with windows, wheels and lamps; walking people.

Every draw function returns the outline of what it drew, float64[4] of (left, top, right,
bottom) in pixels, possibly outside the image, or None where nothing is ahead of the camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from schemas.arrays import AnyArray, FloatArray, Image
from synth.camera import NEAR_M, Pinhole, clip_near
from synth.traffic import SIZES_M, Actor, Class

Outline = FloatArray
Colour = tuple[int, int, int]
"""Blue, green, red."""
Lamp = tuple[FloatArray, float, Colour]
"""Centre and radius in pixels, and colour."""
_Face = tuple[list[tuple[float, float, float]], Colour]
"""A polygon in the body's frame, corners (x forward, y left, z up) in m, and its colour."""
_Part = tuple[int, Colour]
"""How many of the next corners of an array make up a polygon, and its colour."""
_Points = tuple[tuple[float, float], ...]

SUBPIXEL_BITS = 4
"""Fractional bits of the coordinates that OpenCV's drawing functions take."""
_COORDINATE_LIMIT = 1 << 18
_WAIST = 0.58
"""Share of a car's height at which its windows begin."""
_PAINTS: tuple[Colour, ...] = (
    (40, 40, 170),
    (150, 60, 30),
    (200, 200, 205),
    (45, 45, 48),
    (120, 125, 130),
    (60, 110, 60),
    (235, 235, 235),
)
_CLOTHES: tuple[Colour, ...] = ((60, 60, 200), (170, 80, 40), (60, 140, 60), (40, 40, 60))
_TROUSERS: tuple[Colour, ...] = ((90, 60, 45), (60, 58, 55), (35, 32, 32), (110, 125, 140))
_HAIR = (28, 32, 40)
_TORSO = (
    (-0.15, 0.50),
    (-0.16, 0.64),
    (-0.21, 0.79),
    (-0.13, 0.835),
    (0.13, 0.835),
    (0.21, 0.79),
    (0.16, 0.64),
    (0.15, 0.50),
)
"""Corners, each (offset across in m, share of the height)."""
_SKINS: tuple[Colour, ...] = ((180, 205, 240), (120, 160, 205), (60, 90, 140))
_GLASS, _RUBBER, _PLATE = (75, 62, 50), (25, 25, 25), (215, 225, 225)
_SHADOW = (30, 29, 28)
_TAIL, _HEAD = (40, 40, 235), (225, 250, 255)


def fill_polygons(picture: Image, polygons: Sequence[FloatArray], colour: Colour) -> None:
    """Fills polygons, each float64[n, 2] in pixels, as one shape (even-odd rule)."""
    cv2.fillPoly(picture, [fixed_point(p) for p in polygons], colour, cv2.LINE_8, SUBPIXEL_BITS)


def fixed_point(pixels: FloatArray) -> AnyArray:
    """Converts pixels to the fixed-point coordinates, int32[..., 2], that OpenCV draws with.

    Far points are limited to a range in which it does not overflow.

    >>> fixed_point(np.array([[1.5, -1e9]])).tolist()
    [[24, -262144]]
    """
    scaled = pixels * (1 << SUBPIXEL_BITS)
    limited = np.minimum(np.maximum(scaled, -_COORDINATE_LIMIT), _COORDINATE_LIMIT)
    return np.asarray(limited.round(), np.int32)


def draw_vehicle(
    picture: Image, camera: Pinhole, actor: Actor, pose: FloatArray, lamps: list[Lamp]
) -> Outline | None:
    """Draws a car or truck at a pose (x m, y m, rad) and appends its lamps, which glow at night."""
    length, width, _ = SIZES_M[actor.kind]
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    away = np.array([camera.x_m - pose[0], camera.y_m - pose[1]])
    ahead, left = away @ [cos, sin], away @ [-sin, cos]
    ends, sides = abs(ahead) > length / 2, abs(left) > width / 2
    if not (ends or sides):  # the camera is inside
        return None
    paint = _PAINTS[actor.hue % len(_PAINTS)]
    toward = float(np.sign(ahead)), float(np.sign(left))
    corners, parts = _vehicle(actor.kind, paint, toward, (bool(ends), bool(sides)))
    body = _Body(camera, pose[:2], cos, sin)
    if ends:
        lamps += body.lamps(toward[0] * length / 2, width)
    return body.fill(picture, corners, parts)


@cache
def _vehicle(
    kind: Class, paint: Colour, toward: tuple[float, float], visible: tuple[bool, bool]
) -> tuple[FloatArray, tuple[_Part, ...]]:
    """Lists the faces of a vehicle, first drawn first.

    Args:
        kind: car or truck.
        paint: its colour.
        toward: the end (1 front, -1 rear) and side (1 left, -1 right) that face the camera.
        visible: whether the camera is beyond that end, and beyond that side.

    Returns:
        The corners of all faces, float64[n, 3] in the body's frame (x forward, y left, z up,
        m), and the parts that these make up.
    """
    length, width, height = SIZES_M[kind]
    waist = _WAIST * height if kind == "car" else height
    end, side = toward
    shadow = _rectangle(-length / 2, length / 2, -width / 2, width / 2)
    faces: list[_Face] = [([(x, y, 0.02) for x, y in shadow], _SHADOW)]
    if visible[1]:
        faces += _flank(length, side * width / 2, waist, paint)
    if visible[0]:
        faces += _end(end * length / 2, width, waist, paint)
    if kind == "car":
        faces += _cabin(paint, end, side)
    corners = np.array([corner for face, _ in faces for corner in face])
    return corners, tuple((len(face), colour) for face, colour in faces)


def _flank(length: float, y: float, waist: float, paint: Colour) -> list[_Face]:
    """Builds the side of a vehicle at `y`: body panel and wheels."""
    panel = _rectangle(-length / 2, length / 2, 0.3, waist)
    faces: list[_Face] = [([(x, y, z) for x, z in panel], _shade(paint, 0.8))]
    for x in (-0.31 * length, 0.31 * length):
        wheel = _oval(x, 0.33, 0.33, 0.33, corners=12)
        faces.append(([(x, y, z) for x, z in wheel], _RUBBER))
    return faces


def _end(x: float, width: float, waist: float, paint: Colour) -> list[_Face]:
    """Builds the front or rear of a vehicle at `x`: tyres, bumper, panel, plate and lamps."""
    faces: list[_Face] = []

    def add(y: float, y_z: _Points, colour: Colour) -> None:
        faces.append(([(x, y + dy, z) for dy, z in y_z], colour))

    for y in (-0.39 * width, 0.39 * width):
        add(y, _rectangle(-0.11, 0.11, 0.0, 0.4), _SHADOW)
    add(0.0, _rectangle(-width / 2, width / 2, 0.28, 0.45), _shade(_SHADOW, 1.8))
    add(0.0, _rectangle(-width / 2, width / 2, 0.45, waist), _shade(paint, 0.9))
    add(0.0, _rectangle(-0.26, 0.26, 0.5, 0.63), _PLATE)
    for y in (-0.4 * width, 0.4 * width):
        add(y, _rectangle(-0.16, 0.16, 0.66, 0.82), _HEAD if x > 0 else _TAIL)
    return faces


def _cabin(paint: Colour, end: float, side: float) -> list[_Face]:
    """Builds deck, windows and roof of a car, seen from one end (1 front) and side (1 left)."""
    length, width, height = SIZES_M["car"]
    waist = _WAIST * height
    deck = _rectangle(-length / 2, length / 2, -width / 2, width / 2)
    faces: list[_Face] = [([(x, y, waist) for x, y in deck], _shade(paint, 1.05))]
    low = {-1.0: -0.46 * length, 1.0: 0.28 * length}
    high = {-1.0: -0.32 * length, 1.0: 0.10 * length}
    wide, narrow = 0.48 * width, 0.40 * width
    flank = (
        (low[-1.0], side * wide),
        (low[1.0], side * wide),
        (high[1.0], side * narrow),
        (high[-1.0], side * narrow),
    )
    screen = ((low[end], -wide), (low[end], wide), (high[end], narrow), (high[end], -narrow))
    for x_y in (flank, screen):
        heights = (waist, waist, height, height)
        frame = np.array([(*xy, z) for xy, z in zip(x_y, heights, strict=True)])
        glass = frame.mean(axis=0) + 0.82 * (frame - frame.mean(axis=0))
        faces += [(frame.tolist(), _shade(paint, 0.85)), (glass.tolist(), _GLASS)]
    roof = _rectangle(high[-1.0], high[1.0], -narrow, narrow)
    faces.append(([(x, y, height) for x, y in roof], paint))
    return faces


def draw_person(
    picture: Image, camera: Pinhole, actor: Actor, pose: FloatArray, t_s: float
) -> Outline | None:
    """Draws a walking person at a pose (x m, y m, rad), limbs swinging with time."""
    height = SIZES_M["person"][2]
    seen = camera.to_camera(np.array([pose[0], pose[1], 0.0]))
    if seen[0] < 2 * NEAR_M:
        return None
    foot, scale = camera.project(seen), camera.focal_px / seen[0]
    parts = _figure(actor.hue, float(np.sin(2 * np.pi * 0.95 * t_s + actor.hue)))
    pixels = foot + scale * np.array([(x, -z * height) for points, _ in parts for x, z in points])
    _fill_in_turn(picture, pixels, [(len(points), colour) for points, colour in parts])
    return _bounds(pixels)


def _figure(hue: int, swing: float) -> tuple[tuple[_Points, Colour], ...]:
    """Lists the parts of a person from back to front, points as in `_TORSO`.

    `swing` is the phase of the gait, from -1 to 1.
    """
    top = _CLOTHES[hue % len(_CLOTHES)]
    trousers = _TROUSERS[hue // 7 % len(_TROUSERS)]
    skin = _SKINS[hue // 31 % len(_SKINS)]
    return (
        (_limb((0.10 * swing, 0.76, 0.11), (0.24 * swing, 0.47, 0.08)), _darker(top)),
        (_leg(-swing), _darker(trousers)),
        (_shoe(-swing), _RUBBER),
        (_leg(swing), trousers),
        (_shoe(swing), _RUBBER),
        (_limb((0.0, 0.88, 0.11), (0.0, 0.80, 0.13)), skin),
        (_TORSO, top),
        (_limb((-0.10 * swing, 0.80, 0.13), (-0.26 * swing, 0.52, 0.10)), _darker(top, 0.85)),
        (_oval(-0.26 * swing, 0.49, 0.05, 0.035), skin),
        (_oval(0.0, 0.925, 0.095, 0.075), skin),
        (_oval(0.0, 0.955, 0.10, 0.045), _HAIR),
    )


def _leg(swing: float) -> _Points:
    """Outlines a leg by hip, knee and ankle, wide at the top and narrow at the bottom."""
    knee, ankle = 0.16 * swing, 0.30 * swing
    return (
        (-0.10, 0.52),
        (knee - 0.08, 0.28),
        (ankle - 0.055, 0.04),
        (ankle + 0.055, 0.04),
        (knee + 0.08, 0.28),
        (0.10, 0.52),
    )


def _shoe(swing: float) -> _Points:
    x = 0.30 * swing
    return ((x - 0.07, 0.0), (x + 0.17, 0.0), (x + 0.10, 0.035), (x - 0.06, 0.05))


def _limb(begin: tuple[float, float, float], end: tuple[float, float, float]) -> _Points:
    """Outlines a limb between two joints, each (across m, share of the height, width m)."""
    (x0, z0, wide0), (x1, z1, wide1) = begin, end
    return (
        (x0 - wide0 / 2, z0),
        (x1 - wide1 / 2, z1),
        (x1 + wide1 / 2, z1),
        (x0 + wide0 / 2, z0),
    )


def _oval(x: float, z: float, half_m: float, half_z: float, corners: int = 16) -> _Points:
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return tuple((x + half_m * float(np.cos(a)), z + half_z * float(np.sin(a))) for a in turn)


def _darker(colour: Colour, share: float = 0.7) -> Colour:
    return (round(colour[0] * share), round(colour[1] * share), round(colour[2] * share))


def _shade(colour: Colour, share: float) -> Colour:
    b, g, r = (int(min(c * share, 255.0)) for c in colour)
    return b, g, r


def _rectangle(low: float, high: float, bottom: float, top: float) -> _Points:
    return ((low, bottom), (high, bottom), (high, top), (low, top))


def _bounds(pixels: FloatArray) -> Outline:
    return np.asarray(np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]))


def _fill_in_turn(picture: Image, pixels: FloatArray, parts: Sequence[_Part]) -> None:
    """Fills consecutive polygons of `pixels`, float64[n, 2]."""
    fixed, first = fixed_point(pixels), 0
    for corners, colour in parts:
        polygon = fixed[first : first + corners]
        cv2.fillPoly(picture, [polygon], colour, cv2.LINE_8, SUBPIXEL_BITS)
        first += corners


class _Body:
    """Places a rigid body on the map and projects its faces into one camera."""

    def __init__(self, camera: Pinhole, place: FloatArray, cos: float, sin: float) -> None:
        self._camera, self._place = camera, place
        self._cos, self._sin = cos, sin

    def _to_camera(self, points: FloatArray) -> FloatArray:
        placed = np.empty_like(points)
        placed[:, 0] = self._place[0] + points[:, 0] * self._cos - points[:, 1] * self._sin
        placed[:, 1] = self._place[1] + points[:, 0] * self._sin + points[:, 1] * self._cos
        placed[:, 2] = points[:, 2]
        return self._camera.to_camera(placed)

    def fill(self, picture: Image, corners: FloatArray, parts: Sequence[_Part]) -> Outline | None:
        """Fills faces in turn, clipped at the near plane; returns their outline."""
        # All corners at once: numpy takes as long for 5 points as for 80.
        points = self._to_camera(corners)
        if (points[:, 0] < NEAR_M).any():
            ends = np.cumsum([count for count, _ in parts])
            clipped = [clip_near(face) for face in np.split(points, ends[:-1])]
            faces = zip(clipped, parts, strict=True)
            ahead = [(face, colour) for face, (_, colour) in faces if len(face) > 2]
            if not ahead:
                return None
            points = np.concatenate([face for face, _ in ahead])
            parts = [(len(face), colour) for face, colour in ahead]
        pixels = self._camera.project(points)
        _fill_in_turn(picture, pixels, parts)
        return _bounds(pixels)

    def lamps(self, x: float, width: float) -> list[Lamp]:
        """Projects the two lamps of the end at `x`, those ahead of the camera."""
        at = np.array([(x, -0.4 * width, 0.74), (x, 0.4 * width, 0.74)])
        return [
            (
                self._camera.project(lamp),
                0.12 * (self._camera.focal_px / float(lamp[0])),
                _HEAD if x > 0 else _TAIL,
            )
            for lamp in self._to_camera(at)
            if lamp[0] >= NEAR_M
        ]
