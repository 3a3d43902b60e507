"""Privacy: blurs faces, heads and licence plates before a frame is encoded.

Regions come from Haar cascades on a downscaled grey copy of the image, so that the cost does
not depend on its size; from plate cascades on crops of large vehicles, at a finer scale; and
from the upper third of every person box, whether or not a face is found. Where a detector runs,
a plate counts only on a vehicle: elsewhere these cascades take rails and kerbs for plates. A
region is averaged to a few cells, which are blended, so that sharpening cannot recover it. A
Blurrer without its cascade files cannot be opened: no frame is written unblurred.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from schemas.arrays import BoolArray, FloatArray, Image
from schemas.errors import FleetError

VERSION = 4
"""Increases when the same images are blurred differently."""


_NO_BOXES: FloatArray = np.empty((0, 4))


@dataclass(frozen=True, slots=True)
class _Cascade:
    """One cascade: file, width in pixels of the image that it searches, and growth of regions."""

    file: str
    width: int
    grow: float


_FACES = (
    _Cascade("haarcascade_frontalface_alt2.xml", 320, 0.15),
    _Cascade("haarcascade_profileface.xml", 240, 0.15),
)
_PLATES = (
    _Cascade("haarcascade_russian_plate_number.xml", 400, 0.1),
    _Cascade("haarcascade_license_plate_rus_16stages.xml", 400, 0.1),
)
_SCALE_STEP = 1.3
_NEIGHBOURS = 2
"""Overlapping hits that make a region; low, as a needless blur costs less than a missed face."""
_HEAD_FRAC = 1 / 3
_HEAD_GROW = 0.1
_VEHICLES = 4
"""How many vehicles are searched for plates at a finer scale: the largest, with legible plates."""
_VEHICLE_WIDTH = 256
_CELLS = 6
"""Cells along the longer side of a blurred region: too few to recognise a face."""


class Blurrer:
    """Finds the regions of an image that have to be blurred.

    Args:
        folder: of the cascade files; OpenCV's own if None.

    Raises:
        FleetError: a cascade file is missing or broken.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or Path(cv2.__file__).parent / "data"
        self._faces = [(spec, _open(folder / spec.file)) for spec in _FACES]
        self._plates = [(spec, _open(folder / spec.file)) for spec in _PLATES]

    def regions(
        self,
        bgr: Image,
        person_boxes: FloatArray,
        vehicle_boxes: FloatArray = _NO_BOXES,
        *,
        detected: bool = False,
    ) -> FloatArray:
        """Finds the regions to blur in one image.

        Args:
            bgr: uint8[h, w, 3].
            person_boxes: float64[n, 4] xywh in pixels, as detected; may be empty.
            vehicle_boxes: float64[m, 4] likewise.
            detected: whether a detector looked, so that a plate has to be on a vehicle.

        Returns:
            float64[k, 4] xywh in pixels, sorted.
        """
        grey = _grey(bgr)
        found = [_heads(person_boxes)]
        for spec, cascade in (*self._faces, *self._plates):
            small, scale = _shrink(grey, spec.width)
            hits = _find(cascade, small, spec.grow) / scale
            if detected and (spec, cascade) in self._plates:
                hits = hits[_on(hits, vehicle_boxes)]
            found.append(hits)
            if spec.file.startswith("haarcascade_profile"):
                # The cascade is trained on left profiles; the mirrored image has the right ones.
                mirrored = _find(cascade, small[:, ::-1].copy(), spec.grow)
                mirrored[:, 0] = small.shape[1] - mirrored[:, 0] - mirrored[:, 2]
                found.append(mirrored / scale)
        area = vehicle_boxes[:, 2] * vehicle_boxes[:, 3]
        for x, y, w, h in vehicle_boxes[np.argsort(-area, kind="stable")[:_VEHICLES]]:
            left, top = max(0, int(x)), max(0, int(y))
            crop = grey[top : max(top, int(y + h)), left : max(left, int(x + w))]
            if crop.size:
                small, scale = _shrink(crop, _VEHICLE_WIDTH)
                for spec, cascade in self._plates:
                    found.append(_find(cascade, small, spec.grow) / scale + [left, top, 0, 0])
        every = np.concatenate(found)
        # Sorted, because the cascades' threads finish in any order.
        return np.asarray(np.unique(every, axis=0))


def blur(bgr: Image, regions: FloatArray) -> None:
    """Blurs regions in place, irreversibly.

    Args:
        bgr: uint8[h, w, 3].
        regions: float64[n, 4] xywh in pixels; parts outside the image are ignored.
    """
    height, width = bgr.shape[:2]
    for x, y, w, h in regions:
        left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
        right, bottom = min(width, int(np.ceil(x + w))), min(height, int(np.ceil(y + h)))
        if right <= left or bottom <= top:
            continue
        part = bgr[top:bottom, left:right]
        long_side = max(part.shape[:2])
        cells = [max(1, round(_CELLS * side / long_side)) for side in part.shape[1::-1]]
        coarse = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
        # Blended linearly, which costs the same a pixel however large the region is.
        part[:] = cv2.resize(coarse, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _open(path: Path) -> cv2.CascadeClassifier:
    if not path.is_file():
        raise FleetError(
            f"blurring needs {path}, which does not exist: reinstall opencv-python-headless, "
            "or pass --privacy none"
        )
    cascade = cv2.CascadeClassifier()
    try:
        loaded = cascade.load(str(path))
    except cv2.error:
        loaded = False
    if not loaded:
        raise FleetError(
            f"blurring needs {path}, which is not a cascade: reinstall opencv-python-headless"
        )
    return cascade


def _grey(bgr: Image) -> Image:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)


def _shrink(grey: Image, width: int) -> tuple[Image, float]:
    """Downscales a grey image to a width, never up; returns it with the scale."""
    scale = min(1.0, width / grey.shape[1])
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False), scale


def _find(cascade: cv2.CascadeClassifier, grey: Image, grow: float) -> FloatArray:
    """Detects with a cascade: float64[n, 4] xywh, each side moved out by `grow` sizes."""
    window = cascade.getOriginalWindowSize()
    if grey.shape[1] < window[0] or grey.shape[0] < window[1]:
        return np.empty((0, 4))
    found = cascade.detectMultiScale(grey, _SCALE_STEP, _NEIGHBOURS)
    boxes = np.asarray(found, dtype=np.float64).reshape(-1, 4)
    return _grown(boxes, grow)


def _heads(persons: FloatArray) -> FloatArray:
    heads = np.array(persons, dtype=np.float64).reshape(-1, 4)
    heads[:, 3] *= _HEAD_FRAC
    return _grown(heads, _HEAD_GROW)


def _grown(boxes: FloatArray, grow: float) -> FloatArray:
    out = boxes.copy()
    out[:, :2] -= grow * boxes[:, 2:]
    out[:, 2:] += 2 * grow * boxes[:, 2:]
    return out


def _on(regions: FloatArray, boxes: FloatArray) -> BoolArray:
    """Tells of each region whether its centre is in one of some boxes."""
    centre = (regions[:, :2] + regions[:, 2:] / 2)[:, None]
    inside = (centre >= boxes[:, :2]) & (centre <= boxes[:, :2] + boxes[:, 2:])
    return np.asarray(np.any(np.all(inside, axis=2), axis=1), dtype=np.bool_)
