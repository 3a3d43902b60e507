"""CenterNet: decoding against a plain loop, networks made by hand, CenterFace on real pictures.

OpenCV's own engine is the second one that runs CenterFace.
"""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from auto_label.models import Detections, load_models, open_detector
from auto_label.models.centernet import Centernet, CenternetSpec, decode
from auto_label.models.network import TIME_LIMIT_S, Network
from auto_label.packages import WheelFile
from auto_label.weights import fetch
from schemas.arrays import Image
from schemas.errors import FleetError, ModelError
from tests import onnx_file
from tests.conftest import Tell

FACE = WheelFile.parse("pypi:scikit-image==0.25.2#skimage/data/astronaut.png")
"""A portrait that everybody may use, of NASA."""


@pytest.fixture(scope="module")
def spec() -> CenternetSpec:
    """CenterFace as it ships."""
    (spec,) = load_models(["centerface"])
    assert isinstance(spec, CenternetSpec)
    return spec


def test_decode_agrees_with_a_plain_loop(spec: CenternetSpec) -> None:
    rng = np.random.default_rng(1)
    spec = spec.replace(nms_iou=1.0, classes=("face", "plate"))
    heat = rng.beta(0.3, 3.0, (2, 20, 30)).astype(np.float32)
    sizes = rng.normal(1, 1, (2, 20, 30)).astype(np.float32)
    offsets = rng.normal(0, 0.3, (2, 20, 30)).astype(np.float32)
    found = decode(heat, sizes, offsets, spec, (1.5, 2.0), (180, 160))
    wanted = []
    for k, y, x in itertools.product(range(2), range(20), range(30)):
        if heat[k, y, x] < spec.score_threshold:
            continue
        middle = (4 * 1.5 * (x + 0.5 + offsets[1, y, x]), 4 * 2.0 * (y + 0.5 + offsets[0, y, x]))
        half = (4 * 1.5 * math.exp(sizes[1, y, x]) / 2, 4 * 2.0 * math.exp(sizes[0, y, x]) / 2)
        low = [min(max(m - h, 0), e) for m, h, e in zip(middle, half, (180, 160), strict=True)]
        high = [min(max(m + h, 0), e) for m, h, e in zip(middle, half, (180, 160), strict=True)]
        if high[0] - low[0] >= 1 and high[1] - low[1] >= 1:
            wanted.append((*low, high[0] - low[0], high[1] - low[1], heat[k, y, x], k))
    assert {row[-1] for row in wanted} == {0, 1}
    columns = (*found.xywh.T.tolist(), found.score.tolist(), found.class_index.tolist())
    np.testing.assert_allclose(sorted(zip(*columns, strict=True)), sorted(wanted), rtol=1e-5)
    assert found.classes == ("face", "plate")
    assert list(found.score) == sorted(found.score, reverse=True)


def test_boxes_of_two_classes_do_not_suppress_each_other(spec: CenternetSpec) -> None:
    heat = np.array([[[0.9, 0.8]], [[0.7, 0.0]]], np.float32)
    large, none = np.full((2, 1, 2), 2.0, np.float32), np.zeros((2, 1, 2), np.float32)
    found = decode(heat, large, none, spec.replace(classes=("a", "b")), (1.0, 1.0), (8, 4))
    assert found.class_index.tolist() == [0, 1]
    assert found.score.tolist() == pytest.approx([0.9, 0.7])


def test_wild_sizes_stay_inside_the_picture(spec: CenternetSpec) -> None:
    one, wild = np.ones((1, 1, 1), np.float32), np.full((2, 1, 1), 1e30, np.float32)
    found = decode(one, wild, np.zeros((2, 1, 1), np.float32), spec, (1.0, 1.0), (50, 40))
    assert found.xywh.tolist() == [[0, 0, 50, 40]]


@pytest.mark.parametrize("colours", [1, 2, 3])
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (32, 1280)])
def test_a_colour_is_boxed_where_it_is(tmp_path: Path, size: tuple[int, int], colours: int) -> None:
    """Each class is a channel of the heat map; with landmarks and without."""
    picture = np.zeros((*size, 3), np.uint8)
    wanted = {}
    for colour, (top, left) in enumerate(((4, 8), (12, 16), (20, 4))):
        picture[top : top + 4, left : left + 4, 2 - colour] = 255
        x = left + 2 + 4 * onnx_file.RIGHT - 4 * onnx_file.WIDE / 2
        y = top + 2 + 4 * onnx_file.LOWER - 4 * onnx_file.TALL / 2
        cut = max(0.0, -x)  # by the edge of the picture
        wanted[colour] = (x + cut, y, 4 * onnx_file.WIDE - cut, 4 * onnx_file.TALL)
    path = tmp_path / "model.onnx"
    raw = onnx_file.points(colours, onnx_file.MAPS[: 3 + colours % 2])
    detector = open_detector(onnx_file.specified_points(path, raw, colours), path)
    (seen,) = detector.detect([picture])
    assert seen.classes == onnx_file.COLOURS[:colours]
    assert sorted(seen.class_index.tolist()) == list(range(colours))
    for colour, box in zip(seen.class_index.tolist(), seen.xywh.tolist(), strict=True):
        assert box == pytest.approx(wanted[colour], abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (33, 31), (100, 200), (5, 3000), (1300, 2600)])
def test_any_size_is_boxed_in_its_own_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    """A red picture is full of objects, of a pixel at least, none of which leaves it."""
    path = tmp_path / "model.onnx"
    spec = onnx_file.specified_points(path, onnx_file.points())
    red = np.full((*size, 3), (0, 0, 255), np.uint8)
    (seen,) = open_detector(spec, path).detect([red])
    assert bool(len(seen)) == (size != (1, 1))
    assert (seen.xywh[:, :2] >= 0).all()
    assert (seen.xywh[:, :2] + seen.xywh[:, 2:] <= size[::-1]).all()
    (black,) = open_detector(spec, path).detect([np.zeros_like(red)])
    assert len(black) == 0


def test_what_is_no_centernet_of_these_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    spec = onnx_file.specified_points(path, b"not a model")
    with pytest.raises(FleetError, match=r"model a: .* is not an ONNX model"):
        open_detector(spec, path)
    spec = onnx_file.specified_points(path, onnx_file.points(3), 2)
    with pytest.raises(FleetError, match="correct classes, or export the network"):
        open_detector(spec, path)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (onnx_file.points(bias=math.nan), "numbers of its output are infinite or NaN"),
        (onnx_file.points(last="Identity"), "its scores are from -20 to -20, and must be from 0"),
        (onnx_file.points(stride=8), r"is float32\[1, 1, 8, 12\], not float32\[1, 1, 16, 24\]"),
    ],
    ids=["NaN", "scores", "cells"],
)
def test_answers_that_cannot_be_are_said(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "a.onnx"
    detector = open_detector(onnx_file.specified_points(path, raw), path)
    with pytest.raises(ModelError, match=says):
        detector.detect([np.zeros((64, 96, 3), np.uint8)])


def _face(folder: Path) -> Image:
    path = folder / "astronaut.png"
    with path.open("wb") as out:
        FACE.copy_to(out)
    image = cv2.imread(str(path))
    assert image is not None
    return image.astype(np.uint8)


@pytest.mark.slow
def test_faces_are_found_on_real_roads_and_nothing_else(
    spec: CenternetSpec, data: Path, tmp_path: Path, tell: Tell
) -> None:
    """Every face of 24 px and more, wherever it is; no road marking, car or tree is a sure one."""
    detector = Centernet(spec.replace(score_threshold=0.3), fetch(spec))
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


def _by_opencv(spec: CenternetSpec, weights: Path, picture: Image) -> Detections:
    """Detects with OpenCV's engine, which does not mind that the file fixes its size."""
    height, width = picture.shape[:2]
    scale = min(1.0, spec.max_side / max(height, width))
    inner = [max(32, math.ceil(round(side * scale) / 32) * 32) for side in (width, height)]
    net = cv2.dnn.readNetFromONNX(str(weights))
    net.setInput(cv2.dnn.blobFromImage(picture, 1.0, inner, (0, 0, 0), swapRB=True))
    # Named by the reference decoder: heat map, scale, offset.
    heat, sizes, offsets = net.forward(["537", "538", "539"])
    pixels = (width / inner[0], height / inner[1])
    return decode(heat[0], sizes[0], offsets[0], spec, pixels, (width, height))


@pytest.mark.slow
@pytest.mark.parametrize("width", [512, 200, 333, 1100, 2000, 64])
def test_opencv_finds_the_same_faces(spec: CenternetSpec, tmp_path: Path, width: int) -> None:
    """With sides of 64 and more: OpenCV's answers are wrong where a map has one row or column."""
    weights = fetch(spec)
    portrait = _face(tmp_path)
    height = round(portrait.shape[0] * width / portrait.shape[1])
    picture = cv2.resize(portrait, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    spec = spec.replace(score_threshold=0.05)  # so that weak cells are compared too
    (seen,) = Centernet(spec, weights).detect([picture])
    wanted = _by_opencv(spec, weights, picture)
    assert len(seen) == len(wanted)
    assert len(seen) or width < 200
    np.testing.assert_allclose(seen.score, wanted.score, atol=1e-4)
    np.testing.assert_allclose(seen.xywh, wanted.xywh, atol=0.01)


@pytest.mark.slow
def test_a_freed_file_answers_as_it_did(spec: CenternetSpec) -> None:
    """Of the size and the batch that the published file fixes."""
    weights = fetch(spec)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    before = onnxruntime.InferenceSession(str(weights), options)
    tensor = np.random.default_rng(0).uniform(0, 255, (10, 3, 32, 32)).astype(np.float32)
    wanted = before.run(["537", "538", "539"], {"input.1": tensor})
    takes, gives = (None, 3, None, None), [(None, channels, None, None) for channels in (1, 2, 2)]
    after = Network("mine", weights, takes, gives, 1, keys="classes", others=True)
    found = after.run(tensor, *((10, channels, 8, 8) for channels in (1, 2, 2)))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_the_largest_picture_keeps_the_limits(spec: CenternetSpec) -> None:
    """A square one of 8K: no other shape is larger when its long side is shrunk."""
    detector = Centernet(spec, fetch(spec))
    began = time.monotonic()
    (seen,) = detector.detect([np.zeros((7680, 7680, 3), np.uint8)])
    assert time.monotonic() - began < TIME_LIMIT_S
    assert len(seen) == 0


@pytest.mark.slow
def test_pictures_of_another_size_before_change_nothing(spec: CenternetSpec) -> None:
    dice = np.random.default_rng(0)
    sizes = [(96, 128), (240, 320), (540, 960), (100, 60), (33, 31), (480, 640)]
    pictures = [dice.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]
    weights = fetch(spec)
    one = Centernet(spec, weights).detect(pictures + pictures[::-1])
    for picture, found in zip(pictures, one[:6], strict=True):
        (alone,) = Centernet(spec, weights).detect([picture])
        np.testing.assert_array_equal(alone.xywh, found.xywh)
        np.testing.assert_array_equal(alone.score, found.score)
    for found, again in zip(one[:6], one[:5:-1], strict=True):
        np.testing.assert_array_equal(found.xywh, again.xywh)
