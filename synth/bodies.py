"""Draws the bodies of actors: shaded boxes with windows, wheels and lamps; jointed figures.

A body returns its outline, float64[4] of (left, top, right, bottom) in pixels, of all that
was drawn, or None where nothing of it lies ahead of the camera.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from schemas.arrays import FloatArray, Image
from synth.camera import NEAR_M, Pinhole, clip_near
from synth.traffic import SIZES_M, Actor

Outline = FloatArray
Colour = tuple[int, int, int]
_Points = tuple[tuple[float, float], ...]
Lamp = tuple[FloatArray, float, Colour]

_SUBPIXEL = 4
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
"""Corners in m across, and shares of the height."""
_SKINS: tuple[Colour, ...] = ((180, 205, 240), (120, 160, 205), (60, 90, 140))
_GLASS, _RUBBER, _PLATE = (75, 62, 50), (25, 25, 25), (215, 225, 225)
_SHADOW = (30, 29, 28)
_TAIL, _HEAD = (40, 40, 235), (225, 250, 255)


def draw_vehicle(
    picture: Image,
    eye: Pinhole,
    actor: Actor,
    pose: FloatArray,
    lamps: list[Lamp],
) -> Outline | None:
    """Draws a car or a truck at a pose (x m, y m, rad); adds its lamps, which shine at night."""
    length, width, height = SIZES_M[actor.kind]
    place = pose[:2]
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    toward = np.array([eye.x_m - place[0], eye.y_m - place[1]])
    ahead, left = toward @ [cos, sin], toward @ [-sin, cos]
    if abs(ahead) < length / 2 and abs(left) < width / 2:
        return None
    paint = _colour(_PAINTS[actor.hue % len(_PAINTS)])
    canvas = _Canvas(picture, eye, place, cos, sin)
    waist = _WAIST * height if actor.kind == "car" else height
    front, side = np.sign(ahead) * length / 2, np.sign(left) * width / 2
    ends, sides = abs(ahead) > length / 2, abs(left) > width / 2
    dark = _colour(_SHADOW)
    shadow = [(x, y, 0.02) for x, y in _rectangle(-length / 2, length / 2, -width / 2, width / 2)]
    canvas.fill(shadow, dark)
    if sides:
        canvas.fill(
            [(x, side, z) for x, z in _rectangle(-length / 2, length / 2, 0.3, waist)], paint * 0.8
        )
        for x in (-0.31 * length, 0.31 * length):
            turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
            canvas.fill(
                [(x + 0.33 * np.cos(a), side, 0.33 + 0.33 * np.sin(a)) for a in turn],
                _colour(_RUBBER),
            )
    if ends:
        for y in (-0.39 * width, 0.39 * width):
            tyre = [(front, y + dy, z) for dy, z in _rectangle(-0.11, 0.11, 0.0, 0.4)]
            canvas.fill(tyre, dark)
        for low_z, high_z, colour in ((0.28, 0.45, dark * 1.8), (0.45, waist, paint * 0.9)):
            band = _rectangle(-width / 2, width / 2, low_z, high_z)
            canvas.fill([(front, y, z) for y, z in band], colour)
        canvas.fill([(front, y, z) for y, z in _rectangle(-0.26, 0.26, 0.5, 0.63)], _colour(_PLATE))
        shine = _HEAD if front > 0 else _TAIL
        for y in (-0.4 * width, 0.4 * width):
            canvas.fill(
                [(front, y + dy, z) for dy, z in _rectangle(-0.16, 0.16, 0.66, 0.82)],
                _colour(shine),
            )
            lamp = canvas.point((front, y, 0.74))
            if lamp is not None:
                lamps.append((lamp[0], 0.12 * lamp[1], shine))
    if actor.kind == "car":
        _draw_cabin(canvas, paint, float(np.sign(ahead)), float(np.sign(left)))
    return canvas.outline()


def _draw_cabin(canvas: _Canvas, paint: FloatArray, end: float, side: float) -> None:
    """Draws deck, windows and roof of a car, seen from one end (1 front) and side (1 left)."""
    length, width, height = SIZES_M["car"]
    waist = _WAIST * height
    deck = _rectangle(-length / 2, length / 2, -width / 2, width / 2)
    canvas.fill([(x, y, waist) for x, y in deck], paint * 1.05)
    low = {-1.0: -0.46 * length, 1.0: 0.28 * length}
    high = {-1.0: -0.32 * length, 1.0: 0.10 * length}
    wide, narrow = 0.48 * width, 0.40 * width
    faces = [
        [(low[-1.0], side * wide), (low[1.0], side * wide), (high[1.0], side * narrow)],
        [(low[end], -wide), (low[end], wide), (high[end], narrow)],
    ]
    lasts = [(high[-1.0], side * narrow), (high[end], -narrow)]
    for three, last in zip(faces, lasts, strict=True):
        heights = (waist, waist, height, height)
        face = np.array([(*xy, z) for xy, z in zip([*three, last], heights, strict=True)])
        canvas.fill(face, paint * 0.85)
        canvas.fill(face.mean(axis=0) + 0.82 * (face - face.mean(axis=0)), _colour(_GLASS))
    roof = _rectangle(high[-1.0], high[1.0], -narrow, narrow)
    canvas.fill([(x, y, height) for x, y in roof], paint)


def draw_person(
    picture: Image, eye: Pinhole, actor: Actor, pose: FloatArray, t_s: float
) -> Outline | None:
    """Draws a person who walks, legs and arms swinging."""
    height = SIZES_M["person"][2]
    seen = eye.see(np.array([pose[0], pose[1], 0.0]))
    if seen[0] < 2 * NEAR_M:
        return None
    foot, scale = eye.project(seen), eye.focal_px / seen[0]
    swing = np.sin(2 * np.pi * 0.95 * t_s + actor.hue)
    top = _CLOTHES[actor.hue % len(_CLOTHES)]
    trousers = _TROUSERS[actor.hue // 7 % len(_TROUSERS)]
    skin = _SKINS[actor.hue // 31 % len(_SKINS)]
    parts: tuple[tuple[_Points, Colour], ...] = (
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
    reach: list[FloatArray] = []
    for points, colour in parts:
        pixels = foot + scale * np.array([(x, -z * height) for x, z in points])
        _fill(picture, pixels, colour)
        reach.append(pixels)
    return _bounds(reach)


def _leg(swing: float) -> _Points:
    """Bends a leg at the knee: hip, knee and ankle, wide above and narrow below."""
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
    """Draws a limb between two places, each (across m, share of the height, width m)."""
    (x0, z0, wide0), (x1, z1, wide1) = begin, end
    return (
        (x0 - wide0 / 2, z0),
        (x1 - wide1 / 2, z1),
        (x1 + wide1 / 2, z1),
        (x0 + wide0 / 2, z0),
    )


def _oval(x: float, z: float, half_m: float, half_z: float) -> _Points:
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return tuple((x + half_m * float(np.cos(a)), z + half_z * float(np.sin(a))) for a in turn)


def _darker(colour: Colour, share: float = 0.7) -> Colour:
    return (round(colour[0] * share), round(colour[1] * share), round(colour[2] * share))


def _rectangle(
    low: float, high: float, bottom: float, top: float
) -> tuple[tuple[float, float], ...]:
    return ((low, bottom), (high, bottom), (high, top), (low, top))


def _colour(colour: Colour) -> FloatArray:
    return np.array(colour, np.float64)


def _bounds(polygons: list[FloatArray]) -> Outline:
    points = np.concatenate(polygons)
    return np.asarray(np.concatenate([points.min(axis=0), points.max(axis=0)]))


def _fill(picture: Image, polygon: FloatArray, colour: Colour) -> None:
    fixed = np.clip(polygon * (1 << _SUBPIXEL), -(1 << 18), 1 << 18).round().astype(np.int32)
    cv2.fillPoly(picture, [fixed], colour, cv2.LINE_8, _SUBPIXEL)


class _Canvas:
    """Fills polygons given in a body's own frame, and remembers how far they reach."""

    def __init__(
        self, picture: Image, eye: Pinhole, place: FloatArray, cos: float, sin: float
    ) -> None:
        self._picture, self._eye = picture, eye
        self._place, self._cos, self._sin = place, cos, sin
        self._reach: list[FloatArray] = []

    def _see(self, points: FloatArray) -> FloatArray:
        x = self._place[0] + points[:, 0] * self._cos - points[:, 1] * self._sin
        y = self._place[1] + points[:, 0] * self._sin + points[:, 1] * self._cos
        return self._eye.see(np.stack([x, y, points[:, 2]], axis=1))

    def fill(
        self, points: Sequence[tuple[float, float, float]] | FloatArray, colour: FloatArray
    ) -> None:
        """Fills one polygon, float (x, y, z) of its corners."""
        seen = clip_near(self._see(np.array(points)))
        if len(seen) < 3:
            return
        pixels = self._eye.project(seen)
        b, g, r = (int(c) for c in np.clip(colour, 0, 255))
        _fill(self._picture, pixels, (b, g, r))
        self._reach.append(pixels)

    def point(self, at: tuple[float, float, float]) -> tuple[FloatArray, float] | None:
        """Projects a point; returns its pixel and the pixels of a metre there."""
        seen = self._see(np.array([at]))[0]
        if seen[0] < NEAR_M:
            return None
        return self._eye.project(seen), self._eye.focal_px / float(seen[0])

    def outline(self) -> Outline | None:
        """Bounds all that was filled."""
        if not self._reach:
            return None
        return _bounds(self._reach)
