"""Model files: what is there, and what is refused."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from auto_label.models import (
    MODEL_FAMILIES,
    Detections,
    ModelSpec,
    list_models,
    load_models,
    open_detector,
)
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


@pytest.mark.parametrize("spec", list_models(), ids=lambda spec: spec.name)
def test_every_model_of_ours_has_a_family_and_a_licence(spec: ModelSpec) -> None:
    (again,) = load_models([spec.name])
    assert again == spec == pickle.loads(pickle.dumps(spec))  # noqa: S301 - our own bytes
    assert callable(MODEL_FAMILIES.load(again.family))
    assert again.licence
    assert again.url.startswith("https://")


def test_yolox_nano_knows_the_classes_of_coco() -> None:
    (spec,) = load_models(["yolox_nano"])
    assert len(set(spec.classes)) == 80
    assert (spec.classes[0], spec.classes[2], spec.classes[-1]) == ("person", "car", "toothbrush")
    assert spec.version == "695e750a5d57"


def test_a_users_folder_adds_a_model_and_wins_over_ours(tmp_path: Path) -> None:
    dirs = _written(tmp_path, GOOD)
    assert [spec.name for spec in list_models(dirs)] == ["mine", "yolox_nano"]
    _written(tmp_path, GOOD.replace('"mine"', '"yolox_nano"'), "yolox_nano.toml")
    (spec,) = load_models(["yolox_nano"], dirs)
    assert (spec.width, spec.height, spec.nms_iou) == (64, 32, 1.0)


def test_the_identity_follows_the_labels_and_not_the_address(tmp_path: Path) -> None:
    (spec,) = load_models(["mine"], _written(tmp_path, GOOD))
    assert dataclasses.replace(spec, url="https://elsewhere").identity == spec.identity
    assert dataclasses.replace(spec, score_threshold=0.3).identity != spec.identity
    assert dataclasses.replace(spec, classes=("car", "person")).identity != spec.identity
    assert spec.identity.startswith("mine@")


def test_an_unknown_model_lists_the_choices() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'yolo'; choose one of: yolox_nano"):
        load_models(["yolo"])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        list_models([str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('file = "mine.onnx"', 'file = "../../mine.onnx"', "plain file name"),
        ('file = "mine.onnx"', 'file = ".."', "plain file name"),
        ('name = "mine"', 'name = "other"', "'mine'"),
        ('sha256 = "0000', 'sha256 = "ZZZZ', "64 lower-case hex"),
        ('family = "yolox"', 'family = "resnet"', "one of: yolox"),
        ("width = 64", "width = 1000000000", "must lie in"),
        ("width = 64", "width = true", "must be a int"),
        ("width = 64", 'width = "64"', "must be a int"),
        ("score_threshold = 0.25", "score_threshold = nan", "score_threshold"),
        ("score_threshold = 0.25", "score_threshold = inf", "score_threshold"),
        ('["person", "car"]', "[]", "classes"),
        ('["person", "car"]', '["person", 3]', "classes"),
        ("licence", "license", "license"),
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
        open_detector(dataclasses.replace(spec, family="none"), tmp_path)


def test_detections_are_picked_by_class() -> None:
    seen = Detections(np.zeros((3, 4)), np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]), ("a", "b"))
    assert seen.of(frozenset({"b"})).score.tolist() == [0.9, 0.7]
    assert len(seen.of(frozenset({"c"}))) == 0
