"""Damaged models: each detects, or is refused in one line, within its limits."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from auto_label.models import ModelSpec
from auto_label.models.trial import LIMITS, try_out
from schemas.errors import FleetError
from tests import onnx_file
from tests.fuzz.cases import Ended, Part, Wrong, parts, run
from tests.fuzz.mutations import mutated

MODELS = {
    "good": onnx_file.good(),
    "large": onnx_file.large(1000, "mean"),
    "nested": onnx_file.nested(5),
    "shaped": onnx_file.shaped(*onnx_file.GIVES),
    "tall": onnx_file.wrong_on_tall_pictures(),
    "external": onnx_file.external("other.bin"),
    "declared": onnx_file.declared(8),
}

POINTS = (
    (1, onnx_file.points()),
    (1, onnx_file.points(maps=("sizes", "offsets", "heat"))),
    (1, onnx_file.points(last="Identity")),
    (3, onnx_file.points(3)),
)
"""CenterNets, whose files are edited before they are opened, and their numbers of classes."""

_ENOUGH = 50
"""Cases among which some models are whole."""

NUMBERS = (0, 1, -1, 2, 7, 99, -(1 << 31), 1 << 31, (1 << 63) - 1, -(1 << 63), 1 << 20)
OPERATORS = {
    **dict.fromkeys(("Abs", "AveragePool", "Ceil", "Exp", "Flatten", "GlobalAveragePool"), "f f"),
    **dict.fromkeys(("Log", "MaxPool", "Neg", "ReduceMean", "Softmax", "SpaceToDepth"), "f f"),
    **dict.fromkeys(("DepthToSpace", "LRN", "Sqrt", "Transpose", "Trilu", "Unique"), "f f"),
    **dict.fromkeys(("Add", "Conv", "ConvTranspose", "Div", "Gemm", "MatMul", "Mod"), "ff f"),
    **dict.fromkeys(("Pow", "Sub", "Max", "Concat", "GridSample"), "ff f"),
    **dict.fromkeys(("Expand", "Gather", "GatherElements", "GatherND", "OneHot"), "fi f"),
    **dict.fromkeys(("Pad", "Reshape", "Split", "Squeeze", "Tile", "TopK", "Unsqueeze"), "fi f"),
    **dict.fromkeys(("CumSum", "ReduceSum"), "fs f"),
    **dict.fromkeys(("NonZero", "Shape", "Size"), "f i"),
    **dict.fromkeys(("Div", "Mod", "Sub", "Mul"), "ii i"),
    "ConstantOfShape": "i f",
    "Range": "sss i",
    "Slice": "fiii f",
    "Clip": "fff f",
    "NonMaxSuppression": "ffs i",
    "ScatterElements": "fif f",
    "EyeLike": "f f",
    "Resize": "f00i f",
    "Where": "fff f",
    "Nothing": "f f",
}
"""What each takes and gives: f numbers, i whole ones, s one whole number, 0 nothing."""
ATTRIBUTES = ("axis", "keepdims", "largest", "group", "blocksize", "batch_dims")


def bent(content: bytes, dice: random.Random) -> bytes:
    """Changes some bytes and no length, so that the file still parses."""
    damaged = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4))):
        damaged[dice.randrange(len(damaged))] = dice.choice((0, 1, 2, 7, 127, dice.randrange(256)))
    return bytes(damaged)


def crafted(dice: random.Random) -> bytes:
    """Makes a chain of operators with numbers at their limits."""
    numbers = [dice.choice(NUMBERS) for _ in range(dice.randint(1, 4))]
    constants = [
        onnx_file.whole("numbers", [len(numbers)], *numbers),
        onnx_file.whole("number", (), dice.choice(NUMBERS)),
        onnx_file.floats("real", (), dice.choice((0.0, -1.0, 1e38, float("nan"), 0.5))),
    ]
    known = {
        "f": ["images", "answer", "mean", "real"],
        "i": ["numbers", "number"],
        "s": ["number"],
        "0": [""],
    }
    nodes, made = [], "mean"
    for place in range(dice.randint(1, 4)):
        operator = dice.choice(sorted(OPERATORS))
        takes, gives = OPERATORS[operator].split()
        inputs = [dice.choice(known[kind]) for kind in takes]
        given = {name: dice.choice(NUMBERS) for name in ATTRIBUTES if dice.random() < 0.1}
        made = f"made{place}"
        nodes.append(onnx_file.node(operator, inputs, [made], "", **given))
        known[gives].append(made)
    last = [
        onnx_file.node("Cast", [made], ["cast"], to=onnx_file.FLOAT),
        onnx_file.node("ReduceMax", ["cast"], ["most"], keepdims=0),
        onnx_file.node("Sub", ["most", "most"], ["extra"]),
    ]
    return onnx_file.answering([*nodes, *last], constants)


def damaged(path: Path, dice: random.Random) -> ModelSpec:
    make = dice.choice((mutated, bent, bent, *[lambda *_: crafted(dice)] * 3))
    return onnx_file.specified(path, make(MODELS[dice.choice(sorted(MODELS))], dice))


def damaged_points(path: Path, dice: random.Random) -> ModelSpec:
    classes, raw = dice.choice(POINTS)
    return onnx_file.specified_points(path, dice.choice((mutated, bent))(raw, dice), classes)


@pytest.mark.parametrize("part", parts("model-file"), ids=str)
def test_a_damaged_model_detects_or_is_refused(
    part: Part, tmp_path: Path, record_property: Any
) -> None:
    def attempt(dice: random.Random, folder: Path) -> Ended:
        path = folder / "model.onnx"
        spec = damaged_points(path, dice) if dice.random() < 0.3 else damaged(path, dice)
        try:
            try_out(spec, path)
        except FleetError as error:
            said = str(error)
            if not said.startswith("model model: "):
                raise Wrong(f"names no model: {said}") from error
            if not said.isprintable() or len(said) > 2000:
                raise Wrong(f"is no line: {said!r}") from error
            return Ended("line", kind(said))
        return Ended("result", "detects")

    tally = run(part, attempt, tmp_path, LIMITS.memory_bytes)
    tally.tell(record_property)
    if part.end - part.first >= _ENOUGH:
        assert tally.reasons["detects"]
        assert tally.reasons["not ONNX"]


def kind(said: str) -> str:
    kinds = {
        "not an ONNX model": "not ONNX",
        "its .toml asks for": "another network",
        "crashes": "crash",
        "does not end": "endless",
        "not done after": "endless",
        "MB of memory": "memory",
    }
    return next((kind for part, kind in kinds.items() if part in said), "fails")
