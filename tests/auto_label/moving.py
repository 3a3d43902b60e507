"""Pictures of a road in which faces or plates move, and where they are on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from schemas.arrays import FloatArray, Image

FPS = 25.0

Sprite = Callable[[Image, float, float], FloatArray]
"""Lays something into a picture at the centre x, y; returns its box, float64[4] xywh in pixels."""


def moving(
    road: Sequence[Image], sprites: Sequence[Sprite], reach: float, speed: float, seed: int
) -> tuple[list[Image], list[FloatArray]]:
    """Moves things through pictures, straight, in rows of their own, back from the edges.

    Args:
        road: the pictures, at FPS.
        sprites: the things.
        reach: no part of one is farther from its centre, px.
        speed: the greatest speed, px/s.
        seed: of where they are and how they move.

    Returns:
        The pictures, and the boxes on each: float64[n, 4].
    """
    dice = np.random.default_rng(seed)
    height, width = road[0].shape[:2]
    pictures = [image.copy() for image in road]
    boxes: list[FloatArray] = [np.empty((0, 4)) for _ in road]
    rows = np.arange(reach, height - reach, 2 * reach)
    for sprite, y in zip(sprites, dice.permutation(rows), strict=False):
        start, step = dice.uniform(reach, width - reach), dice.uniform(-speed, speed) / FPS
        for k, image in enumerate(pictures):
            # A triangle wave between the edges.
            span = width - 2 * reach
            at = (start - reach + k * step) % (2 * span)
            x = reach + min(at, 2 * span - at)
            boxes[k] = np.vstack([boxes[k], sprite(image, x, y)])
    return pictures, boxes


def pasted(patch: Image, box: FloatArray, tall_px: float) -> Sprite:
    """Makes a sprite of a part of a photograph.

    Args:
        patch: uint8[h, w, 3].
        box: where in it the thing is, float64[4] xywh.
        tall_px: the height of the thing in pictures.
    """
    scale = tall_px / box[3]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(patch, None, fx=scale, fy=scale, interpolation=how)
    own = box * scale

    def paste(image: Image, x: float, y: float) -> FloatArray:
        left, top = x - own[0] - own[2] / 2, y - own[1] - own[3] / 2
        part = np.array([[1, 0, left], [0, 1, top]], np.float32)
        size = (image.shape[1], image.shape[0])
        cv2.warpAffine(small, part, size, image, borderMode=cv2.BORDER_TRANSPARENT)
        return np.array([x - own[2] / 2, y - own[3] / 2, own[2], own[3]])

    return paste


def covered(regions: FloatArray, boxes: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Returns how much of each box is covered: float64[n] from 0 to 1.

    Args:
        regions: float64[m, 4] xywh in pixels.
        boxes: float64[n, 4].
        size: width and height of the picture.
    """
    inside = np.zeros((size[1], size[0]), dtype=np.bool_)
    for x, y, w, h in regions:
        low_x, low_y = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
        inside[low_y : max(0, int(np.ceil(y + h))), low_x : max(0, int(np.ceil(x + w)))] = True
    shares = []
    for x, y, w, h in np.round(boxes).astype(int).tolist():
        part = inside[max(0, y) : y + h, max(0, x) : x + w]
        shares.append(part.mean() if part.size else 1.0)
    return np.array(shares, dtype=np.float64)
