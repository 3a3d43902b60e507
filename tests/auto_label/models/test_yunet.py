"""YuNet: decoding against a plain loop, OpenCV's own detector as the second one, real pictures."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from auto_label.models import load_models, open_detector
from auto_label.models.network import TIME_LIMIT_S
from auto_label.models.yunet import Yunet, YunetSpec, decode
from auto_label.packages import WheelFile
from auto_label.weights import fetch
from schemas.arrays import Image
from schemas.errors import FleetError, UsageError
from tests import onnx_file
from tests.conftest import Tell

FACE = WheelFile.parse("pypi:scikit-image==0.25.2#skimage/data/astronaut.png")
"""A portrait that everybody may use, of NASA."""


@pytest.fixture(scope="module")
def spec() -> YunetSpec:
    """YuNet as it ships."""
    (spec,) = load_models(["yunet"])
    assert isinstance(spec, YunetSpec)
    return spec


def test_decode_agrees_with_a_plain_loop(spec: YunetSpec) -> None:
    rng = np.random.default_rng(1)
    spec = spec.replace(nms_iou=1.0, doubt_score=0.4)
    inner, scale, size = (96, 64), 0.5, (190, 120)
    odds = rng.beta(0.3, 3.0, 126).astype(np.float32)
    boxes = rng.normal(0.5, 1, (126, 4)).astype(np.float32)
    found = decode(odds, boxes, spec, inner, scale, size)
    wanted, number = [], 0
    for stride in (8, 16, 32):
        for row, column in itertools.product(range(64 // stride), range(96 // stride)):
            x, y, wide, high = boxes[number].tolist()
            score = math.sqrt(odds[number])
            number += 1
            middle = ((column + x) * stride / scale, (row + y) * stride / scale)
            half = (math.exp(wide) * stride / scale / 2, math.exp(high) * stride / scale / 2)
            low = [min(max(m - h, 0), e) for m, h, e in zip(middle, half, size, strict=True)]
            top = [min(max(m + h, 0), e) for m, h, e in zip(middle, half, size, strict=True)]
            if score >= 0.4 and top[0] - low[0] >= 1 and top[1] - low[1] >= 1:
                wanted.append((*low, top[0] - low[0], top[1] - low[1], score))
    assert len(wanted) > 10
    rows = zip(*found.xywh.T.tolist(), found.score.tolist(), strict=True)
    np.testing.assert_allclose(sorted(rows), sorted(wanted), rtol=1e-5)


def test_wild_sizes_stay_inside_the_picture(spec: YunetSpec) -> None:
    odds = np.zeros(21, np.float32)
    odds[20] = 1
    wild = np.full((21, 4), 1e30, np.float32)
    wild[:, :2] = 0.5
    found = decode(odds, wild, spec, (32, 32), 1.0, (30, 20))
    assert found.xywh.tolist() == [[0, 0, 30, 20]]


def test_another_family_is_refused(spec: YunetSpec, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_file.points())
    with pytest.raises(FleetError, match=r"maps .* but its .toml asks for .*; correct family, or"):
        open_detector(spec, path)


def test_it_knows_one_class(tmp_path: Path) -> None:
    text = Path("auto_label/models/yunet.toml").read_text()
    (tmp_path / "yunet.toml").write_text(text.replace('["face"]', '["face", "plate"]'))
    with pytest.raises(UsageError, match="classes"):
        load_models(["yunet"], [str(tmp_path)])


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A portrait, 512 x 512."""
    path = tmp_path_factory.mktemp("portrait") / "astronaut.png"
    with path.open("wb") as out:
        FACE.copy_to(out)
    return np.asarray(cv2.imread(str(path)), np.uint8)


def _by_opencv(spec: YunetSpec, picture: Image) -> Any:
    height, width = picture.shape[:2]
    path = str(fetch(spec))
    detector = cv2.FaceDetectorYN.create(path, "", (width, height), spec.sure_score, 0.3, 1000)
    _, rows = detector.detect(picture)
    return np.empty((0, 15)) if rows is None else rows


@pytest.mark.slow
@pytest.mark.parametrize("width", [512, 200, 333, 1100, 2000])
def test_opencv_finds_the_same_faces(spec: YunetSpec, portrait: Image, width: int) -> None:
    """Those that are sure at once, of pictures with sides that are multiples of 32 and not."""
    height = round(0.8 * width)
    picture = np.asarray(cv2.resize(portrait, (width, height)), np.uint8)
    wanted = _by_opencv(spec, picture)
    (seen,) = Yunet(spec, fetch(spec)).detect([picture])
    sure = seen.score >= spec.sure_score
    assert np.count_nonzero(sure) == len(wanted) >= 1
    np.testing.assert_allclose(seen.score[sure], wanted[:, 14], atol=1e-3)
    np.testing.assert_allclose(seen.xywh[sure], wanted[:, :4], atol=0.1)


@pytest.mark.slow
def test_small_faces_are_sure_on_a_closer_look(
    spec: YunetSpec, portrait: Image, data: Path, tell: Tell
) -> None:
    """On real roads: every face of 16 px and more is found, and no road marking, car or tree."""
    detector = Yunet(spec, fetch(spec))
    roads = [
        np.asarray(cv2.resize(image, None, fx=1.5, fy=1.5), np.uint8)
        for path in sorted((data / "video" / "stills").glob("*.jpg"))
        if (image := cv2.imread(str(path))) is not None
    ]
    assert roads
    sure = [int(np.count_nonzero(one.score >= 0.5)) for one in detector.detect(roads)]
    assert sure == [0] * len(roads)
    head, (x, y, w, h) = portrait[0:300, 120:330], (62, 58, 88, 120)
    dice = np.random.default_rng(0)
    recall = {}
    for height in (12, 16, 24, 48, 120, 400):
        scale, found = 1.5 * height / h, 0
        for road in roads * 2:
            pasted = road.copy()
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            small = cv2.resize(head, None, fx=scale, fy=scale, interpolation=how)
            small = small[: road.shape[0], : road.shape[1]]
            rows, columns, _ = small.shape
            top = int(dice.integers(0, road.shape[0] - rows + 1))
            left = int(dice.integers(0, road.shape[1] - columns + 1))
            pasted[top : top + rows, left : left + columns] = small
            centre = (left + (x + w / 2) * scale, top + (y + h / 2) * scale)
            (seen,) = detector.detect([pasted])
            low, high = seen.xywh[:, :2], seen.xywh[:, :2] + seen.xywh[:, 2:]
            inside = np.all((low <= centre) & (high >= centre), axis=1)
            found += int((inside & (seen.score >= 0.5)).any())
        recall[height] = found / len(roads) / 2
    tell("yunet by height in px: " + ", ".join(f"{h}: {r:.2f}" for h, r in recall.items()))
    assert all(share == 1.0 for height, share in recall.items() if height >= 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    "size", [(1, 1), (33, 31), (100, 200), (5, 9000), (3840, 3840), (7680, 7680)]
)
def test_any_size_is_looked_at_within_the_limits(spec: YunetSpec, size: tuple[int, int]) -> None:
    detector = Yunet(spec.replace(doubt_score=0.001, score_threshold=0.001), fetch(spec))
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    began = time.monotonic()
    (seen,) = detector.detect([picture])
    assert time.monotonic() - began < TIME_LIMIT_S
    assert (seen.xywh[:, :2] >= 0).all()
    assert (seen.xywh[:, :2] + seen.xywh[:, 2:] <= size[::-1]).all()


@pytest.mark.slow
def test_pictures_of_another_size_before_change_nothing(spec: YunetSpec, portrait: Image) -> None:
    sizes = [(96, 128), (540, 960), (100, 60), (33, 31), (480, 640)]
    pictures = [np.asarray(cv2.resize(portrait, size), np.uint8) for size in sizes]
    weights = fetch(spec)
    together = Yunet(spec, weights).detect(pictures + pictures[::-1])
    for k, picture in enumerate(pictures):
        (alone,) = Yunet(spec, weights).detect([picture])
        for found in (together[k], together[-1 - k]):
            np.testing.assert_array_equal(alone.xywh, found.xywh)
            np.testing.assert_array_equal(alone.score, found.score)
