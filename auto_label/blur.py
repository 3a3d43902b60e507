"""Privacy: blurs faces, heads and licence plates before a frame is encoded.

Regions come from Haar cascades on a downscaled grey copy of the image, so that the cost does
not depend on its size; from plate cascades on crops of large vehicles, at a finer scale; and
from the upper third of every person box, whether or not a face is found. Where a detector runs,
a plate counts only on a vehicle: elsewhere these cascades take rails and kerbs for plates. A
region is averaged to a few cells, which are blended, so that sharpening cannot recover it. A
Blurrer without its cascade files cannot be opened: no frame is written unblurred.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.arrays import BoolArray, FloatArray, Image
from schemas.errors import FleetError
from transforms.video.decode import Frame

VERSION = 3
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
_MAX_HULLS = 64
"""Pairs of overlapping regions that get a hull each. In a crowd, where every region overlaps many,
there would be thousands, and each takes time on every frame: there a group gets one."""
_BETWEEN = 1.0
"""A region's next position is at most so many of its sizes away."""
_GROWTH = 2.5
"""A region's next position is at most so many times as large, or as small."""


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


class BlurStream:
    """Blurs every frame of one camera, with regions that are found on some of them.

    A frame between two looked-at frames gets the regions of both, and the hulls of regions that
    belong together, which cover the motion in between. Frames are held back until the next
    looked-at frame, in memory; regions are also found on the last frame of all.
    """

    def __init__(self, blurrer: Blurrer) -> None:
        self._blurrer = blurrer
        self._waiting: deque[Frame] = deque()
        self._regions = _NO_BOXES
        self._persons = self._vehicles = _NO_BOXES
        self._detected = False
        self._started = False

    def push(
        self,
        frame: Frame,
        persons: FloatArray | None,
        vehicles: FloatArray = _NO_BOXES,
        *,
        detected: bool = False,
    ) -> Iterator[Frame]:
        """Takes the next frame and yields, in order, the blurred frames that are ready.

        Args:
            frame: the next frame; its image is modified in place.
            persons: float64[n, 4] boxes of persons on a looked-at frame; None on any other.
            vehicles: float64[m, 4] boxes of vehicles on a looked-at frame.
            detected: whether a detector found them, or there is none.

        Raises:
            ValueError: the first frame is not a looked-at frame.
        """
        if persons is None:
            if not self._started:
                raise ValueError("the first frame of a camera must be a looked-at frame")
            self._waiting.append(frame)
            return
        self._started = True
        after = self._blurrer.regions(frame.image, persons, vehicles, detected=detected)
        between = _join(self._regions, after)
        while self._waiting:
            waiting = self._waiting.popleft()
            blur(waiting.image, between)
            yield waiting
        blur(frame.image, after)
        self._regions, self._persons, self._vehicles = after, persons, vehicles
        self._detected = detected
        yield frame

    def close(self) -> Iterator[Frame]:
        """Yields the frames that are held back, blurred."""
        if not self._waiting:
            return
        after = self._blurrer.regions(
            self._waiting[-1].image, self._persons, self._vehicles, detected=self._detected
        )
        between = _join(self._regions, after)
        while self._waiting:
            waiting = self._waiting.popleft()
            blur(waiting.image, between)
            yield waiting


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


def _join(before: FloatArray, after: FloatArray) -> FloatArray:
    """Joins the regions of two looked-at frames for those between: both, and hulls of pairs.

    A region is joined with what it overlaps, and with its next position: the nearest region of
    about its size that is not another one's. So a large region does not join what lies about it.
    """
    every = np.concatenate([before, after])
    if not len(before) or not len(after):
        return every
    ends = before[:, :2] + before[:, 2:], after[:, :2] + after[:, 2:]
    low = np.minimum(before[:, None, :2], after[:, :2])
    high = np.maximum(ends[0][:, None], ends[1])
    gap = np.maximum(before[:, None, :2], after[:, :2]) - np.minimum(ends[0][:, None], ends[1])
    over = (gap < 0).all(axis=2)
    near = _next(before, after, gap.max(axis=2))
    if np.count_nonzero(over) > _MAX_HULLS:
        groups_low, groups_high, groups = _grouped(low, high, over)
        hulls = [_hulls(groups_low, groups_high, groups), _hulls(low, high, near & ~over)]
    else:
        hulls = [_hulls(low, high, near | over)]
    return _outermost(np.concatenate([every, *hulls]))


def _next(before: FloatArray, after: FloatArray, gap: FloatArray) -> BoolArray:
    """Pairs regions with their next positions: bool[n, m], one in each row and column at most."""
    size, later = before[:, None, 2:].max(axis=2), after[:, 2:].max(axis=1)
    alike = (size <= _GROWTH * later) & (later <= _GROWTH * size)
    fits = alike & (gap <= _BETWEEN * np.maximum(size, later))
    centres = before[:, :2] + before[:, 2:] / 2, after[:, :2] + after[:, 2:] / 2
    away = np.linalg.norm(centres[0][:, None] - centres[1], axis=2)
    # A pair that does not fit costs more than all that fit together.
    cost = np.where(fits, away, away[fits].sum() + 1.0)
    pairs = np.zeros(fits.shape, dtype=np.bool_)
    pairs[linear_sum_assignment(cost)] = True
    return np.asarray(pairs & fits, dtype=np.bool_)


def _hulls(low: FloatArray, high: FloatArray, chosen: BoolArray) -> FloatArray:
    return np.concatenate([low, high - low], axis=2)[chosen]


def _outermost(regions: FloatArray) -> FloatArray:
    """Drops the regions that lie inside another one: their pixels are averaged in that one."""
    regions = np.unique(regions, axis=0)
    low, high = regions[:, :2], regions[:, :2] + regions[:, 2:]
    inside = np.all((low[:, None] >= low) & (high[:, None] <= high), axis=2)
    # Each lies in itself.
    return np.asarray(regions[np.count_nonzero(inside, axis=1) == 1])


def _grouped(
    low: FloatArray, high: FloatArray, near: BoolArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Joins the hulls of overlapping pairs that are linked by others to one hull a group.

    Args:
        low: float64[n, m, 2] top left corners of the pairs' hulls.
        high: float64[n, m, 2] bottom right corners.
        near: bool[n, m], the pairs that overlap.

    Returns:
        The same for the groups, [1, groups].
    """
    rows, columns = np.nonzero(near)
    nodes = sum(near.shape)
    edges = coo_array((np.ones(len(rows)), (rows, columns + near.shape[0])), (nodes, nodes))
    number, group_of = connected_components(edges, directed=False)
    lowest, highest = np.full((number, 2), np.inf), np.full((number, 2), -np.inf)
    np.minimum.at(lowest, group_of[rows], low[rows, columns])
    np.maximum.at(highest, group_of[rows], high[rows, columns])
    return lowest[None], highest[None], np.asarray(np.isfinite(lowest[None]).all(axis=2), np.bool_)
