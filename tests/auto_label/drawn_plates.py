"""Number plates of five countries, drawn plainly, and laid into pictures in perspective.

Nothing here is shared with the drawing code that the detector is trained on: the letters are
strokes of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from schemas.arrays import FloatArray, Image

_PX_PER_MM = 0.5
_DIGITS = "0123456789"
_LETTERS = "ABCDEFHJKLMNPRSTUVWXYZ"
# Strokes between points of a grid 4 wide and 6 high, row by row from the top left: "00" to "46".
_STROKES = {
    "A": "06 20 46,14 34", "B": "00 06 36 45 44 33 03,33 42 41 30 00",
    "C": "41 30 10 01 05 16 36 45", "D": "00 06 26 45 41 20 00", "E": "40 00 06 46,03 33",
    "F": "40 00 06,03 33", "H": "00 06,40 46,03 43", "J": "40 45 36 16 05", "K": "00 06,40 03 46",
    "L": "00 06 46", "M": "06 00 23 40 46", "N": "06 00 46 40", "P": "06 00 30 41 42 33 03",
    "R": "06 00 30 41 42 33 03,23 46", "S": "41 30 10 01 02 13 33 44 45 36 16 05",
    "T": "00 40,20 26", "U": "00 05 16 36 45 40", "V": "00 26 40", "W": "00 16 22 36 40",
    "X": "00 46,40 06", "Y": "00 23 40,23 26", "Z": "00 40 06 46",
    "0": "10 01 05 16 36 45 41 30 10", "1": "11 20 26", "2": "01 10 30 41 42 06 46",
    "3": "01 10 30 41 42 33 44 45 36 16 05,33 23", "4": "36 30 04 44",
    "5": "40 00 03 33 44 45 36 06", "6": "40 10 02 05 16 36 45 44 33 03", "7": "00 40 16",
    "8": "10 01 02 13 33 42 41 30 10,13 04 05 16 36 45 44 33",
    "9": "06 36 44 41 30 10 01 02 13 43", "-": "13 33", " ": "",
    "*": "00 40,20 26,02 42,04 24,34 46,06 24",
}  # fmt: skip


def german(rng: np.random.Generator) -> Image:
    text = f"{_some(rng, _LETTERS, 2)}-{_some(rng, _LETTERS, 2)} {_some(rng, _DIGITS, 3)}"
    plate = _blank(520, 110, (240, 240, 240))
    _rectangle(plate, (0, 0, 45, 110), (150, 60, 0))
    _write(plate, "D", (14, 70, 18, 28), (240, 240, 240))
    _write(plate, text, (60, 20, 445, 70), (20, 20, 20))
    _outline(plate, (20, 20, 20))
    return plate


def british(rng: np.random.Generator) -> Image:
    text = f"{_some(rng, _LETTERS, 2)}{_some(rng, _DIGITS, 2)} {_some(rng, _LETTERS, 3)}"
    plate = _blank(520, 111, (40, 205, 250) if rng.random() < 0.5 else (235, 240, 240))
    _write(plate, text, (30, 16, 460, 79), (15, 15, 15))
    return plate


def american(rng: np.random.Generator) -> Image:
    ground, ink = (((245, 245, 245), (110, 40, 20)), ((210, 240, 250), (30, 30, 120)))[
        int(rng.integers(2))
    ]
    plate = _blank(305, 152, ground)
    plate[: plate.shape[0] // 3] = np.linspace((230, 190, 140), ground, plate.shape[0] // 3)[
        :, None
    ]
    _write(plate, _some(rng, _LETTERS, 8), (70, 10, 165, 20), (30, 30, 150))
    _write(
        plate,
        f"{_some(rng, _DIGITS, 1)}{_some(rng, _LETTERS, 3)}{_some(rng, _DIGITS, 3)}",
        (18, 44, 270, 66),
        ink,
    )
    _write(plate, f"{_some(rng, _LETTERS, 6)} {_some(rng, _LETTERS, 5)}", (90, 128, 125, 13), ink)
    return plate


def japanese(rng: np.random.Generator) -> Image:
    ground, ink = (((240, 240, 240), (60, 100, 10)), ((40, 210, 250), (20, 20, 20)))[
        int(rng.integers(2))
    ]
    plate = _blank(330, 165, ground)
    _write(plate, f"** {_some(rng, _DIGITS, 3)}", (90, 14, 150, 40), ink)
    _write(plate, "*", (14, 92, 34, 40), ink)
    _write(plate, f"{_some(rng, _DIGITS, 2)}-{_some(rng, _DIGITS, 2)}", (62, 70, 250, 80), ink)
    return plate


def indian(rng: np.random.Generator) -> Image:
    plate = _blank(500, 120, (235, 240, 240) if rng.random() < 0.6 else (40, 200, 240))
    area, series = (_some(rng, _LETTERS, 2) for _ in range(2))
    text = f"{area} {_some(rng, _DIGITS, 2)} {series} {_some(rng, _DIGITS, 4)}"
    _write(plate, text, (24, 26, 452, 68), (20, 20, 20))
    _outline(plate, (20, 20, 20))
    return plate


COUNTRIES: dict[str, Callable[[np.random.Generator], Image]] = {
    "german": german,
    "british": british,
    "american": american,
    "japanese": japanese,
    "indian": indian,
}


def paste(  # noqa: PLR0917 - centre, size and angles in the usual order
    image: Image,
    plate: Image,
    centre: tuple[float, float],
    width_px: float,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
) -> FloatArray:
    """Lays a plate into a picture as a camera 8 plate widths away sees it.

    Args:
        image: BGR uint8[h, w, 3], drawn on.
        plate: BGR uint8[h, w, 3].
        centre: x and y of the plate's centre, px.
        width_px: of the plate before it is turned.
        yaw_deg: about the vertical, first.
        pitch_deg: about the horizontal.
        roll_deg: about the axis of view, last.

    Returns:
        x and y of its corners from the top left clockwise, float64[4, 2], px.
    """
    height, width = plate.shape[:2]
    flat = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * (1, height / width)
    turned = np.column_stack([flat, np.zeros(4)])
    for first, second, degrees in ((0, 2, yaw_deg), (1, 2, pitch_deg), (0, 1, roll_deg)):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        a, b = turned[:, first].copy(), turned[:, second].copy()
        turned[:, first], turned[:, second] = cos * a - sin * b, sin * a + cos * b
    corners: FloatArray = turned[:, :2] * 8 / (8 + turned[:, 2:]) * width_px + centre
    # The plate is shrunk first, so that each pixel of the picture is a mean of the plate's.
    shrunk = min(1.0, 2 * width_px / width)
    small = cv2.resize(plate, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    fine = 4
    ends = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * small.shape[1::-1]
    low = np.floor(corners.min(axis=0)).astype(int) - 1
    size = np.ceil(corners.max(axis=0)).astype(int) + 1 - low
    matrix = cv2.getPerspectiveTransform(
        ends.astype(np.float32) - 0.5, ((corners - low) * fine).astype(np.float32) - 0.5
    )
    layers = np.dstack([small, np.full(small.shape[:2], 255, np.uint8)])
    large = cv2.warpPerspective(layers.astype(np.float32), matrix, (size * fine).tolist())
    seen = large.reshape(size[1], fine, size[0], fine, 4).mean(axis=(1, 3))
    top, left = np.maximum(-low[::-1], 0)
    place = image[low[1] + top : low[1] + size[1], low[0] + left : low[0] + size[0]]
    seen = seen[top : top + place.shape[0], left : left + place.shape[1]]
    place[:] = np.round(place * (1 - seen[..., 3:] / 255) + seen[..., :3])
    return corners


def box_of(corners: FloatArray) -> FloatArray:
    """Returns the bounding box of corners: x, y, width and height, float64[4]."""
    return np.concatenate([corners.min(axis=0), np.ptp(corners, axis=0)])


def _blank(width_mm: int, height_mm: int, colour: tuple[int, int, int]) -> Image:
    return np.full(
        (round(height_mm * _PX_PER_MM), round(width_mm * _PX_PER_MM), 3), colour, np.uint8
    )


def _some(rng: np.random.Generator, signs: str, number: int) -> str:
    return "".join(signs[k] for k in rng.integers(len(signs), size=number))


def _strokes(sign: str) -> Iterator[FloatArray]:
    """Yields lines of a sign's points, float64[n, 2], in shares of its width and height."""
    for stroke in filter(None, _STROKES.get(sign, "00 40 46 06 00").split(",")):
        yield np.array([[int(point[0]) / 4, int(point[1]) / 6] for point in stroke.split()])


def _write(
    plate: Image, text: str, box_mm: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> None:
    """Writes a line that fills a box: left, top, width, height."""
    left, top, width, height = (round(side * _PX_PER_MM * 8) for side in box_mm)
    pitch = width / len(text)
    thickness = max(1, round(height * _PX_PER_MM / 32))
    for k, sign in enumerate(text):
        for line in _strokes(sign):
            points = line * (pitch * 0.72, height) + (left + (k + 0.14) * pitch, top)
            cv2.polylines(
                plate, [np.round(points).astype(np.int32)], False, colour, thickness, cv2.LINE_AA, 3
            )


def _rectangle(
    plate: Image, box_mm: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> None:
    left, top, width, height = (round(side * _PX_PER_MM) for side in box_mm)
    plate[top : top + height, left : left + width] = colour


def _outline(plate: Image, colour: tuple[int, int, int]) -> None:
    cv2.rectangle(plate, (1, 1), (plate.shape[1] - 2, plate.shape[0] - 2), colour, 2)
