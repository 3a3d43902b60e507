"""Intersection over union of boxes, and non-maximum suppression."""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray, IntArray


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Computes the intersection over union of every box of `a` with every box of `b`.

    Args:
        a: float64[n, 4], x, y, w, h with w and h at least 0.
        b: float64[m, 4].

    Returns:
        float64[n, m] from 0 to 1; 0 where both boxes are empty.

    >>> iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 2], [1, 0, 2, 2]])).round(3)
    array([[1.   , 0.333]])
    """
    return paired_iou(a[:, None], b[None])


def paired_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Computes the intersection over union of boxes that belong together.

    Args:
        a: float64[..., 4], x, y, w, h with w and h at least 0.
        b: float64[..., 4] of a shape that broadcasts with that of `a`.

    Returns:
        float64[...] from 0 to 1; 0 where both boxes are empty.
    """
    (ax, ay, aw, ah), (bx, by, bw, bh) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    wide = np.minimum(ax + aw, bx + bw) - np.maximum(ax, bx)
    high = np.minimum(ay + ah, by + bh) - np.maximum(ay, by)
    both = np.maximum(wide, 0.0) * np.maximum(high, 0.0)
    union = aw * ah + bw * bh - both
    return np.asarray(both / np.where(union > 0, union, 1.0))


def nms(xywh: FloatArray, score: FloatArray, group: IntArray, limit: float) -> IntArray:
    """Applies greedy non-maximum suppression within each group.

    A box is dropped if a kept box of its group with a higher score overlaps it by more than
    `limit`. Of equal scores the first comes first.

    Args:
        xywh: float64[n, 4].
        score: float64[n].
        group: int64[n], the class for example; boxes of different groups are independent.
        limit: IoU from 0 to 1.

    Returns:
        int64[k], the rows that are kept, highest score first.
    """
    order = np.argsort(-score, kind="stable")
    ordered, groups = xywh[order], group[order]
    clash = (iou(ordered, ordered) > limit) & (groups[:, None] == groups)
    np.fill_diagonal(clash, val=False)
    stays = np.ones(len(order), dtype=np.bool_)
    for index in np.flatnonzero(clash.any(axis=1)):
        if stays[index]:
            stays[index + 1 :] &= ~clash[index, index + 1 :]
    return np.asarray(order[stays])
