"""YOLOX: decoding against a plain loop, the network against what is on real frames."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from auto_label.models import Detections, load_models, open_detector
from auto_label.models.yolox import Yolox, YoloxSpec, decode, letterbox
from auto_label.overlap import iou
from schemas.arrays import Float32Array, FloatArray, Image
from schemas.errors import FleetError


@pytest.fixture(scope="module")
def spec() -> YoloxSpec:
    """Gives the spec."""
    (spec,) = load_models(["yolox_nano"])
    assert isinstance(spec, YoloxSpec)
    return spec


@pytest.fixture(scope="module")
def weights(data: Path, spec: YoloxSpec) -> Path:
    """Gives the weights."""
    return data / "models" / spec.name / spec.file


def _still(data: Path, name: str) -> Image:
    image = cv2.imread(str(data / "video" / "stills" / f"{name}.jpg"))
    assert image is not None
    return image.astype(np.uint8)


def _random_output(spec: YoloxSpec, seed: int) -> Float32Array:
    rng = np.random.default_rng(seed)
    output = rng.normal(0, 1, (3549, 5 + len(spec.classes)))
    output[:, 4:] = rng.beta(0.3, 3.0, (3549, 1 + len(spec.classes)))
    return output.astype(np.float32)


def test_decode_agrees_with_a_plain_loop(spec: YoloxSpec) -> None:
    output = _random_output(spec, 1)
    found = decode(output, spec.replace(nms_iou=1.0), 0.5, (800, 600))
    wanted = []
    row = 0
    for stride in (8, 16, 32):
        for y in range(416 // stride):
            for x in range(416 // stride):
                cell = output[row].astype(float)
                row += 1
                best = int(cell[5:].argmax())
                score = cell[4] * cell[5 + best]
                if score < spec.score_threshold:
                    continue
                centre = ((cell[0] + x) * stride / 0.5, (cell[1] + y) * stride / 0.5)
                size = (math.exp(cell[2]) * stride / 0.5, math.exp(cell[3]) * stride / 0.5)
                low = [
                    min(max(c - s / 2, 0), m)
                    for c, s, m in zip(centre, size, (800, 600), strict=True)
                ]
                high = [
                    min(max(c + s / 2, 0), m)
                    for c, s, m in zip(centre, size, (800, 600), strict=True)
                ]
                box = (low[0], low[1], high[0] - low[0], high[1] - low[1])
                if min(box[2:]) >= 1:
                    wanted.append((-score, best, *box))
    ours = np.column_stack([-found.score, found.class_index, found.xywh])
    assert len(wanted) > 50
    np.testing.assert_allclose(ours, sorted(wanted), rtol=1e-9)


def test_decode_survives_wild_numbers(spec: YoloxSpec) -> None:
    output = _random_output(spec, 2)
    output[:, 2:4] = 1e30
    output[: 3549 // 2, 4:] = 1.0
    found = decode(output, spec, 1.0, (640, 480))
    assert np.isfinite(found.xywh).all()
    assert (found.xywh[:, :2] + found.xywh[:, 2:] <= [640, 480]).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (416, 416), (1876, 2896)])
def test_letterbox_fits_any_image(size: tuple[int, int]) -> None:
    tensor, scale = letterbox(np.full((*size, 3), 7, np.uint8), 416, 416)
    height, width = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
    assert max(height, width) == 416
    assert (tensor[0, :, :height, :width] == 7).all()
    assert (tensor == 7).sum() == height * width * 3
    assert set(np.unique(tensor)) <= {7, 114}


def _cars(seen: Detections) -> FloatArray:
    kept = seen.of(frozenset({"car", "truck"}))
    return kept.xywh[kept.score > 0.3]


@pytest.mark.parametrize(
    ("still", "car"),
    [
        ("solidWhiteCurve", (189, 301, 88, 54)),
        ("solidYellowCurve", (834, 293, 93, 56)),
        ("solidWhiteRight", (0, 287, 92, 78)),
    ],
)
def test_cars_are_found_where_a_person_sees_them(
    data: Path, spec: YoloxSpec, weights: Path, still: str, car: tuple[int, ...]
) -> None:
    image = _still(data, still)
    detector = open_detector(spec, weights)
    seen, mirrored = detector.detect([image, image[:, ::-1]])
    truth = np.array([car], dtype=float)
    assert iou(truth, _cars(seen)).max() > 0.8
    truth[0, 0] = image.shape[1] - truth[0, 0] - truth[0, 2]
    assert iou(truth, _cars(mirrored)).max() > 0.7
    assert (np.diff(seen.score) <= 0).all()


def test_a_model_gives_the_same_bytes_each_time(data: Path, spec: YoloxSpec, weights: Path) -> None:
    image = _still(data, "solidYellowLeft")
    one, two = (Yolox(spec, weights).detect([image])[0] for _ in range(2))
    assert one.xywh.tobytes() == two.xywh.tobytes()
    assert one.score.tobytes() == two.score.tobytes()
    assert len(one)


def test_an_image_of_one_pixel_has_nothing_on_it(spec: YoloxSpec, weights: Path) -> None:
    (seen,) = Yolox(spec, weights).detect([np.zeros((1, 1, 3), np.uint8)])
    assert seen.xywh.shape == (len(seen), 4)


def test_weights_of_another_shape_are_refused(spec: YoloxSpec, weights: Path) -> None:
    with pytest.raises(FleetError, match="correct width, height or classes"):
        Yolox(spec.replace(classes=spec.classes[:3]), weights)


@pytest.mark.parametrize("raw", [b"", b"not a model", bytes(range(256)) * 8])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, spec: YoloxSpec, raw: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(raw)
    with pytest.raises(FleetError, match="not an ONNX model"):
        Yolox(spec, path)
