"""Label models: one .toml a model, one .py a model family.

A model file is looked up in the folders that the user names and then in this one:

    name = "yolox_nano"           # also the name of the file and the source of its labels
    family = "yolox"              # a row of MODEL_FAMILIES
    url = "https://..."           # anything that fsspec opens
    sha256 = "695e..."            # of the weights
    licence = "Apache-2.0"
    file = "yolox_nano.onnx"      # the weights' name in the cache
    width = 416                   # of the model's input, pixels
    height = 416
    score_threshold = 0.1         # boxes below are not reported
    nms_iou = 0.5                 # boxes of one class that overlap more are one object
    classes = ["person", ...]     # in the order of the model's output
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import fsspec
import numpy as np

from schemas.arrays import FloatArray, Image, IntArray
from schemas.errors import UsageError
from schemas.ids import digest
from schemas.registry import Registry

MODEL_FAMILIES = Registry("model family", {"yolox": "auto_label.models.yolox:Yolox"})


_MAX_TOML_BYTES = 1 << 20
_MAX_SIDE_PX = 4096
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TYPES: dict[str, type] = {
    "name": str,
    "family": str,
    "url": str,
    "sha256": str,
    "licence": str,
    "file": str,
    "width": int,
    "height": int,
    "score_threshold": float,
    "nms_iou": float,
    "classes": list,
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model: a .toml, checked. Sizes in pixels, thresholds from 0 to 1."""

    name: str
    family: str
    url: str
    sha256: str
    licence: str
    file: str
    width: int
    height: int
    score_threshold: float
    nms_iou: float
    classes: tuple[str, ...]

    @property
    def version(self) -> str:
        """The `source_version` of the model's labels: the head of its weights' SHA-256."""
        return self.sha256[:12]

    @property
    def identity(self) -> str:
        """The name and a digest of all that changes the model's labels, not of its address."""
        made_of = {k: v for k, v in asdict(self).items() if k not in {"url", "licence", "file"}}
        return f"{self.name}@{digest('model', made_of)}"


@dataclass(frozen=True, slots=True)
class Detections:
    """What one model saw on one image, best first.

    xywh float64[n, 4] top left corner and size in pixels of the image, score float64[n]
    from 0 to 1, class_index int64[n] into `classes`.
    """

    xywh: FloatArray
    score: FloatArray
    class_index: IntArray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.score)

    def of(self, names: frozenset[str]) -> Detections:
        """Returns the detections of the classes named."""
        wanted = [index for index, name in enumerate(self.classes) if name in names]
        keep = np.isin(self.class_index, wanted)
        return Detections(self.xywh[keep], self.score[keep], self.class_index[keep], self.classes)


class Detector(Protocol):
    """A model that is ready to look at images."""

    @property
    def spec(self) -> ModelSpec:
        """The model's row."""
        ...

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Finds objects on BGR images uint8[h, w, 3] of any size, one result an image."""
        ...


def open_detector(spec: ModelSpec, weights: Path, threads: int = 1) -> Detector:
    """Opens a model of any family.

    Args:
        spec: the model.
        weights: its verified weights, as `auto_label.weights.fetch` returns them.
        threads: CPU threads of one call; the labels do not depend on it being 1 on every
            worker, but sums of floats may, so one number serves a whole lake.
    """
    detector: Detector = MODEL_FAMILIES.load(spec.family)(spec, weights, threads)
    return detector


def load_models(names: Sequence[str], dirs: Sequence[str] = ()) -> tuple[ModelSpec, ...]:
    """Reads models by name, the user's folders before ours, in the order asked for.

    Raises:
        UsageError: a name is unknown (lists the choices), or its file is not a model (names
            the file and the key).
    """
    paths = _paths(dirs)
    specs = []
    for name in dict.fromkeys(names):
        if name not in paths:
            raise UsageError(f"unknown model {name!r}; choose one of: {', '.join(sorted(paths))}")
        specs.append(_parse(name, paths[name], _read(paths[name])))
    return tuple(specs)


def list_models(dirs: Sequence[str] = ()) -> tuple[ModelSpec, ...]:
    """Reads every model there is, by name.

    >>> [spec.name for spec in list_models()]
    ['yolox_nano']
    """
    return load_models(sorted(_paths(dirs)), dirs)


def _paths(dirs: Sequence[str]) -> dict[str, str]:
    """Maps model names to the places of their files; the first folder that has one wins."""
    paths: dict[str, str] = {}
    ours = str(resources.files(__name__))
    for folder in (*dirs, ours):
        filesystem, root = fsspec.core.url_to_fs(folder)
        if not filesystem.isdir(root):
            raise UsageError(f"model folder {folder!r} is not there; make it or do not name it")
        for path in sorted(filesystem.glob(f"{filesystem.unstrip_protocol(root)}/*.toml")):
            stem = path.rsplit("/", 1)[-1].removesuffix(".toml")
            paths.setdefault(stem, filesystem.unstrip_protocol(path))
    return paths


def _read(path: str) -> bytes:
    try:
        with fsspec.open(path, "rb") as file:
            return bytes(file.read(_MAX_TOML_BYTES + 1))
    except OSError as error:
        raise UsageError(f"model file {path}: cannot be read: {error.strerror}") from error


def _parse(name: str, path: str, raw: bytes) -> ModelSpec:
    """Checks a model file key by key: it may come from anyone."""

    def refuse(why: str) -> UsageError:
        return UsageError(f"model file {path}: {why}")

    if len(raw) > _MAX_TOML_BYTES:
        raise refuse(f"is larger than {_MAX_TOML_BYTES} bytes; a model is a short .toml")
    try:
        table: dict[str, Any] = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(f"is not TOML: {error}") from error
    unknown, missing = sorted(table.keys() - _TYPES), sorted(_TYPES.keys() - table)
    if unknown or missing:
        raise refuse(f"has unknown keys {unknown} and lacks {missing}")
    for key, type_ in _TYPES.items():
        if type_ is float and type(table[key]) is int:
            table[key] = float(table[key])
        if type(table[key]) is not type_:
            raise refuse(f"{key} = {table[key]!r} must be a {type_.__name__}")
    classes = table["classes"]
    if not classes or any(type(c) is not str or not c for c in classes):
        raise refuse("classes must be a list of names")
    checks = {
        "name": table["name"] == name and _PLAIN_NAME.fullmatch(name) is not None,
        "file": _PLAIN_NAME.fullmatch(table["file"]) is not None,
        "sha256": _SHA256.fullmatch(table["sha256"]) is not None,
        "family": table["family"] in MODEL_FAMILIES,
        "width": 32 <= table["width"] <= _MAX_SIDE_PX,
        "height": 32 <= table["height"] <= _MAX_SIDE_PX,
        "score_threshold": 0 < table["score_threshold"] < 1,
        "nms_iou": 0 < table["nms_iou"] <= 1,
    }
    cures = {
        "name": f"must be the file's plain name, {name!r}",
        "file": "must be a plain file name, without folders",
        "sha256": "must be 64 lower-case hex digits",
        "family": f"must be one of: {', '.join(sorted(MODEL_FAMILIES))}",
        "width": f"must lie in 32..{_MAX_SIDE_PX}",
        "height": f"must lie in 32..{_MAX_SIDE_PX}",
        "score_threshold": "must lie between 0 and 1",
        "nms_iou": "must lie in (0, 1]",
    }
    for key, holds in checks.items():
        if not holds:
            raise refuse(f"{key} = {table[key]!r} {cures[key]}")
    return ModelSpec(**{**table, "classes": tuple(classes)})
