"""Model files: what is there, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from auto_label.models import (
    MODEL_FAMILIES,
    SHIPPED,
    Detections,
    ModelSpec,
    list_models,
    load_models,
    open_detector,
)
from auto_label.models.yolox import YoloxSpec
from auto_label.packages import PREFIX
from schemas.errors import UsageError

GOOD = """
name = "mine"
family = "yolox"
url = "https://example.org/mine.onnx"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
licence = "MIT"
file = "mine.onnx"
width = 64
height = 32
score_threshold = 0.25
nms_iou = 1
classes = ["person", "car"]
"""


def _written(folder: Path, text: str | bytes, name: str = "mine.toml") -> list[str]:
    raw = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(raw)
    return [str(folder)]


def _yolox(name: str, dirs: Sequence[str] = ()) -> YoloxSpec:
    (spec,) = load_models([name], dirs)
    assert isinstance(spec, YoloxSpec)
    return spec


@pytest.mark.parametrize("spec", list_models(), ids=lambda spec: spec.name)
def test_every_model_of_ours_has_a_family_and_a_licence(spec: ModelSpec) -> None:
    (again,) = load_models([spec.name])
    assert again == spec == pickle.loads(pickle.dumps(spec))  # noqa: S301 - our own bytes
    assert callable(MODEL_FAMILIES.load(again.family))
    assert again.licence
    assert again.url.startswith(("https://", PREFIX, SHIPPED))


def test_yolox_nano_knows_the_classes_of_coco() -> None:
    spec = _yolox("yolox_nano")
    assert len(set(spec.classes)) == 80
    assert (spec.classes[0], spec.classes[2], spec.classes[-1]) == ("person", "car", "toothbrush")
    assert spec.version == "695e750a5d57"


def test_a_users_folder_adds_a_model_and_wins_over_ours(tmp_path: Path) -> None:
    dirs = _written(tmp_path, GOOD)
    ours = ["centerface", "plates", "yolox_nano", "yunet"]
    assert [spec.name for spec in list_models(dirs)] == sorted([*ours, "mine"])
    _written(tmp_path, GOOD.replace('"mine"', '"yolox_nano"'), "yolox_nano.toml")
    spec = _yolox("yolox_nano", dirs)
    assert (spec.width, spec.height, spec.nms_iou) == (64, 32, 1.0)


def test_the_identity_follows_the_labels_and_not_the_address(tmp_path: Path) -> None:
    spec = _yolox("mine", _written(tmp_path, GOOD))
    assert spec.replace(url="https://elsewhere", description="other").identity == spec.identity
    assert spec.replace(score_threshold=0.3).identity != spec.identity
    assert spec.replace(classes=("car", "person")).identity != spec.identity
    assert spec.identity.startswith("mine@")


def test_the_identity_of_a_shipped_model_stays() -> None:
    """Another value would label every event of every lake again."""
    assert _yolox("yolox_nano").identity == "yolox_nano@2b8a3d6f836b3e1056eb"


def test_models_are_keys_of_what_a_worker_has_open(tmp_path: Path) -> None:
    spec = _yolox("mine", _written(tmp_path, GOOD))
    assert {spec: 1}[_yolox("mine", [str(tmp_path)])] == 1


def test_an_unknown_model_lists_the_choices() -> None:
    choices = 'model "yolo": unknown; choose one of: centerface, plates, yolox_nano, yunet'
    with pytest.raises(UsageError, match=choices):
        load_models(["yolo"])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        list_models([str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('file = "mine.onnx"', 'file = "../../mine.onnx"', "plain file name"),
        ('file = "mine.onnx"', 'file = ".."', "plain file name"),
        ('name = "mine"', 'name = "other"', 'name = "other": must be "mine"'),
        ('sha256 = "0000', 'sha256 = "ZZZZ', "64 lower-case hex"),
        ('family = "yolox"', 'family = "resnet"', "choose one of: centernet, yolox, yunet"),
        ("width = 64", "width = 1000000000", "width = 1000000000: must be at most 4096"),
        ("width = 64", "width = true", "must be a whole number"),
        ("width = 64", 'width = "64"', "must be a whole number"),
        ("score_threshold = 0.25", "score_threshold = nan", "score_threshold"),
        ("score_threshold = 0.25", "score_threshold = inf", "score_threshold"),
        ("score_threshold = 0.25", "score_threshold = 1", "must be below 1"),
        ("nms_iou = 1", "nms_iou = 0", "must be above 0"),
        ('["person", "car"]', "[]", "classes"),
        ('["person", "car"]', '["person", 3]', r"classes\[1\] = 3: must be text"),
        ('["person", "car"]', '["person", ""]', r"classes\[1\]"),
        ("licence", "license", "license: unknown key; choose one of: classes, description"),
        ("family", "famliy", "famliy: unknown key; choose one of: classes, description"),
        ('family = "yolox"', "", "family: missing"),
        ('family = "yolox"', "family = 3", "family = 3: must be text"),
        ("https://example.org/mine.onnx", "pypi:foo", "url = .*: must be pypi:NAME==VERSION#"),
        ("https://example.org/mine.onnx", "shipped:", "url = .*: must be shipped:NAME, a plain"),
        ("https://example.org/mine.onnx", "shipped:../a.onnx", "must be shipped:NAME, a plain"),
        ("https://example.org/mine.onnx", "shipped:/etc/passwd", "must be shipped:NAME, a plain"),
        ("licence", "= =", "not TOML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    dirs = _written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UsageError, match=says) as refusal:
        list_models(dirs)
    assert "mine.toml" in str(refusal.value)


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xfe\x00", b"a=" + b"[" * 100_000, b"#" * (2 << 20)],
    ids=["not-text", "deep", "large"],
)
def test_hostile_bytes_are_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(UsageError, match=r"mine\.toml"):
        list_models(_written(tmp_path, raw))


def test_a_family_opens_through_its_row(tmp_path: Path) -> None:
    (spec,) = load_models(["mine"], _written(tmp_path, GOOD))
    with pytest.raises(UsageError, match="unknown model family 'none'"):
        open_detector(spec.model_copy(update={"family": "none"}), tmp_path)


def test_detections_are_picked_by_class() -> None:
    seen = Detections(np.zeros((3, 4)), np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]), ("a", "b"))
    assert seen.of(frozenset({"b"})).score.tolist() == [0.9, 0.7]
    assert len(seen.of(frozenset({"c"}))) == 0
