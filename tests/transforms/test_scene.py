"""Brightness and sharpness order pictures as a viewer would."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from transforms.scene import brightness, sharpness

TEXTURE = np.random.default_rng(7).integers(60, 200, (240, 320, 3)).astype(np.uint8)


def test_brightness_rises_with_light() -> None:
    values = [brightness((TEXTURE * gain).astype(np.uint8)) for gain in (0, 0.2, 0.5, 1)]
    assert values == sorted(values)
    assert values[0] == 0
    assert values[-1] > 100


@pytest.mark.parametrize(
    ("bgr", "luma"), [((255, 0, 0), 29), ((0, 255, 0), 150), ((0, 0, 255), 76)]
)
def test_brightness_weighs_colours_as_bt601(bgr: tuple[int, int, int], luma: int) -> None:
    assert brightness(np.full((8, 8, 3), bgr, np.uint8)) == luma


def test_sharpness_falls_with_blur() -> None:
    values = [
        sharpness(np.asarray(cv2.GaussianBlur(TEXTURE, (0, 0), sigma), np.uint8))
        for sigma in (4, 2, 1, 0.5)
    ]
    assert all(a < b for a, b in pairwise(values))
    assert values[-1] < sharpness(TEXTURE)


def test_sharpness_equals_a_convolution_written_out() -> None:
    luma = cv2.cvtColor(TEXTURE, cv2.COLOR_BGR2GRAY).astype(float)
    wide = np.pad(luma, 1, mode="reflect")
    laplacian = (
        wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * wide[1:-1, 1:-1]
    )
    assert sharpness(TEXTURE) == pytest.approx(laplacian.var())


def test_sharpness_of_wide_pictures_is_taken_at_one_scale() -> None:
    big = np.asarray(cv2.resize(TEXTURE, (1920, 1440), interpolation=cv2.INTER_CUBIC), np.uint8)
    bigger = np.asarray(cv2.resize(TEXTURE, (3840, 2880), interpolation=cv2.INTER_CUBIC), np.uint8)
    assert sharpness(bigger) == pytest.approx(sharpness(big), rel=0.1)
    assert sharpness(np.zeros((1, 5000, 3), np.uint8)) == 0
