"""CenterNet: anchor-free detectors that see objects as points, here as ONNX.

Keys of a model's .toml beside those of auto_label.models.boxes:

    max_side = 1280               # of pictures, pixels; larger ones are shrunk

Input: RGB 0 to 255 float32[1, 3, h, w], sides of multiples of 32. Outputs at a quarter of its
resolution: a heat map, the probability that the centre of an object of a class is in a cell,
float32[1, classes, h/4, w/4]; log sizes and offsets, height before width and in cells,
float32[1, 2, h/4, w/4] each. They are told apart by their channels, and where those are equal by
their order, which is this one. Other outputs, as CenterFace's landmarks, are ignored. Lengths that
the file fixes are freed.

Source: Zhou et al., "Objects as Points", 2019. Sizes are logarithms, and boxes that overlap are
suppressed instead of cells beside each other, as in Xu et al., "CenterFace: Joint Face Detection
and Alignment Using Face as Point", 2019, and its reference decoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from pydantic import Field

from auto_label.models import Detections, ModelSpec
from auto_label.models.boxes import (
    MAX_LOG_SIZE,
    BoxesDetector,
    BoxesSpec,
    boxed,
    check_scores,
    likeliest,
    tensor_of,
)
from auto_label.models.network import Network
from schemas.arrays import Float32Array, Image

_STRIDE = 4
_MULTIPLE = 32


class CenternetSpec(BoxesSpec):
    """A CenterNet model. Sizes in pixels."""

    max_side: int = Field(ge=_MULTIPLE, le=8192)


class Centernet(BoxesDetector):
    """A CenterNet model on onnxruntime's CPU provider.

    Args:
        spec: the model.
        weights: the verified ONNX file.
        threads: threads inside one operator.

    Raises:
        FleetError: the file is not a CenterNet of the classes that the spec says.
    """

    spec_type: ClassVar[type[ModelSpec]] = CenternetSpec

    def __init__(self, spec: CenternetSpec, weights: Path, threads: int = 1) -> None:
        self.spec = spec
        self._channels = (len(spec.classes), 2, 2)
        takes, gives = (None, 3, None, None), [(None, n, None, None) for n in self._channels]
        self._net = Network(spec.name, weights, takes, gives, threads, keys="classes", others=True)

    def _detect(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        scale = min(1.0, self.spec.max_side / max(height, width))
        inner = [max(_MULTIPLE, _up(round(side * scale))) for side in (width, height)]
        small = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
        cells = [side // _STRIDE for side in inner[::-1]]
        (heat,), (sizes,), (offsets,) = self._net.run(
            tensor_of(np.asarray(small, dtype=np.uint8), rgb=True),
            *((1, channels, *cells) for channels in self._channels),
        )
        check_scores(self.spec.name, float(heat.min()), float(heat.max()))
        pixels = (width / inner[0], height / inner[1])
        return decode(heat, sizes, offsets, self.spec, pixels, (width, height))


def decode(  # noqa: PLR0917 - all are inputs of equal rank
    heat: Float32Array,
    sizes: Float32Array,
    offsets: Float32Array,
    spec: CenternetSpec,
    scale: tuple[float, float],
    size: tuple[int, int],
) -> Detections:
    """Turns cells into boxes of the picture, one a cell and class at most; suppresses doubles.

    Args:
        heat: float32[classes, h, w], the probability of an object's centre.
        sizes: float32[2, h, w], log heights and log widths, in cells.
        offsets: float32[2, h, w], from the cell's middle to the object's, y and x, in cells.
        spec: the model.
        scale: pixels of the picture per pixel of the input, x and y.
        size: width and height of the picture, px; boxes are cut at its edges.
    """
    class_index, rows, columns = np.nonzero(heat >= spec.score_threshold)
    score = heat[class_index, rows, columns].astype(np.float64)
    best = likeliest(score, spec.score_threshold)
    class_index, rows, columns, score = class_index[best], rows[best], columns[best], score[best]
    moved = offsets[::-1, rows, columns].T.astype(np.float64)
    logs = np.minimum(sizes[::-1, rows, columns].T.astype(np.float64), MAX_LOG_SIZE)
    cell = _STRIDE * np.array(scale)
    centre = (np.stack([columns, rows], axis=1) + 0.5 + moved) * cell
    return boxed(centre, np.exp(logs) * cell, score, class_index, spec, size)


def _up(side: int) -> int:
    """Rounds a side up to a multiple that the network takes."""
    return -(-side // _MULTIPLE) * _MULTIPLE
