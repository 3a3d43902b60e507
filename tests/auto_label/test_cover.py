"""Covering: what is left of a region."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from auto_label.cover import Cover, cover
from schemas.arrays import FloatArray, Image


def _noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("how", ["blur", "solid"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (15, 15), (61, 21)])
def test_small_pictures_and_boxes_outside_are_no_trouble(
    shape: tuple[int, int], how: Cover
) -> None:
    image = _noise(*shape)
    boxes = np.array([[-50.0, -50, 10, 10], [1e6, 1e6, 5, 5], [-5, -5, 1e5, 1e5], [0, 0, 0, 0]])
    assert cover(image, boxes, how) == shape[0] * shape[1]
    assert image.shape == (*shape, 3)


def test_nothing_legible_is_left() -> None:
    image = _noise(240, 320, seed=7)
    before = image.copy()
    assert cover(image, np.array([[60.0, 40, 120, 100]]), "blur") == 120 * 100
    inside, was = image[40:140, 60:180].astype(float), before[40:140, 60:180].astype(float)
    # Of 12,000 independent pixels as many numbers are left as there are cells, and fewer.
    fine = inside - np.asarray(cv2.GaussianBlur(inside, (0, 0), 6), dtype=np.float64)
    assert np.std(fine) < 0.05 * np.std(was)
    assert abs(np.corrcoef(fine.ravel(), was.ravel())[0, 1]) < 0.05
    outside = np.ones((240, 320), bool)
    outside[40:140, 60:180] = False
    assert (image[outside] == before[outside]).all()


def test_of_a_solid_region_nothing_at_all_is_left() -> None:
    image, other = _noise(240, 320, seed=7), _noise(240, 320, seed=8)
    whole = np.array([[60.2, 40.7, 120, 100]])
    assert cover(image, whole, "solid") == cover(other, whole, "solid") == 121 * 101
    assert (image[40:141, 60:181] == other[40:141, 60:181]).all()
    assert (image[39] != other[39]).any()


def test_two_pictures_of_equal_cells_blur_to_the_same() -> None:
    # Swapping pixels inside a cell changes nothing that is left: it cannot be undone.
    image = _noise(60, 60, seed=1)
    shuffled = image.copy()
    rng = np.random.default_rng(0)
    for y in range(0, 60, 10):
        for x in range(0, 60, 10):
            cell = shuffled[y : y + 10, x : x + 10].reshape(-1, 3)
            shuffled[y : y + 10, x : x + 10] = rng.permutation(cell).reshape(10, 10, 3)
    assert (shuffled != image).any()
    whole = np.array([[0.0, 0, 60, 60]])
    cover(image, whole, "blur")
    cover(shuffled, whole, "blur")
    assert np.abs(image.astype(int) - shuffled).max() <= 1


def test_a_large_region_costs_what_its_area_costs() -> None:
    image = _noise(1000, 1000)

    def cost(regions: FloatArray) -> float:
        """Returns the least time of some tries."""
        times = []
        for _ in range(5):
            start = time.thread_time()
            cover(image, regions, "blur")
            times.append(time.thread_time() - start)
        return min(times)

    whole = np.array([[0.0, 0, 1000, 1000]])
    tiles = np.array([[x, y, 100.0, 100] for x in range(0, 1000, 100) for y in range(0, 1000, 100)])
    assert cost(whole) < 3 * cost(tiles)
