"""Draws backgrounds, and what is easily taken for a number plate but is none.

Every function draws on a picture uint8[h, w, 3], BGR, in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from schemas.arrays import Float32Array, FloatArray, Image
from training.plates.drawn import Colour, Fonts, Rng, one_of, varied

_WORDS = (
    "Stop", "Exit", "Parking", "Hotel", "Bakery", "Coffee", "Market", "Sale", "Open", "Closed",
    "Police", "School", "Centre", "North", "Street", "Avenue", "Station", "Airport", "Hospital",
    "Tickets", "Pharmacy", "Bank", "Museum", "Theatre", "Garage", "Fuel", "Diesel", "Express",
    "Transport", "Logistics", "Rental", "Delivery", "Keep", "Clear", "Speed", "Limit", "Danger",
    "Caution", "Works", "Ahead",
)  # fmt: skip
_SIGN_GROUNDS: tuple[tuple[Colour, Colour], ...] = (
    ((160, 80, 20), (245, 245, 245)),
    ((70, 110, 20), (245, 245, 245)),
    ((240, 240, 240), (25, 25, 25)),
    ((30, 190, 240), (25, 25, 25)),
    ((40, 30, 180), (245, 245, 245)),
    ((30, 25, 25), (230, 230, 230)),
    ((240, 240, 240), (40, 30, 180)),
)


def draw_road(rng: Rng, picture: Image) -> None:
    """Draws sky, verges, trees, a road in perspective and its lines."""
    height, width = picture.shape[:2]
    horizon = int(height * rng.uniform(-0.2, 0.7))
    picture[: max(horizon, 0)] = varied(
        rng, one_of(rng, ((235, 205, 165), (215, 210, 205), (90, 70, 60)))
    )
    picture[max(horizon, 0) :] = varied(
        rng, one_of(rng, ((60, 110, 90), (90, 120, 140), (110, 110, 110)))
    )
    for _ in range(int(rng.integers(0, 7))):
        _draw_tree(rng, picture, horizon)
    vanishing = np.array([width * rng.uniform(-0.2, 1.2), horizon])
    base = np.sort(rng.uniform(-1.5, 2.5, 2)) * width

    def strip(left: float, right: float, near: float, far: float, colour: Colour) -> None:
        """Fills a part of the road between shares of its width and of its length."""
        ends = np.array([[base[0] + (base[1] - base[0]) * at, height] for at in (left, right)])
        corners = [vanishing + (end - vanishing) * at for end in ends for at in (near, far)]
        order = np.array(corners)[[0, 1, 3, 2]]
        cv2.fillPoly(picture, [np.round(order * 8).astype(np.int32)], colour, cv2.LINE_AA, 3)

    strip(0, 1, 1, 0, varied(rng, one_of(rng, ((95, 92, 90), (60, 58, 56), (130, 130, 132)))))
    paint = varied(rng, one_of(rng, ((235, 235, 235), (235, 235, 235), (60, 190, 230))))
    for line in rng.uniform(0, 1, int(rng.integers(1, 5))).tolist():
        thick = rng.uniform(0.01, 0.04)
        if rng.random() < 0.35:
            strip(line, line + thick, 1, 0, paint)
            continue
        far = 1.2
        while far > 0.02:
            strip(line, line + thick, far, far * 0.75, paint)
            far *= rng.uniform(0.5, 0.6)
    if rng.random() < 0.2:
        for bar in np.arange(0, 1, 0.08).tolist():
            strip(bar, bar + 0.04, 0.8, 0.62, paint)


def draw_texture(rng: Rng, picture: Image) -> None:
    """Fills the picture with a gradient and noise of a random scale."""
    height, width = picture.shape[:2]
    cells = (int(rng.integers(2, 10)), int(rng.integers(2, 10)), 3)
    coarse = cv2.resize(
        rng.uniform(0, 255, cells).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    grain = int(2 ** rng.uniform(0, 4))
    noise = rng.normal(0, 1, (height // grain + 1, width // grain + 1, 1)).astype(np.float32)
    fine = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    mixed = coarse * rng.uniform(0.1, 0.6) + rng.uniform(20, 200) + fine * rng.uniform(2, 40)
    picture[:] = np.clip(mixed, 0, 255).astype(np.uint8)


def draw_sign(rng: Rng, picture: Image, fonts: Fonts) -> None:
    """Draws a sign or poster of several lines of words, tilted; its aspect is no plate's."""
    height, width = (int(2 ** rng.uniform(5, 8)) for _ in range(2))
    ground, ink = one_of(rng, _SIGN_GROUNDS)
    ground, ink = varied(rng, ground), varied(rng, ink)
    board: Image = np.full((height, width, 3), ground, np.uint8)
    lines = int(np.clip(height / rng.uniform(12, 60), 2, 9))
    if width > 5 * height:
        lines = 1
    for k in range(lines):
        words = " ".join(one_of(rng, _WORDS) for _ in range(int(rng.integers(1, 5))))
        words = words.upper() if rng.random() < 0.3 else words
        each = height / lines
        part = int(each * rng.uniform(0.45, 0.8))
        fonts.write(rng, board, (4, int(k * each + each * 0.1), width - 8, part), words, ink)
    if rng.random() < 0.5:
        cv2.rectangle(board, (1, 1), (width - 2, height - 2), ink, int(rng.integers(1, 4)))
    _place(rng, picture, board)


def draw_loose_text(rng: Rng, picture: Image, fonts: Fonts) -> None:
    """Writes words straight on the picture: on a van, a wall, a screen, without a board."""
    height, width = picture.shape[:2]
    size = int(2 ** rng.uniform(2.5, 6))
    words = " ".join(one_of(rng, _WORDS) for _ in range(int(rng.integers(1, 6))))
    place = (int(rng.integers(width)), int(rng.integers(height)), size * len(words), size)
    ink = varied(rng, one_of(rng, _SIGN_GROUNDS)[int(rng.integers(2))])
    fonts.write(rng, picture, place, words, ink)


def draw_boxes(rng: Rng, picture: Image) -> None:
    """Draws plain bright or dark rectangles: bumpers, lamps, windows, paper, empty holders."""
    for _ in range(int(rng.integers(1, 6))):
        size = 2 ** rng.uniform(2, 6.5)
        board: Image = np.empty(
            (max(3, int(size)), max(3, int(size * 2 ** rng.uniform(-1, 2.3))), 3), np.uint8
        )
        board[:] = varied(rng, one_of(rng, _SIGN_GROUNDS)[int(rng.integers(2))])
        if rng.random() < 0.5:
            shade = np.linspace(rng.uniform(0.5, 1), 1, board.shape[0])[:, None, None]
            board[:] = board * shade
        if rng.random() < 0.3:
            corner = (board.shape[1] - 1, board.shape[0] - 1)
            cv2.rectangle(board, (0, 0), corner, varied(rng, (60, 60, 60)), 1 + int(size // 20))
        if rng.random() < 0.2:
            middle = board.shape[0] // 2
            cv2.line(board, (0, middle), (board.shape[1], middle), varied(rng, (120, 120, 120)), 1)
        _place(rng, picture, board)


def draw_bars(rng: Rng, picture: Image) -> None:
    """Draws a row of bars: a crossing, rails, a fence, a grille, blinds or a radiator."""
    count, pitch = int(rng.integers(3, 14)), int(2 ** rng.uniform(2, 5))
    length, thick = int(2 ** rng.uniform(3, 7)), max(1, int(pitch * rng.uniform(0.2, 0.7)))
    light, dark = varied(rng, (225, 225, 225)), varied(rng, (75, 75, 75))
    board: Image = np.full(
        (length, count * pitch, 3), dark if rng.random() < 0.5 else light, np.uint8
    )
    ink = light if board[0, 0, 0] < 150 else dark
    for k in range(count):
        board[:, k * pitch : k * pitch + thick] = ink
    if rng.random() < 0.5:
        board = board.transpose(1, 0, 2).copy()
    _place(rng, picture, board)


def draw_checks(rng: Rng, picture: Image) -> None:
    """Draws a checkerboard, or the windows of a house."""
    cell = int(2 ** rng.uniform(1.5, 4.5))
    rows, columns = (int(number) for number in rng.integers(2, 12, 2))
    light, dark = varied(rng, (225, 225, 225)), varied(rng, (45, 45, 45))
    board: Image = np.full((rows * cell, columns * cell, 3), light, np.uint8)
    window = rng.random() < 0.5
    for row in range(rows):
        for column in range(columns):
            if window or (row + column) % 2:
                y, x = row * cell + window, column * cell + window
                board[y : (row + 1) * cell - window, x : (column + 1) * cell - window] = dark
    _place(rng, picture, board)


def draw_keyboard(rng: Rng, picture: Image, fonts: Fonts) -> None:
    """Draws keys, each with a letter."""
    key, rows, columns = int(rng.integers(9, 26)), int(rng.integers(2, 6)), int(rng.integers(4, 14))
    body, cap = one_of(rng, (((40, 40, 40), (70, 70, 70)), ((200, 200, 200), (240, 240, 240))))
    board: Image = np.full((rows * key, columns * key, 3), varied(rng, body), np.uint8)
    cap = varied(rng, cap)
    ink = (230, 230, 230) if cap[0] < 128 else (30, 30, 30)
    letter = fonts.line(rng, one_of(rng, "ABEFHKMRS"))
    small = cv2.resize(letter, (max(2, key // 3), max(3, key // 3)), interpolation=cv2.INTER_AREA)
    for row in range(rows):
        for column in range(columns):
            y, x = row * key + 1, column * key + 1
            board[y : y + key - 2, x : x + key - 2] = cap
            spot = board[
                y + key // 5 : y + key // 5 + small.shape[0],
                x + key // 5 : x + key // 5 + small.shape[1],
            ]
            spot[small > 120] = ink
    _place(rng, picture, board)


def draw_hand(rng: Rng, picture: Image) -> None:
    """Draws a hand or gripper of round fingers, white, black or of skin."""
    height, width = picture.shape[:2]
    colour = varied(
        rng, one_of(rng, ((235, 235, 235), (40, 40, 40), (120, 150, 210), (70, 100, 150)))
    )
    palm = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    size, turn = 2 ** rng.uniform(3, 6), rng.uniform(0, 2 * np.pi)
    for finger in range(int(rng.integers(2, 6))):
        angle = turn + finger * 0.4 + rng.normal(0, 0.1)
        at = palm.copy()
        shade = colour
        for part in range(3):
            step = np.array([np.cos(angle), np.sin(angle)]) * size * rng.uniform(0.4, 0.8)
            begin, end = (tuple(point.astype(int).tolist()) for point in (at, at + step))
            cv2.line(picture, begin, end, shade, max(2, int(size * 0.3)), cv2.LINE_AA)
            at, angle = at + step, angle + rng.normal(0, 0.3)
            shade = varied(rng, colour) if part else shade
    cv2.circle(
        picture, (int(palm[0]), int(palm[1])), int(size * 0.7), varied(rng, colour), -1, cv2.LINE_AA
    )


def draw_leaves(rng: Rng, picture: Image) -> None:
    """Draws many small blobs in a patch: leaves, gravel or a crowd."""
    height, width = picture.shape[:2]
    middle, spread = rng.uniform(0, (width, height)), rng.uniform(10, 60)
    ground = one_of(rng, ((50, 110, 70), (60, 90, 120), (130, 130, 130), (40, 60, 50)))
    size = 2 ** rng.uniform(0.5, 3.5)
    for _ in range(int(rng.integers(30, 150))):
        at = middle + rng.normal(0, spread, 2)
        axes = (1 + int(size * rng.uniform(0.3, 1)), 1 + int(size * rng.uniform(0.3, 1)))
        colour = varied(rng, varied(rng, ground))
        cv2.ellipse(
            picture, (int(at[0]), int(at[1])), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1
        )


def draw_lamps(rng: Rng, picture: Image) -> None:
    """Draws headlights, tail lamps or signals, some of them glowing."""
    height, width = picture.shape[:2]
    colour = varied(rng, one_of(rng, ((40, 30, 200), (240, 240, 250), (30, 140, 250))))
    axes = (int(rng.integers(3, 18)), int(rng.integers(2, 10)))
    x, y, apart = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(20, 120))
    for at in (x, x + apart):
        cv2.ellipse(
            picture, (at, y), axes, float(rng.uniform(-20, 20)), 0, 360, colour, -1, cv2.LINE_AA
        )
        cv2.ellipse(
            picture, (at, y), (axes[0] // 2 + 1, axes[1] // 2 + 1), 0, 0, 360, (250, 250, 250), -1
        )


def draw_dashes(rng: Rng, picture: Image) -> None:
    """Draws a row of short bright bars that grow: a dashed line, or markers on a road."""
    height, width = picture.shape[:2]
    at, turn = rng.uniform(0, (width, height)), rng.uniform(0, 2 * np.pi)
    along, apart = np.array([np.cos(turn), np.sin(turn)]), turn + rng.normal(0, 0.1)
    length, thick = 2 ** rng.uniform(1.5, 5), 2 ** rng.uniform(0.5, 3)
    grows, paint = (
        rng.uniform(1.0, 1.5),
        varied(rng, one_of(rng, ((235, 235, 235), (60, 190, 230)))),
    )
    lies = rng.random() < 0.5
    for _ in range(int(rng.integers(2, 8))):
        angle = rng.normal(0, 0.1) if lies else apart
        side = np.array([np.cos(angle), np.sin(angle)])
        ends = [at - side * length / 2, at + side * length / 2]
        across = np.array([-side[1], side[0]]) * thick / 2
        corners = np.array([ends[0] - across, ends[1] - across, ends[1] + across, ends[0] + across])
        cv2.fillPoly(picture, [np.round(corners * 8).astype(np.int32)], paint, cv2.LINE_AA, 3)
        at = at + along * length * rng.uniform(1.5, 4)
        length, thick = min(length * grows, 60), min(thick * grows, 16)


def draw_far_vehicle(rng: Rng, picture: Image) -> None:
    """Draws a vehicle so far away that its plate cannot be seen."""
    width = int(rng.integers(8, 60))
    height = int(width * rng.uniform(0.5, 1.1))
    paint = varied(
        rng, one_of(rng, ((235, 235, 235), (40, 40, 40), (130, 130, 130), (40, 30, 150)))
    )
    x, y = (int(rng.integers(side)) for side in picture.shape[1::-1])
    cv2.rectangle(picture, (x, y), (x + width, y + height), paint, -1)
    window = (x + width // 8, y + height // 8), (x + width * 7 // 8, y + height * 2 // 5)
    cv2.rectangle(picture, *window, varied(rng, (60, 55, 50)), -1)
    low = y + height * 4 // 5
    cv2.rectangle(picture, (x, low), (x + width, y + height), varied(rng, (50, 50, 50)), -1)
    for left in (x, x + width - max(2, width // 6)):
        lamp = (left, y + height // 2), (left + max(2, width // 6), y + height * 2 // 3)
        cv2.rectangle(picture, *lamp, varied(rng, (50, 40, 190)), -1)


def draw_clutter(rng: Rng, picture: Image, fonts: Fonts) -> None:
    """Draws one thing of a random kind."""
    with_text: Sequence[Callable[[Rng, Image, Fonts], None]] = (
        draw_sign,
        draw_loose_text,
        draw_keyboard,
    )
    without: Sequence[Callable[[Rng, Image], None]] = (
        draw_boxes, draw_boxes, draw_bars, draw_checks, draw_hand, draw_leaves, draw_lamps,
        draw_dashes, draw_dashes, draw_far_vehicle,
    )  # fmt: skip
    if rng.random() < 0.35:
        with_text[int(rng.choice(3, p=(0.5, 0.35, 0.15)))](rng, picture, fonts)
    else:
        one_of(rng, without)(rng, picture)


def tilted(rng: Rng, corners: FloatArray) -> FloatArray:
    """Turns and tilts a flat rectangle float64[n, 2] about the origin, seen from close by.

    Each of yaw, pitch and roll is mostly small, and at times up to 65 degrees.
    """
    wide = rng.random(3) < (0.4, 0.25, 0.35)
    yaw, pitch, roll = np.radians(np.where(wide, rng.uniform(-65, 65, 3), rng.normal(0, 9, 3)))
    turn = (
        np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        @ np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        @ np.array(
            [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
        )
    )
    points = np.column_stack([corners, np.zeros(len(corners))]) @ turn.T
    distance = np.ptp(corners[:, 0]) * rng.uniform(2.5, 12)
    seen: FloatArray = points[:, :2] * (distance / (distance + points[:, 2:]))
    return seen


def paste(
    picture: Image, flat: Image, corners: FloatArray, cover: Float32Array | None = None
) -> None:
    """Lays a flat drawing with its four corners on those given, without jagged edges.

    Args:
        picture: uint8[h, w, 3], drawn on.
        flat: uint8[h, w, 3].
        corners: float64[4, 2], x and y, of the drawing's top left, top right, bottom right and
            bottom left, px of the picture.
        cover: float32[h, w] of the drawing, 0 to 1; everywhere 1 if left out.
    """
    height, width = picture.shape[:2]
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 3, (width, height))
    if (high - low < 2).any():
        return
    fine = int(np.clip(round(400 / max(high - low)), 1, 4))
    size = tuple(int(side) for side in (high - low) * fine)
    ends = np.array([[0, 0], [flat.shape[1], 0], flat.shape[1::-1], [0, flat.shape[0]]], np.float32)
    there = ((corners - low) * fine).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(ends - 0.5, there - 0.5)
    solid = np.ones(flat.shape[:2], np.float32) if cover is None else cover
    colour = cv2.warpPerspective(
        flat, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    share = cv2.warpPerspective(solid, matrix, size, flags=cv2.INTER_LINEAR)
    small = tuple(int(side) for side in high - low)
    colour = cv2.resize(colour, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize(share, small, interpolation=cv2.INTER_AREA)[..., None]
    place = picture[low[1] : high[1], low[0] : high[0]]
    place[:] = (place * (1 - share) + colour * share + 0.5).astype(np.uint8)


def _place(rng: Rng, picture: Image, board: Image) -> None:
    """Pastes a board tilted, somewhere."""
    half = np.array(board.shape[1::-1]) / 2
    corners = tilted(rng, np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half)
    middle = rng.uniform(0, picture.shape[1::-1])
    paste(picture, board, corners * min(1.0, rng.uniform(0.3, 1.2)) + middle)


def _draw_tree(rng: Rng, picture: Image, horizon: int) -> None:
    x, size = int(rng.integers(picture.shape[1])), int(rng.integers(10, 90))
    colour = varied(rng, one_of(rng, ((40, 80, 50), (60, 90, 80), (35, 50, 40))))
    for _ in range(12):
        at = (x + int(rng.normal(0, size / 2)), horizon - size // 2 + int(rng.normal(0, size / 3)))
        cv2.circle(picture, at, max(2, int(size * rng.uniform(0.1, 0.5))), varied(rng, colour), -1)
