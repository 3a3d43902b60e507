"""Overlap against OpenCV and plain loops."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from auto_label.overlap import iou, nms, paired_iou
from schemas.arrays import FloatArray


def _random_boxes(seed: int, count: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 300, (count, 2)), rng.uniform(10, 120, (count, 2))
    return np.concatenate([corner, size], axis=1).round()


def test_iou_is_the_share_of_painted_pixels() -> None:
    a, b = _random_boxes(1, 6), _random_boxes(2, 5)
    found = iou(a, b)
    for row, (x, y, w, h) in enumerate(a.astype(int)):
        for column, (u, v, s, t) in enumerate(b.astype(int)):
            canvas = np.zeros((450, 450), np.int64)
            canvas[y : y + h, x : x + w] += 1
            canvas[v : v + t, u : u + s] += 1
            assert found[row, column] == pytest.approx((canvas == 2).sum() / (canvas > 0).sum())


def test_iou_of_empty_boxes_is_zero_and_of_none_has_no_rows() -> None:
    empty = np.zeros((1, 4))
    assert iou(empty, empty).tolist() == [[0.0]]
    assert iou(np.empty((0, 4)), _random_boxes(1, 3)).shape == (0, 3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [0.3, 0.5, 0.7])
def test_nms_keeps_what_opencv_keeps(seed: int, limit: float) -> None:
    boxes = _random_boxes(seed, 200)
    rng = np.random.default_rng(seed + 100)
    score, group = rng.permutation(200) / 200 + 0.001, rng.integers(0, 3, 200)
    peer = cv2.dnn.NMSBoxesBatched(
        boxes.tolist(), score.tolist(), group.tolist(), score_threshold=0.0, nms_threshold=limit
    )
    ours = nms(boxes, score, group, limit)
    assert sorted(ours.tolist()) == sorted(np.asarray(peer).ravel().tolist())
    assert 0 < len(ours) < 200
    assert (np.diff(score[ours]) < 0).all()


def test_nms_of_ties_keeps_the_first() -> None:
    boxes = np.array([[0.0, 0, 10, 10]] * 3)
    assert nms(boxes, np.array([0.5, 0.5, 0.5]), np.array([0, 0, 1]), 0.5).tolist() == [0, 2]


def test_paired_boxes_are_the_diagonal_of_all() -> None:
    a, b = _random_boxes(3, 20), _random_boxes(4, 20)
    assert paired_iou(a, b).tolist() == iou(a, b).diagonal().tolist()
