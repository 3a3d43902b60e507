"""ONNX files made by hand, good and hostile: the messages of onnx.proto that tests need.

The good YOLOX has 32 x 32 pixels and one class, and sees one object everywhere. The good CenterNet
sees colours.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from auto_label.models import ModelSpec, load_models
from auto_label.models.centernet import CenternetSpec
from auto_label.models.yolox import YoloxSpec

FLOAT, UINT8, INT64, STRING, BOOL, FLOAT16, DOUBLE = 1, 2, 7, 8, 9, 10, 11
SIDE, CELLS, COLUMNS = 32, 21, 6
TAKES, GIVES = (1, 3, SIDE, SIDE), (1, CELLS, COLUMNS)

Dims = Sequence[int | str]


def field(number: int, value: float | str | bytes) -> bytes:
    """Encodes a field of a message: int64, float, or length-delimited."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def fields(number: int, values: Iterable[int | float | str | bytes]) -> bytes:
    return b"".join(field(number, value) for value in values)


def tensor_type(kind: int, dims: Dims) -> bytes:
    shape = b"".join(field(1, field(1 if isinstance(dim, int) else 2, dim)) for dim in dims)
    return field(1, field(1, kind) + field(2, shape))


def value(name: str, dims: Dims = (), kind: int = FLOAT, type_: bytes = b"") -> bytes:
    return field(1, name) + field(2, type_ or tensor_type(kind, dims))


def tensor(name: str, dims: Sequence[int], kind: int, raw: bytes) -> bytes:
    return fields(1, dims) + field(2, kind) + field(8, name) + field(9, raw)


def floats(name: str, dims: Sequence[int], *numbers: float) -> bytes:
    return tensor(name, dims, FLOAT, struct.pack(f"<{len(numbers)}f", *numbers))


def whole(name: str, dims: Sequence[int], *numbers: int) -> bytes:
    return tensor(name, dims, INT64, struct.pack(f"<{len(numbers)}q", *numbers))


Attribute = int | bytes | tuple[int, ...]


def attribute(name: str, given: Attribute) -> bytes:
    """Encodes an attribute: a number, a graph, or numbers."""
    if isinstance(given, int):
        return field(1, name) + field(3, given) + field(20, 2)
    if isinstance(given, tuple):
        return field(1, name) + fields(8, given) + field(20, 7)
    return field(1, name) + field(6, given) + field(20, 5)


def node(
    kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **given: Attribute
) -> bytes:
    attributes = fields(5, (attribute(name, one) for name, one in given.items()))
    return fields(1, inputs) + fields(2, outputs) + field(4, kind) + field(7, domain) + attributes


def graph(
    nodes: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    constants: Iterable[bytes] = (),
) -> bytes:
    named = fields(1, nodes) + field(2, "graph") + fields(5, constants)
    return named + fields(11, inputs) + fields(12, outputs)


def model(graph_: bytes, opset: int = 17, ir: int = 8) -> bytes:
    return field(1, ir) + field(7, graph_) + field(8, field(2, opset))


IMAGES, OUTPUT = value("images", TAKES), value("output", GIVES)
SEEN = (0.0, 0.0, 1.0, 1.0, 0.9, 0.8)
"""A cell that sees an object of e times its stride."""
ANSWER = floats("answer", GIVES, *(SEEN * CELLS))
MEAN = node("ReduceMean", ["images"], ["mean"], keepdims=0)
"""What depends on the picture cannot be computed when the model is opened."""


def answering(nodes: Iterable[bytes] = (), constants: Iterable[bytes] = ()) -> bytes:
    """Makes a model that adds `extra`, a number that some nodes make, to its answer."""
    last = node("Add", ["answer", "extra"], ["output"])
    return model(graph([MEAN, *nodes, last], [IMAGES], [OUTPUT], [ANSWER, *constants]))


def good() -> bytes:
    return answering([node("Sub", ["mean", "mean"], ["extra"])])


def takes(*inputs: bytes) -> bytes:
    last = node("Identity", ["answer"], ["output"])
    return model(graph([last], inputs, [OUTPUT], [ANSWER]))


def gives(*outputs: bytes, nodes: Iterable[bytes] = (), constants: Iterable[bytes] = ()) -> bytes:
    return model(graph([MEAN, *nodes], [IMAGES], outputs, [ANSWER, *constants]))


def endless(start: str) -> bytes:
    """A Loop whose condition stays true, from a constant or from what depends on the picture."""
    body = graph(
        [node("Identity", ["on"], ["still_on"]), node("Abs", ["before"], ["after"])],
        [value("turn", (), INT64), value("on", (), BOOL), value("before")],
        [value("still_on", (), BOOL), value("after")],
    )
    loop = node("Loop", ["", "true", start], ["extra"], body=body)
    return answering([loop], [tensor("true", (), BOOL, b"\1"), floats("one", (), 1.0)])


def large(numbers: int, start: str) -> bytes:
    """The most of so many equal numbers."""
    nodes = [
        node("Expand", [start, "count"], ["many"]),
        node("ReduceMax", ["many"], ["extra"], keepdims=0),
    ]
    return answering(nodes, [whole("count", [1], numbers), floats("one", (), 1.0)])


def nested(depth: int) -> bytes:
    """If in If in If."""
    leaf = inner = graph([node("Sub", ["mean", "mean"], ["x"])], [], [value("x")])
    for _ in range(depth):
        choice = node("If", ["true"], ["x"], then_branch=inner, else_branch=leaf)
        inner = graph([choice], [], [value("x")])
    outer = node("If", ["true"], ["extra"], then_branch=inner, else_branch=leaf)
    return answering([outer], [tensor("true", (), BOOL, b"\1")])


def declared(*dims: int) -> bytes:
    """A constant without the numbers that its size asks for."""
    largest = node("ReduceMax", ["many"], ["extra"], keepdims=0)
    return answering([largest], [tensor("many", dims, FLOAT, b"")])


def divided() -> bytes:
    """A division of whole numbers by zero, which stops the process."""
    nodes = [
        node("Cast", ["mean"], ["whole"], to=INT64),
        node("Sub", ["whole", "whole"], ["nought"]),
        node("Div", ["whole", "nought"], ["none"]),
        node("Cast", ["none"], ["extra"], to=FLOAT),
    ]
    return answering(nodes)


def external(location: str) -> bytes:
    """A constant in another file."""
    place = field(13, field(1, "location") + field(2, location))
    constant = fields(1, [1]) + field(2, FLOAT) + field(8, "extra") + place + field(14, 1)
    return answering((), [constant])


def shaped(*dims: int) -> bytes:
    """An output of another shape than is declared."""
    nodes = [
        node("Mul", ["mean", "zero"], ["none"]),
        node("Cast", ["none"], ["nought"], to=INT64),
        node("Add", ["dims", "nought"], ["shape"]),
        node("Expand", ["zero", "shape"], ["output"]),
    ]
    constants = [floats("zero", (), 0.0), whole("dims", [len(dims)], *dims)]
    return gives(OUTPUT, nodes=nodes, constants=constants)


def constant(number: float) -> bytes:
    """Adds a number to every answer."""
    return answering(
        [node("Sub", ["mean", "mean"], ["none"]), node("Add", ["none", "number"], ["extra"])],
        [floats("number", (), number)],
    )


def wrong_on_tall_pictures() -> bytes:
    """Answers NaN where the picture reaches row 20 of 32, below which a 16:9 one is filled."""
    nodes = [
        node("Slice", ["images", "from", "to", "axis"], ["row"]),
        node("Sub", ["row", "fill"], ["other"]),
        node("Abs", ["other"], ["distance"]),
        node("ReduceMax", ["distance"], ["most"], keepdims=0),
        node("Neg", ["most"], ["least"]),
        node("Sqrt", ["least"], ["extra"]),
    ]
    places = [whole("from", [1], 20), whole("to", [1], 21), whole("axis", [1], 2)]
    return answering(nodes, [*places, floats("fill", (), 114.0)])


MAPS = ("heat", "sizes", "offsets", "landmarks")
COLOURS = ("red", "green", "blue")
TALL, WIDE, LOWER, RIGHT = 2.0, 3.0, 0.25, -0.5
"""What the good CenterNet says of a cell's object: its size in cells, and how far it is off."""


def points(
    colours: int = 1,
    maps: Sequence[str] = MAPS,
    *,
    stride: int = 4,
    bias: float = -20.0,
    last: str = "Sigmoid",
) -> bytes:
    """A CenterNet that sees a cell of each of the first colours as an object.

    As the published CenterFace it has a fixed size and batch, and its constants are inputs too.
    """
    numbers = {
        "sizes": [math.log(TALL), math.log(WIDE)],
        "offsets": [LOWER, RIGHT],
        "landmarks": [0.0] * 10,
        "heat": [bias] * colours,
    }
    nodes, outputs, constants, inputs = [], [], [], [value("image", (10, 3, SIDE, SIDE))]
    for name in maps:
        many = len(numbers[name])
        seen = [k == c and name == "heat" for k in range(many) for c in range(3) for _ in range(16)]
        shapes = {f"{name}.weight": (many, 3, 4, 4), f"{name}.bias": (many,)}
        inputs += [value(constant, dims) for constant, dims in shapes.items()]
        weights = [one / 160 for one in seen]
        constants += [
            floats(*each, *filled)
            for each, filled in zip(shapes.items(), (weights, numbers[name]), strict=True)
        ]
        nodes += [
            node("Conv", ["image", *shapes], [f"{name}.raw"], strides=(stride, stride)),
            node(last if name == "heat" else "Identity", [f"{name}.raw"], [name]),
        ]
        outputs.append(value(name, (10, many, SIDE // stride, SIDE // stride)))
    return model(graph(nodes, inputs, outputs, constants))


IDENTITY = node("Identity", ["answer"], ["output"])

REFUSED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "random": lambda: hashlib.sha256(b"x").digest() * 100,
    "truncated": lambda: good()[: len(good()) // 2],
    "no graph": lambda: field(1, 8) + field(8, field(2, 17)),
    "uint8 input": lambda: takes(value("images", TAKES, UINT8)),
    "half input": lambda: takes(value("images", TAKES, FLOAT16)),
    "wrong size": lambda: takes(value("images", (1, 3, 64, 64))),
    "wrong rank": lambda: takes(value("images", TAKES[1:])),
    "scalar input": lambda: takes(value("images")),
    "dynamic axes": lambda: takes(value("images", ("batch\n\x1b[31m", 3, "h" * 500, "w"))),
    "no input": takes,
    "two inputs": lambda: takes(IMAGES, value("more", TAKES)),
    "no output": gives,
    "two outputs": lambda: gives(
        OUTPUT, value("more", GIVES), nodes=[IDENTITY, node("Identity", ["answer"], ["more"])]
    ),
    "whole output": lambda: gives(
        value("output", GIVES, INT64), nodes=[node("Cast", ["answer"], ["output"], to=INT64)]
    ),
    "text output": lambda: gives(
        value("output", GIVES, STRING), nodes=[node("Cast", ["answer"], ["output"], to=STRING)]
    ),
    "sequence output": lambda: gives(
        value("output", type_=field(4, field(1, tensor_type(FLOAT, GIVES)))),
        nodes=[node("SequenceConstruct", ["answer"], ["output"])],
    ),
    "map input": lambda: takes(
        IMAGES, value("map", type_=field(5, field(1, INT64) + field(2, tensor_type(FLOAT, ()))))
    ),
    "unknown type": lambda: takes(value("images", TAKES, 99)),
    "negative axis": lambda: takes(value("images", (-1, 3, SIDE, SIDE))),
    "unknown operator": lambda: answering([node("Nothing", ["mean"], ["extra"])]),
    "foreign operator": lambda: answering([node("Nothing", ["mean"], ["extra"], "example.org")]),
    "future opset": lambda: model(graph([IDENTITY], [IMAGES], [OUTPUT], [ANSWER]), opset=9999),
    "future version": lambda: model(graph([IDENTITY], [IMAGES], [OUTPUT], [ANSWER]), ir=9999),
    "cycle": lambda: answering(
        [
            node("Add", ["mean", "b"], ["a"]),
            node("Abs", ["a"], ["b"]),
            node("Abs", ["a"], ["extra"]),
        ]
    ),
    "missing value": lambda: answering([node("Abs", ["nowhere"], ["extra"])]),
    "declared": lambda: declared(1 << 31),
    "declared beyond": lambda: declared(1 << 62, 8),
    "negative size": lambda: declared(-1),
    "external": lambda: external("gone.bin"),
    "external above": lambda: external("../../../../../../etc/passwd"),
    "external device": lambda: external("/dev/zero"),
    "deep": lambda: nested(1000),
    "other rank": lambda: shaped(CELLS, COLUMNS),
}
"""Models that are refused when they are opened."""

FAILING: dict[str, Callable[[], bytes]] = {
    "NaN": lambda: constant(float("nan")),
    "infinite": lambda: constant(float("inf")),
    "scores": lambda: constant(0.5),
    "negative scores": lambda: constant(-1.0),
    "fewer cells": lambda: shaped(1, CELLS - 1, COLUMNS),
    "no cells": lambda: shaped(1, 0, COLUMNS),
    "index": lambda: answering(
        [node("Gather", ["answer", "at"], ["extra"])], [whole("at", [1], 1 << 40)]
    ),
    "memory": lambda: large(4 << 30, "mean"),
    "constant memory": lambda: large(1 << 60, "one"),
}
"""Models that open, and then fail or answer what cannot be."""

STOPPING: dict[str, Callable[[], bytes]] = {"division": divided}
"""Models whose run stops the process."""

ENDLESS: dict[str, Callable[[], bytes]] = {
    "constant": lambda: endless("one"),
    "picture": lambda: endless("mean"),
}
"""Models whose run does not end."""


def specified(path: Path, raw: bytes) -> YoloxSpec:
    """Writes a YOLOX's weights, and returns its specification."""
    made = _specified("yolox_nano", path, raw, width=SIDE, height=SIDE, classes=("person",))
    assert isinstance(made, YoloxSpec)
    return made


def specified_points(path: Path, raw: bytes, colours: int = 1) -> CenternetSpec:
    """Writes a CenterNet's weights, and returns its specification."""
    made = _specified("centerface", path, raw, classes=COLOURS[:colours])
    assert isinstance(made, CenternetSpec)
    return made


def _specified(model_: str, path: Path, raw: bytes, **changes: object) -> ModelSpec:
    path.write_bytes(raw)
    (spec,) = load_models([model_])
    hashed = hashlib.sha256(raw).hexdigest()
    return spec.replace(name=path.stem, url=str(path), file=path.name, sha256=hashed, **changes)


def write_toml(folder: Path, spec: YoloxSpec) -> None:
    """Writes the file of a model."""
    lines = [f"{key} = {json.dumps(found)}" for key, found in spec.model_dump().items()]
    (folder / f"{spec.name}.toml").write_text("\n".join(lines))
