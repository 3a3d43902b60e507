"""What families of models that box objects share: keys, input, and the end of their decoding.

Keys of their .toml files beside those of every model:

    score_threshold = 0.1         # objects below are not reported
    nms_iou = 0.5                 # boxes of one class that overlap more are one object
    classes = ["person", ...]     # in the order of the network's output
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from pydantic import Field

from auto_label.models import Detections, ModelSpec
from auto_label.overlap import nms
from schemas.arrays import Float32Array, FloatArray, Image, IntArray
from schemas.errors import ModelError
from transforms.definitions import Text

MAX_LOG_SIZE = 8.0
"""exp(8) * 4 is 12,000 px, beyond any picture: a wild output must not overflow."""

STRIDES = (8, 16, 32)
"""Pixels of the input a cell, of networks with three grids."""

_MAX_CANDIDATES = 1000
"""The best cells that go to suppression, which is quadratic; a busy street has about 300."""
_TOLERANCE = 1e-3
"""A rounded sigmoid may be a little outside of 0 to 1."""


class BoxesSpec(ModelSpec):
    """A model that boxes objects. Thresholds from 0 to 1."""

    score_threshold: float = Field(gt=0, lt=1)
    nms_iou: float = Field(gt=0, le=1)
    classes: tuple[Text, ...] = Field(min_length=1, strict=False)


class BoxesDetector(ABC):
    """A model that is run on one image at a time: on a CPU several at once are not faster."""

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Finds objects on BGR images uint8[h, w, 3] of any size, one result an image.

        Raises:
            DataError: the network fails on an image or takes too long, or its scores are not
                from 0 to 1.
        """
        return [self._detect(image) for image in images]

    @abstractmethod
    def _detect(self, image: Image) -> Detections: ...


def tensor_of(image: Image, *, rgb: bool = False) -> Float32Array:
    """Turns a BGR image uint8[h, w, 3] into float32[1, 3, h, w] of 0 to 255, in BGR or RGB.

    >>> tensor_of(np.full((2, 2, 3), (1, 2, 3), np.uint8), rgb=True)[0, :, 0, 0].tolist()
    [3.0, 2.0, 1.0]
    """
    tensor = np.empty((1, 3, *image.shape[:2]), dtype=np.float32)
    # Channel by channel, which takes a seventh of OpenCV's blobFromImage.
    for channel, plane in enumerate(cv2.split(image)):
        tensor[0, 2 - channel if rgb else channel] = plane
    return tensor


def check_scores(name: str, least: float, most: float) -> None:
    """Checks that what a network calls scores can be probabilities.

    Raises:
        ModelError: the least or the most of them is not from 0 to 1.
    """
    if least < -_TOLERANCE or most > 1 + _TOLERANCE:
        raise ModelError(
            f"model {name}: its scores are from {least:g} to {most:g}, and must be from 0 to 1; "
            "export the network with its sigmoids"
        )


def likeliest(score: FloatArray, threshold: float) -> IntArray:
    """Returns the places of the best scores above a threshold, best first."""
    above = np.flatnonzero(score >= threshold)
    best = np.argsort(-score[above], kind="stable")[:_MAX_CANDIDATES]
    return np.asarray(above[best], dtype=np.int64)


def boxed(  # noqa: PLR0917 - all are inputs of equal rank
    centre: FloatArray,
    wide_high: FloatArray,
    score: FloatArray,
    class_index: IntArray,
    spec: BoxesSpec,
    size: tuple[int, int],
) -> Detections:
    """Makes boxes of the candidates of one image, without doubles and what is below a pixel.

    Args:
        centre: float64[n, 2], px of the image; best first.
        wide_high: float64[n, 2], px of the image.
        score: float64[n].
        class_index: int64[n].
        spec: the model.
        size: width and height of the image, px; boxes are cut at its edges.
    """
    half = wide_high / 2
    low, high = np.clip(centre - half, 0, size), np.clip(centre + half, 0, size)
    xywh = np.concatenate([low, high - low], axis=1)
    stays = nms(xywh, score, class_index, spec.nms_iou)
    stays = stays[(xywh[stays, 2:] >= 1.0).all(axis=1)]
    return Detections(xywh[stays], score[stays], class_index[stays], spec.classes)


@lru_cache(maxsize=8)
def cells(width: int, height: int) -> tuple[FloatArray, FloatArray]:
    """Lays out the cells of STRIDES, row by row: x, y float64[a, 2], stride float64[a]."""
    grids, strides = [], []
    for stride in STRIDES:
        columns, rows = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        grids.append(np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64))
        strides.append(np.full(columns.size, float(stride)))
    return np.concatenate(grids), np.concatenate(strides)
