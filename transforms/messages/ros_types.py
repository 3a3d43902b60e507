"""ROS message types, from the text of their definitions.

A definition lists the fields of a type, and behind lines of `=` those of the types that it is made
of, each after a line `MSG: package/Type`. ROS 1 and ROS 2 write them alike; a ROS 2 name may have
`msg` in its middle. Constants and default values are no part of a message and are left out.
Described by https://wiki.ros.org/msg and https://docs.ros.org (Concepts, Interfaces).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import UnsupportedError, excerpt

SIZES: Mapping[str, str] = {
    "bool": "u1", "byte": "u1", "char": "u1", "octet": "u1",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
}  # fmt: skip
"""Types that are one number, as numpy names them."""

_SECTION = re.compile(r"^=+\s*$", re.M)
_NAMED = re.compile(r"\s*MSG:\s*(\S+)\s*\n?")
_FIELD = re.compile(
    r"(?P<type>[\w/]+)(?:<=\d+)?(?P<array>\[(?:<=)?(?P<length>\d*)\])?\s+(?P<name>[A-Za-z_]\w*)"
    r"(?P<rest>.*)"
)
_CONSTANT = re.compile(r"\s*=")
MAX_DEPTH = 20
MAX_FIELDS = 10_000
"""Bounds of a type, with all types that it is made of."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its type and how often it is there.

    `type` is a row of SIZES, "string", or the name of a type; `length` is None for one value, -1
    for as many as the message says, else their number.
    """

    name: str
    type: str
    length: int | None = None


Types = Mapping[str, tuple[Field, ...]]
"""The fields of each type by its short name, `package/Type`."""


def short_name(name: str) -> str:
    """Returns a type's name as ROS 1 writes it.

    >>> short_name("sensor_msgs/msg/Imu"), short_name("sensor_msgs/Imu")
    ('sensor_msgs/Imu', 'sensor_msgs/Imu')
    """
    return name.replace("/msg/", "/")


def parse_types(name: str, text: str, *, ros1: bool = False) -> Types:
    r"""Parses a definition.

    Args:
        name: the name of the type that it begins with.
        text: the definition, with those of the types that it is made of.
        ros1: whether times are those of ROS 1.

    Raises:
        UnsupportedError: a line is not a field, a type is not defined or contains itself, or
            there are too many.

    >>> parse_types("p/A", "B b\nint8[2] c\n===\nMSG: p/B\nstring d")["p/A"][1]
    Field(name='c', type='int8', length=2)
    """
    signed = (Field("sec", "int32"), Field("nanosec", "uint32"))
    types: dict[str, tuple[Field, ...]] = {
        "builtin_interfaces/Time": signed,
        "builtin_interfaces/Duration": signed,
    }
    if ros1:
        types["time"] = (Field("sec", "uint32"), Field("nanosec", "uint32"))
        types["duration"] = (Field("sec", "int32"), Field("nanosec", "int32"))
    texts = {}
    for number, section in enumerate(_SECTION.split(text)):
        named = _NAMED.match(section)
        if number and not named:
            raise UnsupportedError(f"{name}: a section of its definition has no line MSG:")
        own = short_name(named[1]) if named else short_name(name)
        texts[own] = section[named.end() :] if named else section
    lines = sum(section.count("\n") + 1 for section in texts.values())
    if lines > MAX_FIELDS * 10:
        raise UnsupportedError(f"{name}: its definition has {lines:,} lines")
    for own, section in texts.items():
        types[own] = tuple(_fields(own, section, {*texts, *types}, ros1=ros1))
    _check_depth(short_name(name), types)
    return types


def find_field(types: Types, name: str, path: str) -> Field | None:
    r"""Finds a number, a text or a list of them in a type; None if the path leads to none.

    >>> find_field(parse_types("p/A", "B b\n===\nMSG: p/B\nint8[2] c"), "p/A", "b.c").length
    2
    """
    found: Field | None = None
    for step in path.split("."):
        if found is not None and found.length is not None:
            return None
        fields = types.get(name if found is None else found.type, ())
        found = next((field for field in fields if field.name == step), None)
        if found is None:
            return None
    return None if found is None or found.type in types else found


def _fields(owner: str, text: str, known: set[str], *, ros1: bool) -> list[Field]:
    fields = []
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        match = _FIELD.fullmatch(line)
        if match is None:
            raise UnsupportedError(f"{owner}: {excerpt(line)} is not a field of a message")
        if _CONSTANT.match(match["rest"]):
            continue
        length = None
        if match["array"]:
            bounded = "<=" in match["array"] or not match["length"]
            length = -1 if bounded else int(match["length"])
        type_ = "int8" if ros1 and match["type"] == "byte" else match["type"]
        fields.append(Field(match["name"], _resolved(owner, type_, known), length))
    return fields


def _resolved(owner: str, type_: str, known: set[str]) -> str:
    if type_ in SIZES or type_ == "string":
        return type_
    if type_ == "Header":
        type_ = "std_msgs/Header"
    named = short_name(type_)
    beside = f"{owner.rpartition('/')[0]}/{named}"
    for candidate in (named, beside):
        if candidate in known:
            return candidate
    raise UnsupportedError(f"{owner}: the type {excerpt(type_)} is not in its definition")


def _check_depth(root: str, types: Types) -> None:
    """Checks that a type ends, and how many fields it has with all that it is made of."""
    left = MAX_FIELDS

    def visit(name: str, depth: int) -> None:
        nonlocal left
        for field in types[name]:
            left -= 1
            if depth > MAX_DEPTH or left < 0:
                raise UnsupportedError(f"{root}: it is made of too many types, or of itself")
            if field.type in types:
                visit(field.type, depth + 1)

    visit(root, 0)
