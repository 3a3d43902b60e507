"""YOLOX: anchor-free detectors, here as ONNX with raw outputs.

Keys of a model's .toml beside those of every model:

    width = 416                   # of the model's input, pixels
    height = 416
    score_threshold = 0.1         # boxes below are not reported
    nms_iou = 0.5                 # boxes of one class that overlap more are one object
    classes = ["person", ...]     # in the order of the model's output

Input: BGR 0 to 255 float32[1, 3, h, w], the image scaled to fit the top left corner and
the rest filled with 114. Output: float32[1, a, 5 + classes] over the cells of grids of
strides 8, 16 and 32: centre = (xy + cell) * stride, size = exp(wh) * stride, score =
objectness * class probability (Ge et al., "YOLOX", 2021, and the reference decoder).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar

import cv2
import numpy as np
from pydantic import Field

from auto_label.models import Detections, ModelSpec
from auto_label.models.network import Network
from auto_label.overlap import nms
from schemas.arrays import Float32Array, FloatArray, Image
from schemas.errors import ModelError
from transforms.definitions import Text

_STRIDES = (8, 16, 32)
_FILL = 114
_MAX_CANDIDATES = 1000
"""The best cells that go to suppression, which is quadratic; a busy street has about 300."""
_MAX_LOG_SIZE = 8.0
"""exp(8) * 32 is 95,000 px, beyond any image: a wild output must not overflow."""
_TOLERANCE = 1e-3
"""A rounded sigmoid may be a little outside of 0 to 1."""


Side = Annotated[int, Field(ge=32, le=4096)]
"""Width or height of an input, pixels."""


class YoloxSpec(ModelSpec):
    """A YOLOX model. Sizes in pixels, thresholds from 0 to 1."""

    width: Side
    height: Side
    score_threshold: float = Field(gt=0, lt=1)
    nms_iou: float = Field(gt=0, le=1)
    classes: tuple[Text, ...] = Field(min_length=1, strict=False)


class Yolox:
    """A YOLOX model on onnxruntime's CPU provider.

    Args:
        spec: the model.
        weights: the verified ONNX file.
        threads: threads inside one operator.

    Raises:
        FleetError: the file is not a YOLOX of the size and classes that the spec says.
    """

    spec_type: ClassVar[type[ModelSpec]] = YoloxSpec

    def __init__(self, spec: YoloxSpec, weights: Path, threads: int = 1) -> None:
        self.spec = spec
        cells = len(_cells(spec.width, spec.height)[0])
        takes, gives = (1, 3, spec.height, spec.width), (1, cells, 5 + len(spec.classes))
        keys = "width, height or classes"
        self._net = Network(spec.name, weights, takes, [gives], threads, keys=keys)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Finds objects on BGR images uint8[h, w, 3], one at a time.

        Raises:
            DataError: the network fails on an image or takes too long, or its scores are not
                from 0 to 1.
        """
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        tensor, scale = letterbox(image, self.spec.width, self.spec.height)
        ((output,),) = self._net.run(tensor)
        least, most = output[:, 4:].min(), output[:, 4:].max()
        if least < -_TOLERANCE or most > 1 + _TOLERANCE:
            raise ModelError(
                f"model {self.spec.name}: its scores are from {least:g} to {most:g}, and must be "
                "from 0 to 1; export the network with its sigmoids"
            )
        return decode(output, self.spec, scale, (image.shape[1], image.shape[0]))


def decode(
    output: Float32Array, spec: YoloxSpec, scale: float, size: tuple[int, int]
) -> Detections:
    """Turns raw cells into boxes of the image, one a cell at most, and suppresses doubles.

    Args:
        output: float32[a, 5 + classes], the network's output for one image.
        spec: the model.
        scale: input pixels per image pixel, as `letterbox` returns it.
        size: width and height of the image, px; boxes are cut at its edges.
    """
    grid, strides = _cells(spec.width, spec.height)
    # A cell's score is at most its objectness: most cells go before their classes are read.
    likely = np.flatnonzero(output[:, 4] >= spec.score_threshold)
    cells = output[likely].astype(np.float64)
    class_index = cells[:, 5:].argmax(axis=1)
    score = np.minimum(cells[:, 4] * cells[np.arange(len(cells)), 5 + class_index], 1.0)
    best = np.argsort(-score, kind="stable")[:_MAX_CANDIDATES]
    best = best[score[best] >= spec.score_threshold]
    cells, likely = cells[best], likely[best]
    score, class_index = score[best], class_index[best].astype(np.int64)
    stride = strides[likely, None]
    centre = (cells[:, :2] + grid[likely]) * stride / scale
    half = np.exp(np.minimum(cells[:, 2:4], _MAX_LOG_SIZE)) * stride / scale / 2
    low, high = np.clip(centre - half, 0, size), np.clip(centre + half, 0, size)
    xywh = np.concatenate([low, high - low], axis=1)
    stays = nms(xywh, score, class_index, spec.nms_iou)
    stays = stays[(xywh[stays, 2:] >= 1.0).all(axis=1)]
    return Detections(xywh[stays], score[stays], class_index[stays], spec.classes)


def letterbox(image: Image, width: int, height: int) -> tuple[Float32Array, float]:
    """Scales an image into the top left corner of the model's input.

    Returns:
        float32[1, 3, height, width] in BGR 0 to 255, and input pixels per image pixel.

    >>> tensor, scale = letterbox(np.zeros((100, 200, 3), np.uint8), 416, 416)
    >>> tensor.shape, scale, tensor[0, 0, 207, 0], tensor[0, 0, 208, 0]
    ((1, 3, 416, 416), 2.08, np.float32(0.0), np.float32(114.0))
    """
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
    canvas = np.full((height, width, 3), _FILL, dtype=np.uint8)
    canvas[: inner[1], : inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], dtype=np.float32), scale


@cache
def _cells(width: int, height: int) -> tuple[FloatArray, FloatArray]:
    """Lays out the cells of every stride, row by row: x, y float64[a, 2], stride float64[a]."""
    grids, strides = [], []
    for stride in _STRIDES:
        columns, rows = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        grids.append(np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64))
        strides.append(np.full(columns.size, float(stride)))
    return np.concatenate(grids), np.concatenate(strides)
