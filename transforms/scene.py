"""Image measures that need no model: brightness and sharpness."""

from __future__ import annotations

import cv2

from schemas.arrays import AnyArray, Image

SHARPNESS_WIDTH_PX = 480
"""Sharpness depends on scale, so wider pictures are scaled down to this width first."""


def brightness(bgr: Image) -> float:
    """Measures the mean luma (ITU-R BT.601) of a picture, 0 (black) to 255 (white).

    Args:
        bgr: uint8[h, w, 3].

    >>> import numpy as np
    >>> brightness(np.full((4, 6, 3), 40, np.uint8))
    40.0
    """
    return float(_luma(bgr).mean())


def sharpness(bgr: Image) -> float:
    """Measures the variance of the Laplacian of the luma: 0 for a flat picture.

    The measure of Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy",
    2000. Pictures wider than 480 px are scaled down first, so that one threshold applies to
    all cameras.

    Args:
        bgr: uint8[h, w, 3].

    >>> import numpy as np
    >>> sharpness(np.full((4, 6, 3), 40, np.uint8))
    0.0
    """
    luma = _luma(bgr)
    height, width = luma.shape
    if width > SHARPNESS_WIDTH_PX:
        size = (SHARPNESS_WIDTH_PX, max(1, round(height * SHARPNESS_WIDTH_PX / width)))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S))
    return float(deviation[0, 0]) ** 2


def _luma(bgr: Image) -> AnyArray:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
