"""Decoders of messages by their encoding: ROS 1, ROS 2, protobuf and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from schemas.arrays import AnyArray
from schemas.errors import UnsupportedError, excerpt, one_line
from transforms.messages.cdr import Columns, ros_columns
from transforms.messages.ros_types import SIZES, Types, find_field, parse_types, short_name
from transforms.messages.source import Messages, Schema


class Decoder(Protocol):
    """Decodes fields of the messages of one topic."""

    def has(self, path: str) -> bool:
        """Tells whether the type may have a field, such as `header.stamp.sec`."""
        ...

    def numbers(self) -> tuple[str, ...]:
        """Returns the fields that hold one number each, as far as the type tells."""
        ...

    def columns(self, messages: Messages, wanted: Sequence[str]) -> Columns:
        """Decodes fields.

        Raises:
            UnsupportedError: see `ros_columns`.
        """
        ...


def decoder(schema: Schema) -> Decoder:
    """Returns the decoder of a topic.

    Raises:
        UnsupportedError: the encoding is unknown, or the definition cannot be read.
    """
    written = (schema.encoding, schema.definition_encoding)
    if written not in _DECODERS:
        raise UnsupportedError(
            f"{excerpt(schema.name)}: messages in {excerpt(schema.encoding)} with definitions in "
            f"{excerpt(schema.definition_encoding)} are not read"
        )
    return _DECODERS[written](schema)


class _Ros:
    def __init__(self, types: Types, name: str, *, ros1: bool) -> None:
        self._types, self._name, self._ros1 = types, name, ros1

    def has(self, path: str) -> bool:
        return find_field(self._types, self._name, path) is not None

    def numbers(self) -> tuple[str, ...]:
        return tuple(self._numbers(self._name, ""))

    def _numbers(self, name: str, prefix: str) -> Iterator[str]:
        for field in self._types[name]:
            if field.length is None and field.type in SIZES:
                yield prefix + field.name
            elif field.length is None and field.type in self._types:
                yield from self._numbers(field.type, f"{prefix}{field.name}.")

    def columns(self, messages: Messages, wanted: Sequence[str]) -> Columns:
        return ros_columns(self._types, self._name, messages, wanted, ros1=self._ros1)


def _ros(schema: Schema) -> Decoder:
    ros1 = schema.encoding == "ros1"
    text = schema.definition.decode("utf-8", "replace")
    return _Ros(parse_types(schema.name, text, ros1=ros1), short_name(schema.name), ros1=ros1)


class _Protobuf:
    def __init__(self, type_: Descriptor) -> None:
        self._type = type_
        self._class: type[Message] = GetMessageClass(type_)

    def has(self, path: str) -> bool:
        at: Descriptor | None = self._type
        for step in path.split("."):
            field = at.fields_by_name.get(step) if at is not None else None
            if field is None:
                return False
            at = field.message_type
        return at is None

    def numbers(self) -> tuple[str, ...]:
        return tuple(_numbers(self._type, "", MAX_DEPTH))

    def columns(self, messages: Messages, wanted: Sequence[str]) -> Columns:
        steps = {path: path.split(".") for path in wanted}

        def rows() -> Iterator[dict[str, Any] | None]:
            for content in _each(messages):
                try:
                    message = self._class.FromString(content)
                except (DecodeError, ValueError):
                    yield None
                else:
                    yield {path: _attribute(message, names) for path, names in steps.items()}

        return _columns(rows(), wanted)


def _numbers(type_: Descriptor, prefix: str, depth: int) -> Iterator[str]:
    """Yields the fields of one number each; a type may contain itself."""
    for field in type_.fields:
        if field.is_repeated:
            continue
        if field.message_type is None:
            if field.cpp_type not in {field.CPPTYPE_STRING, field.CPPTYPE_MESSAGE}:
                yield prefix + field.name
        elif depth:
            yield from _numbers(field.message_type, f"{prefix}{field.name}.", depth - 1)


def _attribute(message: Any, names: Sequence[str]) -> Any:
    for name in names:
        message = getattr(message, name)
    return message


def _protobuf(schema: Schema) -> Decoder:
    pool = DescriptorPool()
    try:
        files = FileDescriptorSet.FromString(schema.definition)
        # A file may come before those that it imports.
        waiting = list(files.file)
        while waiting:
            left = [file for file in waiting if not _added(pool, file)]
            if len(left) == len(waiting):
                raise UnsupportedError(f"{excerpt(schema.name)}: its definition is not complete")
            waiting = left
        return _Protobuf(pool.FindMessageTypeByName(schema.name))
    except (DecodeError, KeyError, ValueError) as error:
        raise UnsupportedError(
            f"{excerpt(schema.name)}: its definition cannot be read ({one_line(error)})"
        ) from error


def _added(pool: DescriptorPool, file: Any) -> bool:
    try:
        pool.Add(file)
        pool.FindFileByName(file.name)
    except (KeyError, TypeError):
        return False
    return True


class _Json:
    def has(self, path: str) -> bool:
        del path  # Each message says what it has.
        return True

    def numbers(self) -> tuple[str, ...]:
        return ()

    def columns(self, messages: Messages, wanted: Sequence[str]) -> Columns:
        steps = {path: path.split(".") for path in wanted}

        def rows() -> Iterator[dict[str, Any] | None]:
            for content in _each(messages):
                try:
                    document = json.loads(content)
                except (ValueError, RecursionError):
                    yield None
                else:
                    yield {path: _value(document, names) for path, names in steps.items()}

        return _columns(rows(), wanted)


def _value(document: Any, names: Sequence[str]) -> Any:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _each(messages: Messages) -> Iterator[bytes]:
    content = messages.content.data
    for start, end in zip(messages.starts.tolist(), messages.ends.tolist(), strict=True):
        yield bytes(content[start:end])


def _columns(rows: Iterator[dict[str, Any] | None], wanted: Sequence[str]) -> Columns:
    found = list(rows)
    valid = np.array([row is not None for row in found], np.bool_)
    values = {
        path: _array([None if row is None else row[path] for row in found]) for path in wanted
    }
    return Columns(values, valid)


def _array(values: list[Any]) -> AnyArray:
    """Makes a column: numbers with NaN for what is none, or objects if one is no number."""
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([math.nan if v is None else _number(v) for v in values], np.float64)
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.nan


MAX_DEPTH = 5
"""How deep a protobuf type is searched for numbers."""

_DECODERS: dict[tuple[str, str], Callable[[Schema], Decoder]] = {
    ("cdr", "ros2msg"): _ros,
    ("ros1", "ros1msg"): _ros,
    ("protobuf", "protobuf"): _protobuf,
    ("json", "jsonschema"): lambda _: _Json(),
    ("json", ""): lambda _: _Json(),
}
