"""Covers regions of a picture, so that what was there cannot be recognised.

A blurred region is averaged to a few cells, which are blended, so that sharpening cannot recover
it. A solid one is a single grey.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from schemas.arrays import FloatArray, Image

VERSION = 1
"""Increases when the same regions are covered differently."""

Cover = Literal["blur", "solid"]

_CELLS = 6
"""Cells along the longer side of a blurred region: too few to recognise a face."""
_GREY = 114


def cover(bgr: Image, regions: FloatArray, how: Cover) -> int:
    """Covers regions in place, irreversibly.

    Args:
        bgr: uint8[h, w, 3].
        regions: float64[n, 4] xywh in pixels; parts outside the image are ignored.
        how: with what.

    Returns:
        The pixels that are covered; where regions overlap, they count once for each.
    """
    height, width = bgr.shape[:2]
    covered = 0
    for x, y, w, h in regions:
        left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
        right, bottom = min(width, int(np.ceil(x + w))), min(height, int(np.ceil(y + h)))
        if right <= left or bottom <= top:
            continue
        part = bgr[top:bottom, left:right]
        covered += part.shape[0] * part.shape[1]
        if how == "solid":
            part[:] = _GREY
            continue
        long_side = max(part.shape[:2])
        cells = [max(1, round(_CELLS * side / long_side)) for side in part.shape[1::-1]]
        coarse = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
        # Blended linearly, which costs the same a pixel however large the region is.
        part[:] = cv2.resize(coarse, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return covered
