"""CenterFace: an anchor-free detector of faces, here as ONNX, at the picture's own resolution.

Keys of a model's .toml beside those of every model:

    max_side = 1280               # of pictures, pixels; larger ones are shrunk
    score_threshold = 0.3         # faces below are not reported
    nms_iou = 0.3                 # faces that overlap more are one

Input: RGB 0 to 255 float32[1, 3, h, w], sides of multiples of 32. Outputs at a quarter of its
resolution: the probability that a face's centre is in a cell, float32[1, 1, h/4, w/4]; log sizes
and offsets, height before width, float32[1, 2, h/4, w/4] each; landmarks, which are ignored (Xu et
al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019, and the reference
decoder). The published file has a fixed input of 32x32, which only OpenCV does not mind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from pydantic import Field

from auto_label.models import Detections, ModelSpec
from auto_label.overlap import nms
from schemas.arrays import Float32Array, Image
from schemas.errors import FleetError, ModelError, one_line

_STRIDE = 4
_MULTIPLE = 32
_CHANNELS = {1: "centres", 2: "sizes and offsets", 10: "landmarks"}
_MAX_LOG_SIZE = 8.0
"""exp(8) * 4 is 12,000 px, beyond any picture: a wild output must not overflow."""
_MAX_CANDIDATES = 1000
"""The best cells that go to suppression, which is quadratic."""
_MAX_SIZES = 4
"""Sizes of input, of as many cameras, whose networks are kept."""
_MAX_MESSAGE = 300


class CenterfaceSpec(ModelSpec):
    """A CenterFace model. Sizes in pixels, thresholds from 0 to 1."""

    max_side: int = Field(ge=_MULTIPLE, le=8192)
    score_threshold: float = Field(gt=0, lt=1)
    nms_iou: float = Field(gt=0, le=1)


class Centerface:
    """A CenterFace model on OpenCV's CPU backend.

    Args:
        spec: the model.
        weights: the verified ONNX file.
        threads: not used: OpenCV has one number of threads for a process.

    Raises:
        FleetError: the file is not a CenterFace.
    """

    spec_type: ClassVar[type[ModelSpec]] = CenterfaceSpec

    def __init__(self, spec: CenterfaceSpec, weights: Path, threads: int = 1) -> None:
        self.spec = spec
        del threads
        self._weights = weights
        self._nets: dict[tuple[int, ...], Any] = {}
        self._read()

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Finds faces on BGR images uint8[h, w, 3], one at a time; their class is "face".

        Raises:
            ModelError: the network fails on an image, or its output cannot be.
        """
        return [self._detect(image) for image in images]

    def _read(self) -> Any:
        try:
            return cv2.dnn.readNetFromONNX(str(self._weights))
        except cv2.error as error:
            raise FleetError(
                f"model {self.spec.name}: {self._weights} is not an ONNX model that OpenCV can "
                f"open: {_said(error)}"
            ) from error

    def _net(self, size: tuple[int, ...]) -> Any:
        """Returns the network for one size of input: a second size gives wrong answers."""
        net = self._nets.pop(size, None) or self._read()
        self._nets[size] = net
        if len(self._nets) > _MAX_SIZES:
            del self._nets[next(iter(self._nets))]
        return net

    def _detect(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        scale = min(1.0, self.spec.max_side / max(height, width))
        inner = [max(_MULTIPLE, _up(round(side * scale))) for side in (width, height)]
        blob = cv2.dnn.blobFromImage(image, 1.0, inner, (0, 0, 0), swapRB=True, crop=False)
        centres, sizes, offsets = self._maps(blob)
        pixels = (width / inner[0], height / inner[1])
        return decode(centres, sizes, offsets, self.spec, pixels, (width, height))

    def _maps(self, blob: Any) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Runs the network: float32[h, w] centres, float32[2, h, w] log sizes and offsets."""
        net = self._net(blob.shape)
        try:
            net.setInput(blob)
            outputs = net.forward(net.getUnconnectedOutLayersNames())
        except cv2.error as error:
            raise ModelError(
                f"model {self.spec.name}: fails: {_said(error)}; use another model"
            ) from error
        cells = tuple(side // _STRIDE for side in blob.shape[2:])
        shapes = [np.shape(output) for output in outputs]
        if sorted(shapes) != sorted((1, n, *cells) for n in (1, 2, 2, 10)):
            raise ModelError(
                f"model {self.spec.name}: its outputs are {[list(shape) for shape in shapes]}, "
                f"not {', '.join(_CHANNELS.values())} of {list(cells)} cells"
            )
        if not all(np.isfinite(output).all() for output in outputs):
            raise ModelError(
                f"model {self.spec.name}: numbers of its output are infinite or NaN; use another "
                "model"
            )
        (centres,) = (output for output in outputs if output.shape[1] == 1)
        sizes, offsets = (output for output in outputs if output.shape[1] == len(cells))
        if centres.min() < 0 or centres.max() > 1:
            raise ModelError(
                f"model {self.spec.name}: its scores are from {centres.min():g} to "
                f"{centres.max():g}, and must be from 0 to 1"
            )
        return centres[0, 0], sizes[0], offsets[0]


def decode(  # noqa: PLR0917 - all are inputs of equal rank
    centres: Float32Array,
    sizes: Float32Array,
    offsets: Float32Array,
    spec: CenterfaceSpec,
    scale: tuple[float, float],
    size: tuple[int, int],
) -> Detections:
    """Turns cells into boxes of the picture, one a cell at most, and suppresses doubles.

    Args:
        centres: float32[h, w], the probability of a face's centre.
        sizes: float32[2, h, w], log heights and log widths, in cells.
        offsets: float32[2, h, w], from the cell's middle to the face's, y and x, in cells.
        spec: the model.
        scale: pixels of the picture per pixel of the input, x and y.
        size: width and height of the picture, px; boxes are cut at its edges.
    """
    rows, columns = np.nonzero(centres >= spec.score_threshold)
    score = centres[rows, columns].astype(np.float64)
    best = np.argsort(-score, kind="stable")[:_MAX_CANDIDATES]
    rows, columns, score = rows[best], columns[best], score[best]
    moved = offsets[::-1, rows, columns].T.astype(np.float64)
    logs = np.minimum(sizes[::-1, rows, columns].T.astype(np.float64), _MAX_LOG_SIZE)
    cell = _STRIDE * np.array(scale)
    centre = (np.stack([columns, rows], axis=1) + 0.5 + moved) * cell
    half = np.exp(logs) * cell / 2
    low, high = np.clip(centre - half, 0, size), np.clip(centre + half, 0, size)
    xywh = np.concatenate([low, high - low], axis=1)
    faces = np.zeros(len(xywh), dtype=np.int64)
    stays = nms(xywh, score, faces, spec.nms_iou)
    stays = stays[(xywh[stays, 2:] >= 1.0).all(axis=1)]
    return Detections(xywh[stays], score[stays], faces[stays], ("face",))


def _up(side: int) -> int:
    """Rounds a side up to a multiple that the network takes."""
    return -(-side // _MULTIPLE) * _MULTIPLE


def _said(error: cv2.error) -> str:
    return one_line(error)[:_MAX_MESSAGE]
