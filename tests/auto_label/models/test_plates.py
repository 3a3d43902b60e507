"""The detector of number plates: what it finds, by width and angle, and what it must not find.

The truth is where plates were drawn, by code that the detector was not trained on.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from auto_label.models import Detector, load_models, open_detector
from auto_label.weights import fetch
from schemas.arrays import FloatArray, Image
from tests.auto_label.drawn_plates import COUNTRIES, box_of, paste

SIZE = (640, 480)
SURE = 0.45
"""A little more than the privacy policy asks for, which knows tracks, not frames alone."""


@pytest.fixture(scope="module")
def detector() -> Detector:
    (spec,) = load_models(["plates"])
    return open_detector(spec, fetch(spec))


def painted_road(rng: np.random.Generator) -> Image:
    """Draws a sky, a road with a dashed line, verges of noise, and a few plain blocks."""
    width, height = SIZE
    image = np.full((height, width, 3), (90, 88, 86), np.uint8)
    image[: height // 3] = (230, 200, 160)
    for k in range(6):
        y = height // 3 + 20 + k * (k + 12) * 3
        cv2.rectangle(
            image, (width // 2 - 2 - k, y), (width // 2 + 2 + k, y + 8 + 4 * k), (230,) * 3, -1
        )
    verge = np.add(rng.integers(0, 70, (height // 3, width // 4, 3)), (20, 60, 40))
    image[height // 3 : height // 3 * 2, : width // 4] = verge
    for _ in range(4):
        x, y = (int(value) for value in rng.integers(0, (width, height)))
        end = (x + int(rng.integers(20, 90)), y + int(rng.integers(15, 80)))
        cv2.rectangle(image, (x, y), end, rng.integers(0, 255, 3).tolist(), -1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.7), np.uint8)


def covered(box: FloatArray, xywh: FloatArray) -> float:
    """Returns the greatest share of a box that one of some others covers, if they match at all."""
    low = np.maximum(xywh[:, :2], box[:2])
    high = np.minimum(xywh[:, :2] + xywh[:, 2:], box[:2] + box[2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    union = box[2:].prod() + xywh[:, 2:].prod(axis=1) - common
    return float((common / box[2:].prod())[common / union > 0.3].max(initial=0.0))


def recall(detector: Detector, roads: list[Image], width_px: float, angle_deg: float) -> float:
    """Draws 9 to 15 plates on each road, turned about one axis each; returns the share found."""
    rng = np.random.default_rng(7)
    columns = 5 if width_px < 70 else 3
    found = []
    for road in roads:
        image, boxes = road.copy(), []
        height, width = image.shape[:2]
        for k in range(3 * columns):
            centre = ((k % columns + 0.5) * width / columns, height * (0.2 + k // columns * 0.3))
            angles = np.zeros(3)
            angles[rng.integers(3)] = angle_deg * rng.choice([-1, 1])
            draw = list(COUNTRIES.values())[k % 5]
            boxes.append(box_of(paste(image, draw(rng), centre, width_px, *angles)))
        seen = filmed(image)
        (detections,) = detector.detect([seen])
        found += [covered(box, detections.xywh) > 0.7 for box in boxes]
    return float(np.mean(found))


def filmed(image: Image) -> Image:
    """Returns a picture with the losses of a camera's compression."""
    packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)


def area_share(detector: Detector, image: Image) -> float:
    """Returns the share of a picture's pixels that are in a box of which the model is sure."""
    inside = np.zeros(image.shape[:2], dtype=bool)
    (detections,) = detector.detect([image])
    sure = detections.xywh[detections.score >= SURE]
    for x, y, width, height in np.round(sure).astype(int).tolist():
        inside[y : y + height, x : x + width] = True
    return float(inside.mean())


@pytest.fixture(scope="module")
def painted() -> list[Image]:
    return [painted_road(np.random.default_rng(seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def real(data: Path) -> list[Image]:
    stills = sorted((data / "video" / "stills").glob("*.jpg"))
    return [np.asarray(cv2.imread(str(still)), np.uint8) for still in stills]


RECALL = [(24, 0, 0.8), (40, 0, 0.9), (40, 30, 0.85), (60, 45, 0.85), (80, 60, 0.8), (120, 60, 0.8)]
"""Width in px before the plate is turned, angle in degrees, and the share found."""


@pytest.mark.parametrize(("width_px", "angle_deg", "share"), RECALL)
def test_finds_plates_on_painted_roads(
    detector: Detector, painted: list[Image], width_px: float, angle_deg: float, share: float
) -> None:
    assert recall(detector, painted, width_px, angle_deg) >= share


@pytest.mark.parametrize(("width_px", "angle_deg", "share"), RECALL)
def test_finds_plates_on_real_roads(
    detector: Detector, real: list[Image], width_px: float, angle_deg: float, share: float
) -> None:
    assert recall(detector, real, width_px, angle_deg) >= share


def test_boxes_fit_plates(detector: Detector, painted: list[Image]) -> None:
    image = painted[0].copy()
    box = box_of(paste(image, COUNTRIES["german"](np.random.default_rng(1)), (320, 240), 100, 20))
    (detections,) = detector.detect([filmed(image)])
    nearest = np.abs(detections.xywh - box).max(axis=1).min()
    assert nearest < 10


def test_finds_little_on_painted_roads_without_plates(
    detector: Detector, painted: list[Image]
) -> None:
    assert np.mean([area_share(detector, filmed(road)) for road in painted]) < 0.003


def test_finds_little_on_real_roads_without_plates(detector: Detector, real: list[Image]) -> None:
    """The plates of the cars ahead are too small to be seen."""
    assert np.mean([area_share(detector, road) for road in real]) < 0.003
