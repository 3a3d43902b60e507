"""What the families of models share: input, and the end of decoding."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from auto_label.models import load_models
from auto_label.models.boxes import BoxesSpec, boxed, cells, check_scores, likeliest, tensor_of
from schemas.errors import ModelError


@pytest.fixture(scope="module")
def spec() -> BoxesSpec:
    """A model that ships."""
    (spec,) = load_models(["yolox_nano"])
    assert isinstance(spec, BoxesSpec)
    return spec.replace(nms_iou=0.5, classes=("a", "b"))


@pytest.mark.parametrize("rgb", [False, True])
def test_the_input_is_what_opencv_makes_of_it(rgb: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        tensor_of(image, rgb=rgb), cv2.dnn.blobFromImage(image, swapRB=rgb)
    )
    np.testing.assert_array_equal(tensor_of(image[::2, 5:], rgb=rgb)[0, 1], image[::2, 5:, 1])


@pytest.mark.parametrize(("least", "most"), [(-0.01, 0.5), (0.0, 1.01), (-20, 30)])
def test_what_is_no_probability_is_refused(least: float, most: float) -> None:
    with pytest.raises(ModelError, match="model m: its scores are from"):
        check_scores("m", least, most)
    check_scores("m", -1e-4, 1 + 1e-4)


def test_the_likeliest_are_those_above_the_threshold_best_first() -> None:
    dice = np.random.default_rng(1)
    score = dice.uniform(0, 1, 5000).round(2)
    found = likeliest(score, 0.5)
    wanted = sorted((k for k in range(5000) if score[k] >= 0.5), key=lambda k: (-score[k], k))
    assert found.tolist() == wanted[:1000]


def test_boxes_are_cut_at_the_edges_and_doubles_go(spec: BoxesSpec) -> None:
    centre = np.array([[10.0, 10], [10, 11], [10, 10], [0, 50], [30, 30]])
    wide_high = np.array([[8.0, 8], [8, 8], [8, 8], [20, 20], [0.5, 9]])
    score, kinds = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([0, 0, 1, 0, 0])
    found = boxed(centre, wide_high, score, kinds, spec, (40, 55))
    assert found.xywh.tolist() == [[6, 6, 8, 8], [6, 6, 8, 8], [0, 40, 10, 15]]
    assert found.score.tolist() == [0.9, 0.7, 0.6]
    assert found.class_index.tolist() == [0, 1, 0]


def test_cells_lie_row_by_row() -> None:
    grid, stride = cells(96, 64)
    assert len(grid) == 12 * 8 + 6 * 4 + 3 * 2
    assert grid[13].tolist() == [1, 1]
    assert grid[-1].tolist() == [2, 1]
    assert np.unique(stride, return_counts=True)[1].tolist() == [96, 24, 6]
