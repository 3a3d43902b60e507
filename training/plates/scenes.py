"""Composes pictures for training: backgrounds, clutter, vehicles, plates, then a bad camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from schemas.arrays import AnyArray, BoolArray, Float32Array, FloatArray, Image
from training.plates.clutter import (
    draw_clutter,
    draw_road,
    draw_texture,
    paste,
    tilted,
)
from training.plates.drawn import (
    PLATE_PX,
    Fonts,
    Rng,
    draw_plate,
    one_of,
    random_text,
    varied,
)

WIDTHS_PX = (15.0, 230.0)
"""Of plates, before they are turned away."""
_SEEN_PX = (11.0, 4.0)
"""Width and height of a box from which on a plate must be found; smaller ones don't count."""
_CLEAR = 14.0
"""Standard deviation of the brightness in a box from which on a plate must be found."""
_PAINTS = (
    (235, 235, 235), (30, 30, 30), (120, 120, 120), (190, 190, 190), (40, 30, 150), (130, 60, 30),
    (60, 90, 50), (40, 170, 220), (200, 210, 215), (70, 60, 60),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and its plates.

    image uint8[n, n, 3], BGR; xywh float64[k, 4], top left corners and sizes, px; seen bool[k],
    false for those that are too small, too dim or too cut to be asked for.
    """

    image: Image
    xywh: FloatArray
    seen: BoolArray


class Scenes:
    """A source of scenes.

    Args:
        photos: pictures without number plates, for backgrounds.
        fonts: of text on plates and signs.
        side: width and height of a scene, px.
    """

    def __init__(self, photos: Sequence[Path], fonts: Fonts, side: int) -> None:
        read = [cv2.imread(str(photo)) for photo in photos]
        self._photos: list[Image] = [
            np.asarray(photo, np.uint8) for photo in read if photo is not None
        ]
        self._fonts = fonts
        self._side = side

    def draw(self, rng: Rng) -> Scene:
        """Draws one scene."""
        picture = self._background(rng)
        for _ in range(int(rng.integers(0, 6))):
            draw_clutter(rng, picture, self._fonts)
        if rng.random() < 0.25:
            self._add_vehicle(rng, picture, self._corners(rng), None)
        quads: list[FloatArray] = []
        for _ in range(int(rng.choice(5, p=(0.3, 0.3, 0.2, 0.1, 0.1)))):
            self._add_plate(rng, picture, quads)
        bounds = [(quad.min(axis=0), quad.max(axis=0)) for quad in quads]
        whole = np.array([np.ptp(bound, axis=0) for bound in bounds]).reshape(-1, 2)
        cut = np.clip(np.array(bounds).reshape(-1, 2, 2), 0, self._side)
        sizes = cut[:, 1] - cut[:, 0]
        inside = (sizes > 0).all(axis=1)
        share = sizes.prod(axis=1) / np.maximum(whole.prod(axis=1), 1e-9)
        xywh = np.concatenate([cut[:, 0], sizes], axis=1)[inside]
        image = _filmed(rng, picture)
        clear = np.array([_contrast(image, box) >= _CLEAR for box in xywh], dtype=bool)
        seen = ((sizes >= _SEEN_PX).all(axis=1) & (share > 0.6))[inside] & clear
        return Scene(image, xywh, seen)

    def _background(self, rng: Rng) -> Image:
        side = self._side
        picture: Image = np.empty((side, side, 3), np.uint8)
        kind = rng.random()
        if kind < 0.6 and self._photos:
            photo = one_of(rng, self._photos)
            scale = side / min(photo.shape[:2]) if rng.random() < 0.3 else 2 ** rng.uniform(-1.5, 1)
            crop = max(16, min(round(side / scale), *photo.shape[:2]))
            y, x = (int(rng.integers(length - crop + 1)) for length in photo.shape[:2])
            part = photo[y : y + crop, x : x + crop]
            picture[:] = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
            if rng.random() < 0.5:
                picture[:] = picture[:, ::-1].copy()
            if rng.random() < 0.3:
                picture[:] = _tinted(rng, picture)
        elif kind < 0.85:
            draw_road(rng, picture)
        else:
            draw_texture(rng, picture)
        return picture

    def _corners(self, rng: Rng, aspect: float = 4.0) -> FloatArray:
        """Returns the corners float64[4, 2] of a plate's place: mostly inside, all sizes alike."""
        width = float(np.exp(rng.uniform(*np.log(WIDTHS_PX))))
        half = np.array([width, width / aspect]) / 2
        corners = tilted(rng, np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half)
        edge = min(width / 3, self._side / 3)
        return corners + rng.uniform(edge, self._side - edge, 2)

    def _add_plate(self, rng: Rng, picture: Image, quads: list[FloatArray]) -> None:
        """Adds a plate, on a vehicle or anywhere, unless it hides another."""
        plate = draw_plate(rng, self._fonts)
        aspect = plate.shape[1] / PLATE_PX
        for _ in range(8):
            corners = self._corners(rng, aspect)
            if all(_apart(corners, quad) for quad in quads):
                break
        else:
            return
        if rng.random() < 0.45:
            before = picture.copy()
            self._add_vehicle(rng, picture, corners, plate)
            for quad in quads:
                low = np.maximum(np.floor(quad.min(axis=0)).astype(int) - 3, 0)
                high = np.maximum(np.ceil(quad.max(axis=0)).astype(int) + 3, 0)
                area = np.s_[low[1] : high[1], low[0] : high[0]]
                picture[area] = before[area]
        else:
            flat, cover = _moved(rng, plate, corners)
            pad = (flat.shape[1] - plate.shape[1]) / 2 / plate.shape[1]
            paste(picture, flat, _spread(corners, pad, pad * aspect, pad * aspect), cover)
        quads.append(corners)

    def _add_vehicle(
        self, rng: Rng, picture: Image, corners: FloatArray, plate: Image | None
    ) -> None:
        """Draws a vehicle's front or rear in the plane of a plate, at the plate's corners.

        Without a plate, its place is empty.
        """
        height, width = (PLATE_PX // 2, 2 * PLATE_PX) if plate is None else plate.shape[:2]
        if plate is not None and np.hypot(*(corners[1] - corners[0])) < width / 2:
            height, width = height // 2, width // 2
            small = cv2.resize(plate, (width, height), interpolation=cv2.INTER_AREA)
            plate = np.asarray(small, np.uint8)
        across = round(width * rng.uniform(0.2, 1.6) * (1.0 if width > 2.5 * height else 1.7))
        above, below = round(height * rng.uniform(0.5, 7)), round(height * rng.uniform(0.3, 2.5))
        body = _body(rng, (height, width), across, above=above, below=below, fonts=self._fonts)
        if plate is not None:
            body[above : above + height, across : across + width] = plate
        wide = _spread(corners, across / width, above / height, below / height)
        paste(picture, body, wide)


def _body(
    rng: Rng, place: tuple[int, int], across: int, *, above: int, below: int, fonts: Fonts
) -> Image:
    """Draws bodywork around the place of a plate: paint, window, lamps, bumper, badge, grille."""
    height, width = place
    paint = varied(rng, one_of(rng, _PAINTS))
    body: Image = np.full((above + height + below, 2 * across + width, 3), paint, np.uint8)
    rows, columns = body.shape[:2]
    shade = np.linspace(rng.uniform(0.7, 1.1), rng.uniform(0.5, 1), rows)[:, None, None]
    body[:] = np.clip(body * shade, 0, 255)
    if above > 3 * height and rng.random() < 0.7:
        corner = (columns - across // 4, above - 2 * height)
        cv2.rectangle(body, (across // 4, 0), corner, varied(rng, (70, 60, 55)), -1)
    if rng.random() < 0.6:
        lamp = varied(rng, one_of(rng, ((40, 30, 190), (40, 30, 150), (220, 220, 225))))
        y, half = above - int(rng.uniform(-0.5, 1.5) * height), max(3, across // 3)
        for x in (half, columns - half):
            cv2.ellipse(body, (x, y), (half, max(4, height // 2)), 0, 0, 360, lamp, -1, cv2.LINE_AA)
    if rng.random() < 0.5:
        top = above + int(height * rng.uniform(-0.6, 0.9))
        body[top:] = varied(rng, one_of(rng, (paint, (50, 50, 50), (90, 90, 90))))
    if rng.random() < 0.25:
        pitch = int(rng.integers(8, 24))
        body[max(0, above - 2 * height) : above : pitch, across:-across] = varied(rng, (40, 40, 40))
    if rng.random() < 0.4 and above > height:
        badge = random_text(rng, one_of(rng, ("LLLL", "LD", "LLLLLL", "D.DL")))
        spot = (
            across + int(rng.uniform(-0.5, 0.8) * across),
            above - height,
            width // 3,
            height // 2,
        )
        if spot[0] >= 0:
            fonts.write(rng, body, spot, badge, varied(rng, (190, 190, 190)))
    if rng.random() < 0.4:
        margin = int(rng.integers(3, 16))
        low = (across - margin, above - margin)
        high = (across + width + margin, above + height + margin)
        colour = varied(rng, one_of(rng, (paint, (40, 40, 40), (180, 180, 180))))
        cv2.rectangle(body, low, high, colour, -1)
    return body


def _moved(rng: Rng, plate: Image, corners: FloatArray) -> tuple[Image, Float32Array]:
    """Returns a plate with a margin and its coverage, now and then smeared by its motion."""
    height, width = plate.shape[:2]
    if rng.random() < 0.7:
        return plate, np.ones(plate.shape[:2], np.float32)
    length = np.hypot(*(corners[1] - corners[0]))
    reach = min(rng.uniform(1, 10), 0.3 * length) / max(length, 1) * width
    margin = int(reach) + 2
    sides = (margin * height // width + 1,) * 2 + (margin,) * 2
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((2 * int(reach / 2) + 1,) * 2, np.float32)
    middle = len(kernel) // 2
    step = np.array([np.cos(angle), np.sin(angle)]) * middle
    begin, end = (np.round(middle + sign * step).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, begin, end, (1.0,))
    kernel /= kernel.sum()
    padded = cv2.copyMakeBorder(plate, *sides, cv2.BORDER_REPLICATE)
    solid = cv2.copyMakeBorder(np.ones(plate.shape[:2], np.float32), *sides, cv2.BORDER_CONSTANT)
    smeared = np.asarray(cv2.filter2D(padded, -1, kernel), np.uint8)
    return smeared, np.asarray(cv2.filter2D(solid, -1, kernel), np.float32)


def _spread(corners: FloatArray, across: float, above: float, below: float) -> FloatArray:
    """Moves a quadrangle's corners outwards in its plane, by shares of its width and height."""
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    matrix = cv2.getPerspectiveTransform(unit, corners.astype(np.float32))
    wide = np.array(
        [[-across, -above], [1 + across, -above], [1 + across, 1 + below], [-across, 1 + below]]
    )
    # Points behind the camera have no place in the picture; they are drawn in near enough.
    far = np.maximum(wide @ matrix[2, :2] + matrix[2, 2], 0.25)
    seen: FloatArray = (wide @ matrix[:2, :2].T + matrix[:2, 2]) / far[:, None]
    return seen


def _apart(one: FloatArray, other: FloatArray) -> bool:
    gap = np.maximum(one.min(axis=0) - other.max(axis=0), other.min(axis=0) - one.max(axis=0))
    return bool(gap.max() > 2)


def _contrast(image: Image, box: FloatArray) -> float:
    x, y, width, height = np.ceil(box).astype(int).tolist()
    return float(image[y : y + height, x : x + width].mean(axis=2).std())


def _tinted(rng: Rng, picture: Image) -> Image:
    hsv = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + int(rng.integers(180))) % 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8)


def _filmed(rng: Rng, picture: Image) -> Image:
    """Blurs, exposes, adds noise and compresses, each at times."""
    seen: AnyArray = picture
    side = picture.shape[0]
    if rng.random() < 0.3:
        seen = cv2.GaussianBlur(seen, (0, 0), float(rng.uniform(0.3, 1.3)))
    if rng.random() < 0.2:
        small = int(side / rng.uniform(1.05, 1.6))
        shrunk = cv2.resize(seen, (small, small), interpolation=cv2.INTER_AREA)
        seen = cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR)
    lit = seen.astype(np.float32) / 255
    lit = np.clip(
        lit * rng.uniform(0.6, 1.25) * rng.uniform(0.92, 1.08, 3).astype(np.float32), 0, 1
    )
    lit = lit ** float(2 ** rng.uniform(-0.7, 0.7))
    lit = lit * rng.uniform(0.6, 1.0) + rng.uniform(0, 0.12)
    if rng.random() < 0.15:
        lit = np.repeat(lit.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.5:
        lit = lit + rng.normal(0, rng.uniform(0.003, 0.05), lit.shape).astype(np.float32)
    filmed: Image = np.clip(lit * 255, 0, 255).astype(np.uint8)
    kind = rng.random()
    if kind < 0.35:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))]
        packed = cv2.imencode(".jpg", filmed, quality)[1]
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    if kind < 0.7:
        return _h264(filmed, int(rng.integers(18, 36)))
    return filmed


def _h264(picture: Image, crf: int) -> Image:
    """Returns a picture as H.264 keeps it at a quality, 0 the best and 51 the worst."""
    size = picture.shape[1], picture.shape[0]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {"crf": str(crf), "preset": "ultrafast", "tune": "zerolatency"}
    encoder.thread_count = 1
    packets = [*encoder.encode(av.VideoFrame.from_ndarray(picture, "bgr24")), *encoder.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    frames += decoder.decode(None)
    return np.asarray(frames[0].to_ndarray(format="bgr24"), np.uint8)
