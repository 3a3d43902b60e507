"""Definitions of ROS types, against what another library makes of them, and mistakes in them."""

from __future__ import annotations

import pytest

from schemas.errors import UnsupportedError
from tests.message_logs import ROS1, ROS2
from transforms.messages.ros_types import Field, parse_types, short_name

KINDS = {"bool", "byte", "char", "string"}


def test_every_type_of_ros_has_the_fields_that_rosbags_finds() -> None:
    checked = 0
    for version, store in ((1, ROS1), (2, ROS2)):
        for name in sorted(store.fielddefs):
            text, _ = store.generate_msgdef(name, ros_version=version)
            types = parse_types(name, text, ros1=version == 1)
            own = [field.name for field in types[short_name(name)]]
            expected = [field for field, _ in store.fielddefs[name][1]]
            # A type without fields has one in ROS 2, which no definition names.
            assert own == [n for n in expected if n != "structure_needs_at_least_one_member"], name
            checked += 1
    assert checked > 300


def test_bounds_defaults_constants_and_comments_are_no_fields() -> None:
    text = (
        '# header\nuint8 A=1\nstring B="x # y"\nstring<=5 c "d"  # e\n'
        "float64[<=3] f\nint32[2] g [1, 2]\nstring[] h\n"
    )
    assert parse_types("p/T", text)["p/T"] == (
        Field("c", "string"),
        Field("f", "float64", -1),
        Field("g", "int32", 2),
        Field("h", "string", -1),
    )


@pytest.mark.parametrize(
    "text",
    [
        "Missing a",
        "int32",
        "T a",  # itself
        "int32 a\n====\nint32 b",  # a section without a name
        "A a\n===\nMSG: p/A\nB b\n===\nMSG: p/B\nA a",
        "int32 a\n" * 20_000,
        "A a\n===\nMSG: p/A\n" + "B b\n" * 200 + "===\nMSG: p/B\n" + "int8 c\n" * 200,
    ],
)
def test_a_definition_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedError, match="p/"):
        parse_types("p/T", text)
