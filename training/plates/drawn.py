"""Draws number plates flat, in the styles of many countries, with random text, fonts and dirt.

Colours are BGR. Nothing here is to scale with a law: a detector must learn what plates have in
common, so that styles vary more than they do on roads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from schemas.arrays import ByteArray, Float32Array, Image

T = TypeVar("T")
Colour = tuple[int, int, int]
Rng = np.random.Generator

PLATE_PX = 72
"""The height of a drawn plate."""

_LETTERS, _DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
_HERSHEY = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_PLAIN,
)
_LETTER_PX = 56

_WHITE, _BLACK, _YELLOW = (238, 238, 238), (25, 22, 22), (35, 200, 245)
_BLUE, _GREEN, _RED, _NAVY = (160, 70, 10), (70, 120, 30), (40, 30, 170), (90, 35, 20)
_PALE_BLUE, _PALE_GREEN, _CREAM, _SILVER = (
    (235, 215, 190),
    (190, 225, 190),
    (205, 230, 240),
    (185, 185, 185),
)


@dataclass(frozen=True)
class Style:
    """How the plates of a country look.

    Attributes:
        aspect: widths over heights.
        texts: patterns of text: L a letter, D a digit, # a glyph of a script that the
            fonts lack, | a new row; others stand for themselves.
        colours: pairs of ground and ink.
        bands: colour of a band, at the sides named: any of "lrtb".
        graphic: a gradient, and small text above and below.
    """

    aspect: tuple[float, ...]
    texts: tuple[str, ...]
    colours: tuple[tuple[Colour, Colour], ...] = ((_WHITE, _BLACK),)
    bands: tuple[tuple[str, Colour], ...] = field(default=())
    graphic: bool = False


_LONG = (4.3, 4.73, 4.9)
_EU = (("l", _BLUE),)
STYLES = {
    "german": Style(_LONG, ("LL LD DDDD", "L LL DDD", "LLL L DD", "L DDDD"), bands=_EU),
    "french": Style(_LONG, ("LL-DDD-LL",), bands=(("lr", _BLUE),)),
    "british": Style(
        _LONG, ("LLDD LLL", "LDD LLL"), ((_WHITE, _BLACK), (_YELLOW, _BLACK)),
        (("", _BLUE), ("l", _BLUE), ("l", _GREEN)),
    ),
    "dutch": Style(_LONG, ("DD-LL-DD", "L-DDD-LL"), ((_YELLOW, _BLACK),), _EU),
    "belgian": Style(_LONG, ("D-LLL-DDD",), ((_WHITE, _RED),), _EU),
    "swiss": Style((4.5, 3.75), ("LL·DDDDDD", "LL DDDDD")),
    "italian": Style(_LONG, ("LL DDDLL",), bands=(("lr", _BLUE),)),
    "polish": Style(_LONG, ("LL DDDDD", "LLL LDDD"), bands=_EU),
    "spanish": Style(_LONG, ("DDDD LLL",), bands=_EU),
    "nordic": Style(_LONG, ("LLL DDD", "LL DDDDD"), ((_WHITE, _BLACK), (_GREEN, _BLACK)), _EU),
    "russian": Style((4.64,), ("LDDDLL DD", "L DDD LL DDD")),
    "turkish": Style(_LONG, ("DD LLL DD", "DD LL DDD"), bands=_EU),
    "israeli": Style(_LONG, ("DD-DDD-DD", "DDD-DD-DDD"), ((_YELLOW, _BLACK),), _EU),
    "american": Style(
        (2.0,), ("LLL DDDD", "DLLLDDD", "DDD LLL", "LLL-DDDD", "DDDDDD", "LL DDDDD"),
        (
            (_WHITE, _NAVY), (_WHITE, _BLACK), (_PALE_BLUE, _NAVY), (_PALE_GREEN, _GREEN),
            (_CREAM, _RED), (_NAVY, _WHITE), (_NAVY, _YELLOW), (_YELLOW, _NAVY),
            (_GREEN, _WHITE), (_BLACK, _YELLOW), (_WHITE, _RED), (_WHITE, _BLUE),
        ),
        (("", _BLUE), ("t", _NAVY), ("tb", _RED), ("t", _RED)), graphic=True,
    ),
    "mexican": Style((2.0,), ("LLL-DDD-L", "DDD-LLL"), bands=(("t", _GREEN), ("tb", _RED)),
                     graphic=True),
    "brazilian": Style((3.08,), ("LLLDLDD", "LLL-DDDD"), bands=(("t", _BLUE),)),
    "argentine": Style((2.9, 3.25), ("LLL DDD", "LL DDD LL"), ((_BLACK, _WHITE), (_WHITE, _BLACK)),
                       (("t", _BLUE), ("", _BLUE))),
    "indian": Style(
        (4.17, 2.4, 4.7), ("LL DD LL DDDD", "LLDDLLDDDD", "LL DD L DDDD", "LLDDLL|DDDD"),
        ((_WHITE, _BLACK), (_YELLOW, _BLACK), (_BLACK, _YELLOW), (_GREEN, _WHITE)),
        (("", _BLUE), ("l", _BLUE)),
    ),
    "chinese": Style(
        (3.14,), ("#L·DDDDD", "#L·LDDDD", "#LDDLDDD"),
        ((_BLUE, _WHITE), (_YELLOW, _BLACK), (_PALE_GREEN, _BLACK), (_WHITE, _BLACK)),
    ),
    "japanese": Style(
        (2.0,), ("## DDD|# DD-DD", "## DDD|# ·D-DD", "## DD|# DDDD"),
        ((_WHITE, _GREEN), (_YELLOW, _BLACK), (_GREEN, _WHITE), (_BLACK, _YELLOW)),
    ),
    "korean": Style((4.73, 2.0), ("DD# DDDD", "DDD# DDDD", "## DD|# DDDD"),
                    ((_WHITE, _BLACK), (_GREEN, _WHITE)), (("", _BLUE), ("l", _BLUE))),
    "australian": Style(
        (2.77, 3.7), ("LLL DDD", "DLL DLL", "LLL-DDL"),
        ((_YELLOW, _BLACK), (_WHITE, _BLUE), (_WHITE, _RED), (_BLACK, _WHITE), (_WHITE, _GREEN)),
        graphic=True,
    ),
    "arabian": Style((2.07, 4.7), ("#### ###|DDDD LLL", "DDDD|####", "# DDDDD", "## DDD|DDDDD"),
                     bands=(("r", _WHITE), ("r", _BLUE), ("r", _GREEN))),
    "thai": Style((2.27,), ("## DDDD|#####", "D## DDD|####")),
    "vietnamese": Style((4.3, 1.4), ("DDL-DDDDD", "DDL|DDD.DD"),
                        ((_WHITE, _BLACK), (_YELLOW, _RED), (_BLUE, _WHITE))),
    "african": Style(_LONG, ("LLL DDD L", "LL DDDD DD"),
                     ((_WHITE, _BLACK), (_YELLOW, _BLACK), (_WHITE, _BLUE)), (("", _BLUE),)),
    "motorcycle": Style(
        (1.2, 1.4, 1.6), ("LL|DDDD", "LLDD|LLL", "LL DD|LL DDD", "LDD|LLL", "DDLL|DDDD"),
        ((_WHITE, _BLACK), (_YELLOW, _BLACK), (_WHITE, _GREEN), (_BLACK, _WHITE)),
        (("", _BLUE), ("l", _BLUE), ("t", _BLUE)),
    ),
    "square": Style((1.7, 2.0), ("LL LD|DDDD", "LL|DDD LL", "DDDD|LLL"),
                    ((_WHITE, _BLACK), (_YELLOW, _BLACK)), _EU),
    "dark": Style((2.9, 4.7, 4.0), ("LLL DDD", "LLDDLLL", "LL DD DD", "LLL DDDL"),
                  ((_BLACK, _WHITE), (_BLACK, _SILVER), ((60, 55, 50), _WHITE))),
    "special": Style((4.73, 3.2, 2.0), ("DD LLL DDD", "LL DDD", "D DDD DD", "LL-DDDD"),
                     ((_RED, _WHITE), (_GREEN, _WHITE), (_BLUE, _WHITE), (_WHITE, _RED),
                      (_SILVER, _BLACK), ((20, 120, 240), _BLACK))),
}  # fmt: skip


class Fonts:
    """Fonts of files that have Latin letters and digits, beside OpenCV's own.

    Raises:
        OSError: a file is not a font.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._fonts = [ImageFont.truetype(str(file), _LETTER_PX) for file in files]

    def write(
        self, rng: Rng, picture: Image, box: tuple[int, int, int, int], text: str, ink: Colour
    ) -> None:
        """Writes a line that fills a box: x, y, width, height; # is a glyph of strokes."""
        x, y, width, height = box
        if width < 2 or height < 2:
            return
        line = self.line(rng, text)
        natural = line.shape[1] * height / line.shape[0]
        fitted = round(min(width, natural * rng.uniform(1.0, 1.5)))
        x += (width - fitted) // 2
        mask = cv2.resize(line, (max(fitted, 1), height), interpolation=cv2.INTER_AREA)
        place = picture[y : y + height, x : x + mask.shape[1]]
        share = mask[: place.shape[0], : place.shape[1], None].astype(np.float32) / 255
        place[:] = (place * (1 - share) + np.array(ink, np.float32) * share).astype(np.uint8)

    def line(self, rng: Rng, text: str) -> ByteArray:
        """Draws a line, in one font but for its glyphs: coverage uint8[h, w], cut at the ink."""
        if "#" not in text:
            return self._run(rng, text)
        pieces: list[ByteArray] = []
        for run in text.replace("#", "|#|").split("|"):
            if run.strip():
                mask = _glyph(rng) if run == "#" else self._run(rng, run)
                fitted = (max(1, round(mask.shape[1] * _LETTER_PX / mask.shape[0])), _LETTER_PX)
                space = np.zeros((_LETTER_PX, 8), np.uint8)
                pieces += [np.asarray(cv2.resize(mask, fitted), np.uint8), space]
        return np.hstack(pieces[:-1])

    def _run(self, rng: Rng, text: str) -> ByteArray:
        if rng.random() < 0.25 or not self._fonts:
            return _hershey(rng, text)
        font = self._fonts[rng.integers(len(self._fonts))]
        left, top, right, bottom = font.getbbox(text)
        page = Pillow.new("L", (int(right - left) + 8, int(bottom - top) + 8))
        ImageDraw.Draw(page).text((4 - left, 4 - top), text, fill=255, font=font)
        return _cut(np.asarray(page))


def random_text(rng: Rng, pattern: str) -> str:
    """Fills a pattern's letters and digits in; # stays."""
    signs = {"L": _LETTERS, "D": _DIGITS}
    return "".join(
        signs[sign][rng.integers(len(signs[sign]))] if sign in signs else sign for sign in pattern
    )


def draw_plate(rng: Rng, fonts: Fonts) -> Image:
    """Draws a plate of a random style: uint8[PLATE_PX, w, 3], worn, dirty and lit."""
    style = list(STYLES.values())[rng.integers(len(STYLES))]
    width = round(PLATE_PX * one_of(rng, style.aspect) * rng.uniform(0.93, 1.07))
    ground, ink = (varied(rng, colour) for colour in one_of(rng, style.colours))
    plate: Image = np.full((PLATE_PX, width, 3), ground, np.uint8)
    if style.graphic and rng.random() < 0.7:
        plate = _with_graphic(rng, plate)
    inner = _draw_bands(rng, plate, style, fonts)
    if style.graphic or rng.random() < 0.1:
        inner = _draw_small_lines(rng, plate, inner, ink, fonts)
    _draw_rows(rng, plate, inner, one_of(rng, style.texts), ink=ink, fonts=fonts)
    _draw_fittings(rng, plate, ink)
    return _worn(rng, plate)


def _draw_bands(rng: Rng, plate: Image, style: Style, fonts: Fonts) -> tuple[int, int, int, int]:
    """Draws the bands and returns what they leave: left, top, right, bottom."""
    height, width = plate.shape[:2]
    left, top, right, bottom = 0, 0, width, height
    if not style.bands:
        return left, top, right, bottom
    sides, colour = one_of(rng, style.bands)
    colour = varied(rng, colour)
    across, down = round(height * rng.uniform(0.3, 0.45)), round(height * rng.uniform(0.12, 0.22))
    if "l" in sides and rng.random() < 0.85:
        plate[:, :across], left = colour, across
        fonts.write(
            rng,
            plate,
            (4, height * 5 // 8, across - 8, height // 4),
            "D#"[: rng.integers(1, 3)],
            _WHITE,
        )
        cv2.circle(
            plate, (across // 2, height // 3), across // 4, _YELLOW, 1 + int(rng.integers(2))
        )
    if "r" in sides and rng.random() < 0.9:
        plate[:, width - across :], right = colour, width - across
        fonts.write(
            rng,
            plate,
            (right + 4, height * 5 // 8, across - 8, height // 4),
            random_text(rng, "DD"),
            _WHITE,
        )
    if "t" in sides:
        plate[:down], top = colour, down
        fonts.write(
            rng, plate, (width // 4, 2, width // 2, down - 4), random_text(rng, "LLLLLL"), _WHITE
        )
    if "b" in sides:
        plate[height - down :], bottom = colour, height - down
    return left, top, right, bottom


def _draw_small_lines(
    rng: Rng, plate: Image, inner: tuple[int, int, int, int], ink: Colour, fonts: Fonts
) -> tuple[int, int, int, int]:
    """Draws a state's name above and a motto below, and returns what they leave."""
    left, top, right, bottom = inner
    small = round(PLATE_PX * rng.uniform(0.13, 0.2))
    colour = ink if rng.random() < 0.5 else one_of(rng, (_RED, _BLUE, _GREEN, _NAVY))
    span = right - left
    if top == 0 and rng.random() < 0.85:
        name = random_text(rng, "L" * int(rng.integers(4, 13)))
        fonts.write(rng, plate, (left + span // 6, 4, span * 2 // 3, small), name, colour)
        top = small + 4
    if bottom == PLATE_PX and rng.random() < 0.6:
        motto = random_text(rng, "LLLLLL LLLLL"[: int(rng.integers(5, 13))])
        place = (left + span // 6, PLATE_PX - small - 3, span * 2 // 3, small - 2)
        fonts.write(rng, plate, place, motto, colour)
        bottom = PLATE_PX - small - 3
    return left, top, right, bottom


def _draw_rows(
    rng: Rng,
    plate: Image,
    inner: tuple[int, int, int, int],
    pattern: str,
    *,
    ink: Colour,
    fonts: Fonts,
) -> None:
    left, top, right, bottom = inner
    side = round((right - left) * rng.uniform(0.02, 0.09))
    gap = round((bottom - top) * rng.uniform(0.08, 0.17))
    left, right, top, bottom = left + side, right - side, top + gap, bottom - gap
    rows = pattern.split("|")
    shares = np.array(
        [rng.uniform(0.5, 1.1) if k < len(rows) - 1 else 1.0 for k in range(len(rows))]
    )
    edges = top + np.concatenate([[0], np.cumsum(shares / shares.sum())]) * (bottom - top)
    for row, low, high in zip(rows, edges, edges[1:], strict=False):
        space = 0 if len(rows) == 1 else 2
        box = (left, int(low) + space, right - left, int(high - low) - 2 * space)
        fonts.write(rng, plate, box, random_text(rng, row), ink)


def _draw_fittings(rng: Rng, plate: Image, ink: Colour) -> None:
    """Draws the border, screws, a sticker and the holder's rim."""
    height, width = plate.shape[:2]
    if rng.random() < 0.5:
        inset = int(rng.integers(0, 4))
        colour = ink if rng.random() < 0.7 else one_of(rng, (_BLACK, _SILVER, _WHITE))
        corner = (width - 1 - inset, height - 1 - inset)
        cv2.rectangle(plate, (inset, inset), corner, colour, int(rng.integers(1, 4)))
    if rng.random() < 0.4:
        y, x = (one_of(rng, (8, height // 2, 10)), int(width * rng.uniform(0.04, 0.3)))
        for column in (x, width - x):
            cv2.circle(plate, (column, y), int(rng.integers(2, 5)), varied(rng, _SILVER), -1)
    if rng.random() < 0.25:
        at = (int(rng.integers(width)), int(rng.integers(height)))
        colour = varied(rng, one_of(rng, (_RED, _YELLOW, _GREEN, _BLUE, _WHITE)))
        cv2.circle(plate, at, int(rng.integers(4, 10)), colour, -1)


def _with_graphic(rng: Rng, plate: Image) -> Image:
    """Lays a gradient and a pale shape, such as hills, a flower or a sun, on the ground."""
    height, width = plate.shape[:2]
    other = np.array(
        varied(rng, one_of(rng, (_WHITE, _PALE_BLUE, _CREAM, _PALE_GREEN, (90, 160, 250))))
    )
    ramp = np.linspace(0, 1, height if rng.random() < 0.7 else width) ** rng.uniform(0.5, 2)
    share = ramp[:, None, None] if len(ramp) == height else ramp[None, :, None]
    graphic = (plate * (1 - share) + other * share).astype(np.uint8)
    shape = graphic.copy()
    colour = varied(rng, one_of(rng, (_BLUE, _GREEN, _RED, _YELLOW, _SILVER, (60, 130, 240))))
    if rng.random() < 0.5:
        x = np.linspace(0, width, 12)
        y = height * rng.uniform(0.4, 0.9) + rng.normal(0, height / 8, 12)
        hills = np.vstack([np.stack([x, y], 1), [[width, height], [0, height]]])
        cv2.fillPoly(shape, [hills.astype(np.int32)], colour)
    else:
        at = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(8, 40)), int(rng.integers(8, 30)))
        cv2.ellipse(shape, at, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    strength = float(rng.uniform(0.1, 0.6))
    return np.asarray(cv2.addWeighted(shape, strength, graphic, 1 - strength, 0), np.uint8)


def _worn(rng: Rng, plate: Image) -> Image:
    """Adds dirt, a shadow's edge and glare."""
    height, width = plate.shape[:2]
    lit: Float32Array = plate.astype(np.float32)
    if rng.random() < 0.4:
        dirt = cv2.resize(
            rng.random((4, 12), np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        share = np.clip((dirt - 0.4) * rng.uniform(0.2, 0.9), 0, 0.8)[..., None]
        lit = lit * (1 - share) + np.array(varied(rng, (60, 85, 105)), np.float32) * share
    if rng.random() < 0.3:
        x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
        angle = rng.uniform(0, 2 * np.pi)
        side = np.cos(angle) * x + np.sin(angle) * y > rng.uniform(-0.6, 0.6)
        lit *= np.where(side, rng.uniform(0.35, 0.8), 1.0)[..., None].astype(np.float32)
    if rng.random() < 0.15:
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        far = ((x - rng.uniform(0, width)) / width * 3) ** 2 + ((y - height / 2) / height * 2) ** 2
        lit += (rng.uniform(40, 150) * np.exp(-far * rng.uniform(1, 6)))[..., None]
    return np.clip(lit, 0, 255).astype(np.uint8)


def _glyph(rng: Rng) -> ByteArray:
    """Draws strokes as dense as those of a Chinese, Arabic or Korean sign."""
    page = np.zeros((_LETTER_PX, int(rng.integers(36, 60))), np.uint8)
    height, width = page.shape
    thickness = int(rng.integers(3, 7))
    for _ in range(int(rng.integers(3, 8))):
        x, y = (int(value) for value in rng.integers(4, (width - 4, height - 4)))
        kind = rng.integers(4)
        if kind == 0:
            cv2.line(page, (4, y), (width - 4, y), 255, thickness)
        elif kind == 1:
            cv2.line(page, (x, 4), (x, height - 4), 255, thickness)
        elif kind == 2:
            end = tuple(int(value) for value in rng.integers(4, (width - 4, height - 4)))
            cv2.line(page, (x, y), end, 255, thickness)
        else:
            axes = (int(rng.integers(5, 14)), int(rng.integers(5, 14)))
            cv2.ellipse(page, (x, y), axes, 0, 0, float(rng.uniform(120, 360)), 255, thickness)
    return _cut(page)


def _hershey(rng: Rng, text: str) -> ByteArray:
    font, thickness = one_of(rng, _HERSHEY), int(rng.integers(2, 9))
    scale = 3.2 if font == cv2.FONT_HERSHEY_PLAIN else 1.6
    (width, height), below = cv2.getTextSize(text, font, scale, thickness)
    page = np.zeros((height + below + 16, width + 16), np.uint8)
    cv2.putText(
        page, text.replace("·", "."), (8, height + 8), font, scale, 255, thickness, cv2.LINE_AA
    )
    return _cut(page)


def _cut(page: ByteArray) -> ByteArray:
    x, y, width, height = cv2.boundingRect(page)
    return (
        page[y : y + height, x : x + width] if width and height else np.full((8, 4), 255, np.uint8)
    )


def varied(rng: Rng, colour: Colour) -> Colour:
    """Moves a colour: paint, sun and white balance."""
    moved = np.clip(np.array(colour) * rng.uniform(0.75, 1.1) + rng.normal(0, 10, 3), 0, 255)
    blue, green, red = (int(value) for value in moved)
    return blue, green, red


def one_of(rng: Rng, choices: Sequence[T]) -> T:
    """Picks one of a few."""
    return choices[int(rng.integers(len(choices)))]
