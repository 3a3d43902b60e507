"""The editor of ONNX files against protobuf's own parser, and on bytes that are no such file."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from auto_label.models.onnx_file import freed
from tests import onnx_file
from tests.fuzz.mutations import mutated

_FIELD = descriptor_pb2.FieldDescriptorProto
MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Model": (("graph", 7, "Graph", False),),
    "Graph": (
        ("initializer", 5, "Tensor", True),
        ("input", 11, "Value", True),
        ("output", 12, "Value", True),
        ("value_info", 13, "Value", True),
    ),
    "Tensor": (("name", 8, "", False),),
    "Value": (("name", 1, "", False), ("type", 2, "Type", False)),
    "Type": (("tensor_type", 1, "TensorType", False),),
    "TensorType": (("shape", 2, "Shape", False),),
    "Shape": (("dim", 1, "Dim", True),),
    "Dim": (),
}
"""Of each message the fields that matter: name, number, message or nothing for text, repeated."""


def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="onnx.proto", package="onnx", syntax="proto2")
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, type_, repeated in fields:
            described.field.add(
                name=name,
                number=number,
                type=_FIELD.TYPE_MESSAGE if type_ else _FIELD.TYPE_BYTES,
                type_name=f".onnx.{type_}" if type_ else None,
                label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("onnx.Model"))


Model = _model_class()


def freed_by_protobuf(raw: bytes, takes: set[int], gives: set[int]) -> Any:
    """The same as `freed`; what protobuf does not know it keeps."""
    model = Model.FromString(raw)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.value_info[:]
    del graph.input[:]
    graph.input.extend(inputs)
    for own, axes in ((graph.input, takes), (graph.output, gives)):
        for value in own:
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if axis in axes:
                    dim.DiscardUnknownFields()
    return model


FREE = {0, 2, 3}
"""The axes of CenterNets whose lengths are chosen."""

names = st.text("abc", max_size=2)
dims = st.lists(st.integers(-1, 1 << 40) | names, max_size=5)
values = st.builds(onnx_file.value, names, dims)
tensors = st.builds(lambda name, raw: onnx_file.tensor(name, (1,), 1, raw), names, st.binary())
unknown = st.builds(
    onnx_file.field,
    st.sampled_from([2, 3, 14, 15, 20, 99, 1 << 20]),
    st.integers(0, 1 << 63) | st.floats(width=32, allow_nan=False) | st.binary(max_size=300),
)


@given(
    st.lists(st.tuples(st.sampled_from([11, 12, 13]), values), max_size=8),
    st.lists(tensors, max_size=4),
    st.lists(unknown, max_size=4),
    st.sets(st.integers(0, 4)),
    st.sets(st.integers(0, 4)),
    st.randoms(use_true_random=False),
)
def test_an_edited_file_is_what_protobuf_makes_of_it(  # noqa: PLR0917 - parts of a file
    named: Sequence[tuple[int, bytes]],
    constants: Sequence[bytes],
    others: Sequence[bytes],
    takes: set[int],
    gives: set[int],
    dice: random.Random,
) -> None:
    """Fields stand in any order, and those that nobody knows stay."""
    parts = [onnx_file.field(number, content) for number, content in named]
    parts += [*(onnx_file.field(5, tensor) for tensor in constants), *others]
    dice.shuffle(parts)
    raw = onnx_file.model(b"".join(parts)) + b"".join(others)
    found = freed(raw, takes, gives)
    assert Model.FromString(found) == freed_by_protobuf(raw, takes, gives)
    assert freed(found, takes, gives) == found


def test_nothing_else_is_touched() -> None:
    raw = onnx_file.good()
    assert freed(raw, set(), set()) == raw


def test_constants_are_no_inputs_and_lengths_are_free() -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    raw = onnx_file.points()
    before, after = (
        onnxruntime.InferenceSession(each, options) for each in (raw, freed(raw, FREE, FREE))
    )
    assert before.get_inputs()[0].shape == [10, 3, 32, 32]
    assert len(before.get_overridable_initializers()) == 8
    (taken,) = after.get_inputs()
    assert taken.shape == [None, 3, None, None]
    assert not after.get_overridable_initializers()
    assert [each.shape for each in after.get_outputs()] == [
        [None, channels, None, None] for channels in (1, 2, 2, 10)
    ]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\x3a\x05abc", "longer than the message around it"),
        (b"\x3a" + b"\xff" * 9 + b"\x01", "longer than the message around it"),
        (b"\x3a" + b"\xff" * 20, "does not end"),
        (b"\x3a", "does not end"),
        (b"\x3a\x04\x5a\x02\x12\x7f", "longer than the message around it"),
        (b"\x09abc", "longer than the message around it"),
        (b"\x0b\x0c", "unknown wire type 3"),
        (b"\xff", "does not end"),
    ],
    ids=["length", "huge", "endless", "cut", "nested", "fixed", "group", "tag"],
)
def test_lies_about_lengths_are_refused(raw: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        freed(raw, {0}, set())


def test_a_file_that_ends_within_a_field_is_refused() -> None:
    raw = onnx_file.points()
    before, after = onnx_file.field(1, 8), onnx_file.field(8, onnx_file.field(2, 17))
    assert raw.startswith(before)
    assert raw.endswith(after)
    whole = {0, len(before), len(raw) - len(after)}
    for cut in range(len(raw)):
        if cut not in whole:
            with pytest.raises(ValueError, match=r"does not end|longer than the message"):
                freed(raw[:cut], FREE, FREE)


def test_damage_never_raises_anything_else_or_takes_long() -> None:
    dice = random.Random(0)  # noqa: S311 - to be repeated
    raw = onnx_file.points(3)
    refused = 0
    began = time.monotonic()
    for _ in range(500):
        try:
            freed(mutated(raw, dice), FREE, FREE)
        except ValueError:
            refused += 1
    assert refused > 10
    assert time.monotonic() - began < 30
