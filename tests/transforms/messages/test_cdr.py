"""Decoding of ROS messages in columns, against rosbags' own serializer, and cut off messages."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from schemas.errors import UnsupportedError
from tests.message_logs import ROS1, ROS2, ros_content, ros_schema
from transforms.messages.cdr import ros_columns
from transforms.messages.ros_types import SIZES, Types, parse_types, short_name
from transforms.messages.source import Messages

MESSAGES = 7
BYTES = {"octet", "byte", "char"}


class Random:
    """Makes random messages of any type."""

    def __init__(self, store: Any, dice: random.Random) -> None:
        self.store, self.dice = store, dice

    def message(self, name: str) -> Any:
        _, fields = self.store.fielddefs[name]
        return self.store.types[name](**{field: self.value(kind) for field, kind in fields})

    def value(self, kind: Any) -> Any:
        what, inner = kind
        if what.name == "BASE":
            return self.base(inner[0])
        if what.name == "NAME":
            return self.message(inner)
        element, length = inner
        number = length if what.name == "ARRAY" else self.dice.randrange(min(length or 4, 4) + 1)
        if element[0].name == "BASE" and element[1][0] != "string":
            type_ = "u1" if element[1][0] in BYTES else element[1][0]
            return np.array([self.base(element[1][0]) for _ in range(number)], type_)
        return [self.value(element) for _ in range(number)]

    def base(self, name: str) -> Any:
        if name == "string":
            return "".join(self.dice.choices("abcdé", k=self.dice.randrange(9)))
        if name == "bool":
            return self.dice.random() < 0.5
        if name in BYTES:  # signed or not, by the version of ROS
            return self.dice.randrange(128)
        type_ = np.dtype(name)
        value = np.frombuffer(self.dice.randbytes(type_.itemsize), type_)[0]
        return 0.5 if type_.kind == "f" and not np.isfinite(value) else value.item()


def paths(types: Types, name: str, prefix: str = "") -> list[str]:
    """The paths of all fields that can be asked for."""
    found = []
    for field in types[name]:
        if field.type in SIZES or field.type == "string":
            found.append(prefix + field.name)
        elif field.length is None:
            found += paths(types, field.type, f"{prefix}{field.name}.")
    return found


def told(message: Any, path: str) -> Any:
    """What rosbags says that a message has."""
    for name in path.split("."):
        message = getattr(message, name)
    return message


@pytest.mark.parametrize("version", [1, 2])
def test_every_field_of_every_type_is_what_was_serialized(version: int) -> None:
    """Messages of many lengths together, each field alone and all at once."""
    store = ROS1 if version == 1 else ROS2
    dice = random.Random(version)  # noqa: S311 - the same every time
    checked = 0
    for name in sorted(store.fielddefs):
        text, _ = store.generate_msgdef(name, ros_version=version)
        types = parse_types(name, text, ros1=version == 1)
        wanted = paths(types, short_name(name))
        if not wanted or "wstring" in text:
            continue
        made = [Random(store, dice).message(name) for _ in range(MESSAGES)]
        write = store.serialize_ros1 if version == 1 else store.serialize_cdr
        messages = Messages.of([bytes(write(one, name)) for one in made])
        for asked in (wanted, [dice.choice(wanted)]):
            found = ros_columns(types, short_name(name), messages, asked, ros1=version == 1)
            assert found.valid.all(), name
            for path in asked:
                # rosbags takes the seconds of ROS 1 as signed, as those of ROS 2.
                wrap = version == 1 and path.endswith("sec")
                for one, value in zip(made, found.values[path], strict=True):
                    expected = told(one, path) % (1 << 32) if wrap else told(one, path)
                    own = int(value) % (1 << 32) if wrap else value
                    np.testing.assert_array_equal(own, expected, f"{name}.{path}")
                    checked += 1
    assert checked > 5000


def test_a_message_that_is_cut_off_is_invalid_and_costs_no_other() -> None:
    types = parse_types("sensor_msgs/Imu", ros_schema("sensor_msgs/Imu").definition.decode())
    whole = ros_content("sensor_msgs/Imu", {"angular_velocity": {"z": 2.5}})
    wanted = ["angular_velocity.z", "header.frame_id"]
    needed = whole.index(np.float64(2.5).tobytes()) + 8
    for size in range(len(whole)):
        found = ros_columns(types, "sensor_msgs/Imu", Messages.of([whole, whole[:size]]), wanted)
        assert found.valid.tolist() == [True, size >= needed]
        assert found.values["angular_velocity.z"][0] == 2.5


def test_a_length_that_is_forged_is_invalid_and_allocates_nothing() -> None:
    types = parse_types(
        "sensor_msgs/JointState", ros_schema("sensor_msgs/JointState").definition.decode()
    )
    whole = ros_content("sensor_msgs/JointState", {"name": ["a"], "position": np.ones(1)})
    forged = bytearray(whole)
    at = whole.index(b"\x01\x00\x00\x00\x02\x00\x00\x00a\x00")
    for length in (2, 1 << 31, (1 << 32) - 1):
        forged[at : at + 4] = length.to_bytes(4, "little")
        messages = Messages.of([bytes(forged), whole])
        found = ros_columns(types, "sensor_msgs/JointState", messages, ["name", "position"])
        assert found.valid.tolist()[1]
        assert found.values["name"][1] == ["a"]
        assert not found.valid[0] or length == 2


def test_messages_in_big_endian_are_read() -> None:
    types = parse_types("p/T", "int32 a\nfloat64 b\nstring c")
    content = b"\0\0\0\0" + (7).to_bytes(4, "big", signed=True) + np.array(2.5, ">f8").tobytes()
    # The number of eight bytes is aligned to eight.
    content = content[:8] + bytes(4) + content[8:] + (2).to_bytes(4, "big") + b"x\0"
    found = ros_columns(types, "p/T", Messages.of([content]), ["a", "b", "c"])
    assert [found.values[name][0] for name in "abc"] == [7, 2.5, "x"]


@pytest.mark.parametrize("kind", [b"\0\2\0\0", b"\0\7\0\0", b"\1\1\0\0"])
def test_another_encoding_is_refused(kind: bytes) -> None:
    types = parse_types("p/T", "int32 a")
    with pytest.raises(UnsupportedError, match="plain CDR"):
        ros_columns(types, "p/T", Messages.of([kind + bytes(4)]), ["a"])


@pytest.mark.parametrize("path", ["b", "a.b", "s", "l.c"])
def test_a_field_that_is_none_is_refused(path: str) -> None:
    types = parse_types("p/T", "int32 a\nS s\nS[] l\n===\nMSG: p/S\nint32 c")
    with pytest.raises(UnsupportedError, match=r"p/T"):
        ros_columns(types, "p/T", Messages.of([bytes(16)]), [path])
