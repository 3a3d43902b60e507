"""Decoders by encoding: the same fields from ROS, protobuf and JSON, and what is none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from schemas.errors import UnsupportedError
from tests.message_logs import (
    LOCATION_JSON,
    LOCATION_PROTOBUF,
    START_NS,
    location_json,
    location_protobuf,
    ros_content,
    ros_schema,
)
from transforms.messages.decoders import decoder
from transforms.messages.source import Messages, Schema

PLACES = [(48.1, 11.2, 500.0), (-33.9, 151.2, 0.0)]


@pytest.mark.parametrize("schema", [LOCATION_PROTOBUF, LOCATION_JSON], ids=lambda s: s.encoding)
def test_numbers_are_read(schema: Schema) -> None:
    write = location_protobuf if schema.encoding == "protobuf" else location_json
    messages = Messages.of([write(START_NS + 5, *place) for place in PLACES])
    found = decoder(schema).columns(messages, ["latitude", "longitude", "altitude"])
    assert found.valid.all()
    assert np.column_stack(list(found.values.values())).tolist() == [list(p) for p in PLACES]


def test_nested_fields_of_protobuf_are_read() -> None:
    own = decoder(LOCATION_PROTOBUF)
    assert own.has("timestamp.seconds")
    assert not own.has("timestamp")
    assert not own.has("timestamp.none")
    assert not own.has("latitude.none")
    assert set(own.numbers()) == {
        "latitude", "longitude", "altitude", "timestamp.seconds", "timestamp.nanos"
    }  # fmt: skip
    content = location_protobuf(START_NS + 5, 0, 0, 0)
    found = own.columns(Messages.of([content]), ["timestamp.seconds", "timestamp.nanos"])
    assert [values[0] for values in found.values.values()] == [START_NS // 10**9, 5]


def test_messages_of_protobuf_and_json_that_are_none_are_invalid() -> None:
    for schema in (LOCATION_PROTOBUF, LOCATION_JSON):
        write = location_protobuf if schema.encoding == "protobuf" else location_json
        messages = Messages.of([b"\xff\xff", write(0, 1.0, 2.0, 3.0)])
        found = decoder(schema).columns(messages, ["latitude"])
        assert found.valid.tolist() == [False, True]
        assert found.values["latitude"][1] == 1.0


def test_json_that_lacks_a_field_or_has_another_in_its_place_is_no_number() -> None:
    contents = [{"a": {"b": 1}}, {"a": 2}, {}, [], {"a": {"b": True}}, {"a": {"b": 10**400}}]
    own = decoder(Schema("json", "x", "", b""))
    found = own.columns(Messages.of([json.dumps(c).encode() for c in contents]), ["a.b"])
    assert found.valid.all()
    np.testing.assert_array_equal(found.values["a.b"], [1, np.nan, np.nan, np.nan, 1, np.nan])


def test_texts_of_json_are_kept() -> None:
    own = decoder(Schema("json", "x", "jsonschema", b"{}"))
    found = own.columns(Messages.of([b'{"g": "drive"}', b'{"g": 1}']), ["g"])
    assert found.values["g"].tolist() == ["drive", 1]


def test_ros_is_read_by_its_definition() -> None:
    schema = ros_schema("sensor_msgs/Imu")
    own = decoder(schema)
    assert own.has("header.stamp.sec")
    assert own.has("orientation_covariance")
    assert not own.has("orientation")
    assert "linear_acceleration.z" in own.numbers()
    assert "orientation_covariance" not in own.numbers()
    content = ros_content("sensor_msgs/Imu", {"linear_acceleration": {"z": 9.81}})
    assert own.columns(Messages.of([content]), ["linear_acceleration.z"]).values[
        "linear_acceleration.z"
    ].tolist() == [9.81]


@pytest.mark.parametrize(
    "schema",
    [
        Schema("cbor", "x", "", b""),
        Schema("cdr", "x", "ros2idl", b"module"),
        Schema("cdr", "p/msg/T", "ros2msg", b"\xff\xff\xff"),
        replace(LOCATION_PROTOBUF, definition=b"\xff\xff"),
        replace(LOCATION_PROTOBUF, definition=b""),
        replace(LOCATION_PROTOBUF, definition=LOCATION_PROTOBUF.definition[:-40]),
        replace(LOCATION_PROTOBUF, name="foxglove.None"),
    ],
)
def test_what_cannot_be_decoded_is_said(schema: Schema) -> None:
    with pytest.raises(UnsupportedError, match=schema.name.replace("/msg/", "/")):
        decoder(schema)


def test_a_definition_without_the_files_that_it_imports_is_refused() -> None:
    files = FileDescriptorSet.FromString(LOCATION_PROTOBUF.definition)
    alone = FileDescriptorSet(file=[files.file[0]]).SerializeToString()
    with pytest.raises(UnsupportedError, match=r"foxglove\.LocationFix"):
        decoder(replace(LOCATION_PROTOBUF, definition=alone))
