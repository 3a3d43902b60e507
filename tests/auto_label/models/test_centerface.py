"""CenterFace: decoding against a plain loop, the network against faces pasted into real roads."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from auto_label.models import load_models, open_detector
from auto_label.models.centerface import Centerface, CenterfaceSpec, decode
from auto_label.packages import WheelFile
from auto_label.weights import fetch
from schemas.arrays import Image
from schemas.errors import FleetError, ModelError
from tests import onnx_file
from tests.conftest import Tell

FACE = WheelFile.parse("pypi:scikit-image==0.25.2#skimage/data/astronaut.png")
"""A portrait that everybody may use, of NASA."""


@pytest.fixture(scope="module")
def spec() -> CenterfaceSpec:
    """The model as it ships."""
    (spec,) = load_models(["centerface"])
    assert isinstance(spec, CenterfaceSpec)
    return spec


def test_decode_agrees_with_a_plain_loop(spec: CenterfaceSpec) -> None:
    rng = np.random.default_rng(1)
    centres = rng.beta(0.3, 3.0, (20, 30)).astype(np.float32)
    sizes = rng.normal(1, 1, (2, 20, 30)).astype(np.float32)
    offsets = rng.normal(0, 0.3, (2, 20, 30)).astype(np.float32)
    found = decode(centres, sizes, offsets, spec.replace(nms_iou=1.0), (1.5, 2.0), (180, 160))
    wanted = []
    for y in range(20):
        for x in range(30):
            if centres[y, x] < spec.score_threshold:
                continue
            middle = (
                4 * 1.5 * (x + 0.5 + offsets[1, y, x]),
                4 * 2.0 * (y + 0.5 + offsets[0, y, x]),
            )
            half = (4 * 1.5 * math.exp(sizes[1, y, x]) / 2, 4 * 2.0 * math.exp(sizes[0, y, x]) / 2)
            low = [min(max(m - h, 0), e) for m, h, e in zip(middle, half, (180, 160), strict=True)]
            high = [min(max(m + h, 0), e) for m, h, e in zip(middle, half, (180, 160), strict=True)]
            if high[0] - low[0] >= 1 and high[1] - low[1] >= 1:
                wanted.append((*low, high[0] - low[0], high[1] - low[1], centres[y, x]))
    assert len(wanted) > 10
    rows = sorted(zip(*found.xywh.T.tolist(), found.score.tolist(), strict=True))
    np.testing.assert_allclose(rows, sorted(wanted), rtol=1e-5)
    assert found.classes == ("face",)
    assert list(found.score) == sorted(found.score, reverse=True)


def test_wild_sizes_stay_inside_the_picture(spec: CenterfaceSpec) -> None:
    one, wild = np.ones((1, 1), np.float32), np.full((2, 1, 1), 1e30, np.float32)
    found = decode(one, wild, np.zeros((2, 1, 1), np.float32), spec, (1.0, 1.0), (50, 40))
    assert found.xywh.tolist() == [[0, 0, 50, 40]]


def test_a_file_that_is_no_centerface_is_refused(spec: CenterfaceSpec, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(FleetError, match=r"model centerface: .* is not an ONNX model"):
        open_detector(spec, path)
    path.write_bytes(onnx_file.constant(0.5))
    with pytest.raises(ModelError, match="model centerface: "):
        open_detector(spec, path).detect([np.zeros((64, 64, 3), np.uint8)])


def _face(folder: Path) -> Image:
    path = folder / "astronaut.png"
    with path.open("wb") as out:
        FACE.copy_to(out)
    image = cv2.imread(str(path))
    assert image is not None
    return image.astype(np.uint8)


@pytest.mark.slow
def test_faces_are_found_on_real_roads_and_nothing_else(
    spec: CenterfaceSpec, data: Path, tmp_path: Path, tell: Tell
) -> None:
    """Every face of 24 px and more, wherever it is; no road marking, car or tree."""
    detector = Centerface(spec, fetch(spec))
    portrait = _face(tmp_path)
    (seen,) = detector.detect([portrait])
    ((x, y, w, h),) = seen.xywh
    assert 60 < w < 110
    assert 90 < h < 140
    head = portrait[0:300, 120:330]
    roads = [
        image.astype(np.uint8)
        for path in sorted((data / "video" / "stills").glob("*.jpg"))
        if (image := cv2.imread(str(path))) is not None
    ]
    assert roads
    assert [len(found) for found in detector.detect(roads)] == [0] * len(roads)
    dice = np.random.default_rng(0)
    recall = {}
    for height in (12, 16, 20, 24, 32, 64, 120):
        scale, found = height / h, 0
        for road in roads * 2:
            pasted = road.copy()
            small = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            rows, columns, _ = small.shape
            top = int(dice.integers(0, road.shape[0] - rows))
            left = int(dice.integers(0, road.shape[1] - columns))
            pasted[top : top + rows, left : left + columns] = small
            centre = (left + (x + w / 2 - 120) * scale, top + (y + h / 2) * scale)
            (seen,) = detector.detect([pasted])
            low, high = seen.xywh[:, :2], seen.xywh[:, :2] + seen.xywh[:, 2:]
            inside = np.all((low <= centre) & (high >= centre), axis=1)
            found += int(inside.any())
            assert np.count_nonzero(~inside) == 0
        recall[height] = found / len(roads) / 2
    tell("centerface by height in px: " + ", ".join(f"{h}: {r:.2f}" for h, r in recall.items()))
    assert all(share == 1.0 for height, share in recall.items() if height >= 24)


@pytest.mark.slow
def test_pictures_of_another_size_before_change_nothing(spec: CenterfaceSpec) -> None:
    """Of a network that has seen one size, OpenCV keeps buffers of it."""
    dice = np.random.default_rng(0)
    sizes = [(96, 128), (240, 320), (540, 960), (100, 60), (33, 31), (480, 640)]
    pictures = [dice.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]
    weights = fetch(spec)
    one = Centerface(spec, weights).detect(pictures + pictures[::-1])
    for picture, found in zip(pictures, one[:6], strict=True):
        (alone,) = Centerface(spec, weights).detect([picture])
        np.testing.assert_array_equal(alone.xywh, found.xywh)
        np.testing.assert_array_equal(alone.score, found.score)
    for found, again in zip(one[:6], one[:5:-1], strict=True):
        np.testing.assert_array_equal(found.xywh, again.xywh)
