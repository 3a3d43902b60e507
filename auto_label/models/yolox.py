"""YOLOX: anchor-free detectors, here as ONNX with raw outputs.

Keys of a model's .toml beside those of auto_label.models.boxes:

    width = 416                   # of the model's input, pixels
    height = 416

Input: BGR 0 to 255 float32[1, 3, h, w], the image scaled to fit the top left corner and
the rest filled with 114. Output: float32[1, a, 5 + classes] over the cells of grids of
strides 8, 16 and 32: centre = (xy + cell) * stride, size = exp(wh) * stride, score =
objectness * class probability (Ge et al., "YOLOX", 2021, and the reference decoder).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import cv2
import numpy as np
from pydantic import Field

from auto_label.models import Detections, ModelSpec
from auto_label.models.boxes import (
    MAX_LOG_SIZE,
    BoxesDetector,
    BoxesSpec,
    boxed,
    cells,
    check_scores,
    likeliest,
    tensor_of,
)
from auto_label.models.network import Network
from schemas.arrays import Float32Array, Image

_FILL = 114


Side = Annotated[int, Field(ge=32, le=4096)]
"""Width or height of an input, pixels."""


class YoloxSpec(BoxesSpec):
    """A YOLOX model. Sizes in pixels."""

    width: Side
    height: Side


class Yolox(BoxesDetector):
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
        number = len(cells(spec.width, spec.height)[0])
        takes, gives = (1, 3, spec.height, spec.width), (1, number, 5 + len(spec.classes))
        keys = "width, height or classes"
        self._net = Network(spec.name, weights, takes, [gives], threads, keys=keys)

    def _detect(self, image: Image) -> Detections:
        tensor, scale = letterbox(image, self.spec.width, self.spec.height)
        ((output,),) = self._net.run(tensor)
        check_scores(self.spec.name, float(output[:, 4:].min()), float(output[:, 4:].max()))
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
    grid, strides = cells(spec.width, spec.height)
    # A cell's score is at most its objectness: most cells go before their classes are read.
    likely = np.flatnonzero(output[:, 4] >= spec.score_threshold)
    raw = output[likely].astype(np.float64)
    class_index = raw[:, 5:].argmax(axis=1)
    score = np.minimum(raw[:, 4] * raw[np.arange(len(raw)), 5 + class_index], 1.0)
    best = likeliest(score, spec.score_threshold)
    raw, likely = raw[best], likely[best]
    stride = strides[likely, None]
    centre = (raw[:, :2] + grid[likely]) * stride / scale
    wide_high = np.exp(np.minimum(raw[:, 2:4], MAX_LOG_SIZE)) * stride / scale
    return boxed(centre, wide_high, score[best], class_index[best].astype(np.int64), spec, size)


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
    return tensor_of(canvas), scale
