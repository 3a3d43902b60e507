"""YuNet: anchor-free detectors of faces, small enough for every picture, here as ONNX.

Keys of a model's .toml beside those of auto_label.models.boxes:

    max_side = 2560               # of pictures, pixels; larger ones are shrunk
    sure_score = 0.5              # what scores less is looked at once more,
    doubt_score = 0.05            # unless it scores less than this

Input: BGR 0 to 255 float32[1, 3, h, w], sides of multiples of 32: what is missing at the right and
at the bottom is black. Outputs over the cells of grids of strides 8, 16 and 32, row by row:
probabilities of the class and of an object, float32[1, cells, 1] each, which are three and three;
and boxes, float32[1, cells, 4] each: centre = (xy + cell) * stride, size = exp(wh) * stride. The
score is the geometric mean of both probabilities. Other outputs, as landmarks, are ignored. Lengths
that the file fixes are freed.

What may be a face is looked at once more, alone and at the size at which the network sees best:
small faces that are there become sure then, and what only looked like one vanishes.

Source: Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023, and the reference
decoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
from pydantic import Field

from auto_label.models import Detections, ModelSpec
from auto_label.models.boxes import (
    MAX_LOG_SIZE,
    STRIDES,
    BoxesDetector,
    BoxesSpec,
    boxed,
    cells,
    check_scores,
    likeliest,
    tensor_of,
)
from auto_label.models.network import Network
from auto_label.overlap import iou, nms
from schemas.arrays import Float32Array, FloatArray, Image
from transforms.definitions import Text

_MULTIPLE = 32
_CLOSE_PX, _AROUND = 128, 2.0
"""Width of the picture of a single face, and how many faces wide it is."""
_MAX_AGAIN = 64
"""Faces of a picture that are looked at once more, the likeliest ones."""
_SAME = 0.3
"""Overlap (IoU) from which both looks saw one face."""


class YunetSpec(BoxesSpec):
    """A YuNet model. Sizes in pixels."""

    max_side: int = Field(ge=_MULTIPLE, le=8192)
    doubt_score: float = Field(gt=0, lt=1)
    sure_score: float = Field(gt=0, lt=1)
    classes: Annotated[tuple[Text], Field(strict=False)]


class Yunet(BoxesDetector):
    """A YuNet model on onnxruntime's CPU provider.

    Args:
        spec: the model.
        weights: the verified ONNX file.
        threads: threads inside one operator.

    Raises:
        FleetError: the file is not a YuNet.
    """

    spec_type: ClassVar[type[ModelSpec]] = YunetSpec

    def __init__(self, spec: YunetSpec, weights: Path, threads: int = 1) -> None:
        self.spec = spec
        gives = [(1, None, 1)] * 6 + [(1, None, 4)] * 3
        takes = (None, 3, None, None)
        self._net = Network(spec.name, weights, takes, gives, threads, keys="family", others=True)

    def _detect(self, image: Image) -> Detections:
        found = self._look(image)
        xywh, score = found.xywh.copy(), found.score.copy()
        for k in np.flatnonzero(score < self.spec.sure_score)[:_MAX_AGAIN]:
            xywh[k], score[k] = self._look_closer(image, xywh[k])
        best = likeliest(score, self.spec.score_threshold)
        best = best[nms(xywh[best], score[best], found.class_index[best], self.spec.nms_iou)]
        return Detections(xywh[best], score[best], found.class_index[best], self.spec.classes)

    def _look_closer(self, image: Image, xywh: FloatArray) -> tuple[FloatArray, float]:
        """Looks at what may be a face alone, at the size at which faces are seen best.

        Returns:
            The face's box and score; the same box and 0 if it is none.
        """
        height, width = image.shape[:2]
        side = min(max(round(_AROUND * float(xywh[2:].max())), 1), width, height)
        corner = xywh[:2] + xywh[2:] / 2 - side / 2
        left, top = np.clip(corner.round().astype(int), 0, (width - side, height - side))
        part = image[top : top + side, left : left + side]
        how = cv2.INTER_AREA if side > _CLOSE_PX else cv2.INTER_LINEAR
        large = cv2.resize(part, (_CLOSE_PX, _CLOSE_PX), interpolation=how)
        seen = self._look(np.asarray(large, dtype=np.uint8))
        boxes = seen.xywh * (side / _CLOSE_PX) + (left, top, 0, 0)
        same = np.flatnonzero(iou(xywh[None], boxes)[0] >= _SAME)
        if not len(same):
            return xywh, 0.0
        return boxes[same[0]], float(seen.score[same[0]])

    def _look(self, image: Image) -> Detections:
        """Runs the network on an image; finds what may be faces."""
        height, width = image.shape[:2]
        scale = min(1.0, self.spec.max_side / max(height, width))
        small: Any = image
        if scale < 1:
            inner = [max(1, round(side * scale)) for side in (width, height)]
            small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
        below, right = (-side % _MULTIPLE for side in small.shape[:2])
        if below or right:
            small = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT)
        rows, columns = small.shape[:2]
        counts = [(rows // stride) * (columns // stride) for stride in STRIDES]
        shapes = [(1, number, each) for each in (1, 1, 4) for number in counts]
        outputs = [output[0] for output in self._net.run(tensor_of(small), *shapes)]
        of_class, of_object, boxes = (
            np.concatenate(outputs[k : k + len(STRIDES)]) for k in range(0, 9, 3)
        )
        for given in (of_class, of_object):
            check_scores(self.spec.name, float(given.min()), float(given.max()))
        odds = np.clip(of_class[:, 0], 0, 1) * np.clip(of_object[:, 0], 0, 1)
        return decode(odds, boxes, self.spec, (columns, rows), scale, (width, height))


def decode(  # noqa: PLR0917 - all are inputs of equal rank
    odds: Float32Array,
    boxes: Float32Array,
    spec: YunetSpec,
    inner: tuple[int, int],
    scale: float,
    size: tuple[int, int],
) -> Detections:
    """Turns cells into boxes of the image, one a cell at most, and suppresses doubles.

    Args:
        odds: float32[a], the product of both probabilities of each cell, row by row.
        boxes: float32[a, 4], their boxes.
        spec: the model.
        inner: width and height of the network's input, px.
        scale: pixels of the input per pixel of the image.
        size: width and height of the image, px; boxes are cut at its edges.
    """
    grid, strides = cells(*inner)
    score = np.sqrt(odds.astype(np.float64))
    best = likeliest(score, spec.doubt_score)
    raw, stride = boxes[best].astype(np.float64), strides[best, None] / scale
    centre = (raw[:, :2] + grid[best]) * stride
    wide_high = np.exp(np.minimum(raw[:, 2:], MAX_LOG_SIZE)) * stride
    return boxed(centre, wide_high, score[best], np.zeros_like(best), spec, size)
