"""ONNX files with other shapes: as much of protobuf's wire format as that takes.

A file is one message, ModelProto. Of the messages that lead to what is changed, the lengths are
written anew; all else is copied as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial

_GRAPH = 7
_INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 5, 11, 12, 13
_TENSOR_NAME, _VALUE_NAME = 8, 1
_SHAPE_OF_VALUE = (2, 1, 2)
"""From ValueInfoProto by TypeProto and TypeProto.Tensor to TensorShapeProto."""
_DIM = 1

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10

_Edit = Callable[[memoryview], bytes | None]
"""Returns the new content of a field; None leaves the field out."""


def freed(raw: bytes, takes: Set[int], gives: Set[int]) -> bytes:
    """Rewrites a model so that its input and outputs have any length along some axes.

    Constants that older exporters list among the inputs are no inputs any more: a run could
    replace them, so onnxruntime would not fold them into their neighbours. What the file states
    of the shapes between input and outputs is left out, as it follows from the old lengths.

    Args:
        raw: the file.
        takes: the axes of the input, from 0.
        gives: the axes of every output.

    Raises:
        ValueError: these bytes are no such message.
    """
    return _edited(memoryview(raw), {_GRAPH: partial(_freed_graph, takes=takes, gives=gives)})


def _freed_graph(graph: memoryview, takes: Set[int], gives: Set[int]) -> bytes:
    tensors = (value for number, value, *_ in _fields(graph) if number == _INITIALIZER)
    constants = {_text(tensor, _TENSOR_NAME) for tensor in tensors}
    free, free_output = (
        _at(_SHAPE_OF_VALUE, partial(_freed_shape, axes=axes)) for axes in (takes, gives)
    )

    def free_input(value: memoryview) -> bytes | None:
        return None if _text(value, _VALUE_NAME) in constants else free(value)

    return _edited(graph, {_INPUT: free_input, _OUTPUT: free_output, _VALUE_INFO: lambda _: None})


def _freed_shape(shape: memoryview, axes: Set[int]) -> bytes:
    """Empties the lengths of some axes: neither a number nor the name of a variable."""
    axis = itertools.count()
    return _edited(shape, {_DIM: lambda dim: b"" if next(axis) in axes else bytes(dim)})


def _at(path: tuple[int, ...], edit: _Edit) -> _Edit:
    """Makes an edit of what lies along a path of fields."""
    for number in reversed(path):
        edit = partial(_edited, edits={number: edit})
    return edit


def _edited(message: memoryview, edits: Mapping[int, _Edit]) -> bytes:
    """Rewrites the fields of some numbers."""
    out, copied = bytearray(), 0
    for number, value, start, end in _fields(message):
        if number in edits:
            out += message[copied:start]
            copied = end
            if (new := edits[number](value)) is not None:
                out += _varint(number << 3 | _DELIMITED) + _varint(len(new)) + new
    out += message[copied:]
    return bytes(out)


def _text(message: memoryview, wanted: int) -> bytes:
    return next((bytes(value) for number, value, *_ in _fields(message) if number == wanted), b"")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, int, int]]:
    """Yields the length-delimited fields: number, content, start and end of the whole field."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _read_varint(message, at)
        elif kind == _DELIMITED:
            length, content = _read_varint(message, at)
            at = content + length
            if at <= len(message):
                yield number, message[content:at], start, at
        elif kind in {_FIXED32, _FIXED64}:
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of its graph has the unknown wire type {kind}")
    if at > len(message):
        raise ValueError("a field is longer than the message around it")


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """Reads a number; returns it and the position behind it."""
    number = 0
    for shift, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        number |= (byte & 127) << 7 * shift
        if byte < 128:
            return number, at + shift + 1
    raise ValueError("a number does not end")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
