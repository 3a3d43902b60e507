"""MCAP files for tests, of messages that other libraries write: rosbags, protobuf and json."""

from __future__ import annotations

import io
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rosbags.rosbag1 import Writer as BagWriter
from rosbags.typesys import Stores, get_typestore

from schemas.errors import CorruptError, UnreadableError
from schemas.times import NS_PER_S
from transforms.messages.source import Chunk, Found, Messages, Schema

START_NS = 1_700_000_000 * NS_PER_S
ROS2 = get_typestore(Stores.ROS2_HUMBLE)
ROS1 = get_typestore(Stores.ROS1_NOETIC)
COMPRESSIONS = (CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD)


@dataclass(frozen=True, slots=True)
class Written:
    """A message: its topic, when it was recorded, and its bytes."""

    topic: str
    schema: Schema
    log_ns: int
    content: bytes


def ros_schema(type_: str, version: int = 2) -> Schema:
    """Returns how messages of a ROS type are written."""
    name = type_ if version == 1 else type_.replace("/", "/msg/")
    store = ROS1 if version == 1 else ROS2
    text, _ = store.generate_msgdef(type_.replace("/", "/msg/"), ros_version=version)
    return Schema("cdr" if version == 2 else "ros1", name, f"ros{version}msg", text.encode())


def ros_content(type_: str, fields: Mapping[str, Any], version: int = 2) -> bytes:
    """Serializes a message of a ROS type; what is not given is zero or empty."""
    store = ROS1 if version == 1 else ROS2
    name = type_.replace("/", "/msg/")
    made = _message(store, name, fields)
    content = store.serialize_ros1(made, name) if version == 1 else store.serialize_cdr(made, name)
    return bytes(content)


def _message(store: Any, name: str, given: Mapping[str, Any]) -> Any:
    """Makes a message, its parts from mappings."""
    _, fields = store.fielddefs[name]
    values = {}
    for field, (kind, what) in fields:
        if field in given and not isinstance(given[field], Mapping):
            values[field] = given[field]
        elif kind.name == "NAME":
            values[field] = _message(store, what, given.get(field, {}))
        elif kind.name == "BASE":
            values[field] = "" if what[0] == "string" else 0
        elif kind.name == "ARRAY":
            (_, (base, _)), length = what
            values[field] = np.zeros(length, base)
        else:
            (_, (base, _)), _ = what if what[0][0].name == "BASE" else ((0, ("string", 0)), 0)
            values[field] = [] if base == "string" else np.zeros(0, base)
    return store.types[name](**values)


def stamped(t_ns: int, frame: str = "") -> dict[str, Any]:
    """Returns the header of a message."""
    sec, nanosec = divmod(t_ns, NS_PER_S)
    return {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": frame}


def _location_class() -> tuple[Any, bytes]:
    """Makes the protobuf class of foxglove.LocationFix, as its public definition has it."""
    stamp = FileDescriptorProto(name="google/protobuf/timestamp.proto", package="google.protobuf")
    stamp.syntax = "proto3"
    whole = stamp.message_type.add(name="Timestamp")
    whole.field.add(name="seconds", number=1, type=FieldDescriptorProto.TYPE_INT64, label=1)
    whole.field.add(name="nanos", number=2, type=FieldDescriptorProto.TYPE_INT32, label=1)
    file = FileDescriptorProto(name="foxglove/LocationFix.proto", package="foxglove")
    file.syntax = "proto3"
    file.dependency.append(stamp.name)
    fix = file.message_type.add(name="LocationFix")
    for number, name in enumerate(("latitude", "longitude", "altitude"), 1):
        fix.field.add(name=name, number=number, type=FieldDescriptorProto.TYPE_DOUBLE, label=1)
    fix.field.add(
        name="timestamp",
        number=6,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".google.protobuf.Timestamp",
        label=1,
    )
    pool = DescriptorPool()
    pool.Add(stamp)
    pool.Add(file)
    # The file comes before the one that it imports.
    written = FileDescriptorSet(file=[file, stamp]).SerializeToString()
    return GetMessageClass(pool.FindMessageTypeByName("foxglove.LocationFix")), written


LOCATION, _LOCATION_FILES = _location_class()
LOCATION_PROTOBUF = Schema("protobuf", "foxglove.LocationFix", "protobuf", _LOCATION_FILES)
LOCATION_JSON = Schema("json", "foxglove.LocationFix", "jsonschema", b"{}")


def location_protobuf(t_ns: int, lat: float, lon: float, alt: float) -> bytes:
    """Serializes a foxglove.LocationFix as protobuf."""
    message = LOCATION(latitude=lat, longitude=lon, altitude=alt)
    message.timestamp.seconds, message.timestamp.nanos = divmod(t_ns, NS_PER_S)
    return bytes(message.SerializeToString())


def location_json(t_ns: int, lat: float, lon: float, alt: float) -> bytes:
    """Serializes a foxglove.LocationFix as JSON."""
    sec, nsec = divmod(t_ns, NS_PER_S)
    fields = {"latitude": lat, "longitude": lon, "altitude": alt}
    return json.dumps({"timestamp": {"sec": sec, "nsec": nsec}, **fields}).encode()


def write_mcap(
    path: Path,
    messages: Iterable[Written],
    *,
    compression: CompressionType = CompressionType.ZSTD,
    chunk_bytes: int = 20_000,
    **options: Any,
) -> Path:
    """Writes an MCAP file with the mcap library; `options` are those of its writer."""
    channels: dict[tuple[str, Schema], int] = {}
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=chunk_bytes, compression=compression, **options)
        writer.start(profile="", library="recorder 1")
        for number, message in enumerate(messages):
            key = (message.topic, message.schema)
            if key not in channels:
                schema = message.schema
                id_ = writer.register_schema(
                    schema.name, schema.definition_encoding, schema.definition
                )
                channels[key] = writer.register_channel(message.topic, schema.encoding, id_)
            writer.add_message(
                channels[key], message.log_ns, message.content, message.log_ns, number
            )
        writer.finish()  # type: ignore[no-untyped-call]
    return path


class Memory:
    """A source of messages in memory, a chunk for so many of them."""

    software = "memory 1"

    def __init__(
        self, messages: Sequence[Written], chunk: int = 100, broken: Sequence[str] = ()
    ) -> None:
        self.topics = {message.topic: message.schema for message in messages}
        self.broken = broken
        self.damaged: set[int] = set()
        self.away: set[int] = set()
        self.reads: list[int] = []
        self._parts = [messages[at : at + chunk] for at in range(0, len(messages), chunk)]
        self.chunks = [
            Chunk(
                place,
                min(message.log_ns for message in part),
                max(message.log_ns for message in part),
                sum(len(message.content) for message in part),
                Counter(message.topic for message in part),
            )
            for place, part in enumerate(self._parts)
        ]

    def read(self, chunk: Chunk) -> dict[str, Found]:
        """Returns the messages of a chunk by topic."""
        self.reads.append(chunk.place)
        if chunk.place in self.damaged:
            raise CorruptError(f"the chunk {chunk.place} is damaged")
        if chunk.place in self.away:
            raise UnreadableError(f"the chunk {chunk.place} cannot be read")
        part = self._parts[chunk.place]
        return {
            topic: Found.of(
                [message.log_ns for message in part if message.topic == topic],
                Messages.of([message.content for message in part if message.topic == topic]),
            )
            for topic in chunk.counts
        }


Truth = Mapping[str, Callable[[float], float]]
TRUTH: Truth = {
    "speed_mps": lambda s: 10 + 5 * np.sin(s / 7),
    "yaw_rate_radps": lambda s: 0.3 * np.sin(s / 3),
    "accel_x_mps2": lambda s: 5 / 7 * np.cos(s / 7),
    "accel_y_mps2": lambda s: float(np.cos(s)),
    "lat_deg": lambda s: 48 + 1e-5 * s,
    "lon_deg": lambda s: 11 + 2e-5 * s,
    "alt_m": lambda s: 500 + 0.1 * s,
}
"""A drive: each signal by the seconds since it began."""


def drive(
    seconds: float,
    *,
    version: int = 2,
    lag_ns: int = 30_000_000,
    keep: Callable[[str, int], bool] = lambda _topic, _number: True,
    fix: str = "sensor_msgs/NavSatFix",
) -> list[Written]:
    """Records TRUTH: Imu at 100 Hz, Odometry at 50 Hz, positions at 10 Hz, joints at 20 Hz.

    Args:
        seconds: how long.
        version: of ROS.
        lag_ns: how long after its stamp a message is recorded.
        keep: tells which messages are recorded, by topic and number.
        fix: the type of the positions.
    """
    made: list[Written] = []

    def add(topic: str, rate: int, schema: Schema, content: Callable[[int, float], bytes]) -> None:
        for number in range(int(seconds * rate)):
            if keep(topic, number):
                s = number / rate
                t_ns = START_NS + number * (NS_PER_S // rate)
                made.append(Written(topic, schema, t_ns + lag_ns, content(t_ns, s)))

    def ros(topic: str, rate: int, type_: str, fields: Callable[[float], dict[str, Any]]) -> None:
        def content(t_ns: int, s: float) -> bytes:
            given = {"header": stamped(t_ns, "base" if number_of(t_ns) % 2 else "a"), **fields(s)}
            return ros_content(type_, given, version)

        add(topic, rate, ros_schema(type_, version), content)

    def number_of(t_ns: int) -> int:
        return t_ns // 10_000_000

    ros("/imu", 100, "sensor_msgs/Imu", lambda s: {
        "angular_velocity": {"z": TRUTH["yaw_rate_radps"](s)},
        "linear_acceleration": {
            "x": TRUTH["accel_x_mps2"](s), "y": TRUTH["accel_y_mps2"](s), "z": 9.81
        },
    })  # fmt: skip
    ros("/odom", 50, "nav_msgs/Odometry", lambda s: {
        "child_frame_id": "base_link",
        "twist": {"twist": {"linear": {
            "x": 0.8 * TRUTH["speed_mps"](s), "y": 0.6 * TRUTH["speed_mps"](s)
        }}},
    })  # fmt: skip
    ros("/joint_states", 20, "sensor_msgs/JointState", lambda s: {
        "name": ["knee", "hip"], "position": np.array([s, -s]), "velocity": np.array([1.0, -1.0])
    })  # fmt: skip

    def place(s: float) -> tuple[float, float, float]:
        return TRUTH["lat_deg"](s), TRUTH["lon_deg"](s), TRUTH["alt_m"](s)

    if fix == "sensor_msgs/NavSatFix":
        names = ("latitude", "longitude", "altitude")
        ros("/fix", 10, fix, lambda s: dict(zip(names, place(s), strict=True)))
    elif fix == "protobuf":
        add("/fix", 10, LOCATION_PROTOBUF, lambda t_ns, s: location_protobuf(t_ns, *place(s)))
    else:
        add("/fix", 10, LOCATION_JSON, lambda t_ns, s: location_json(t_ns, *place(s)))
    return sorted(made, key=lambda message: message.log_ns)


def shuffled(messages: Sequence[Written], dice: random.Random, most_ns: int) -> list[Written]:
    """Records messages out of order, as a recorder with several threads does."""
    return sorted(messages, key=lambda message: message.log_ns + dice.randrange(most_ns))


def without_summary(path: Path) -> bytes:
    """Returns the bytes of an MCAP file up to the end of its last chunk."""
    content = path.read_bytes()
    summary = make_reader(io.BytesIO(content)).get_summary()
    assert summary is not None
    return content[: max(c.chunk_start_offset + c.chunk_length for c in summary.chunk_indexes)]


def write_bag(
    path: Path, messages: Iterable[Written], compression: str = "", chunk_bytes: int = 20_000
) -> Path:
    """Writes a bag of ROS 1 with rosbags; `compression` is "", "bz2" or "lz4"."""
    path.unlink(missing_ok=True)
    writer = BagWriter(path)
    writer.chunk_threshold = chunk_bytes
    if compression:
        writer.set_compression(BagWriter.CompressionFormat[compression.upper()])
    connections: dict[str, Any] = {}
    with writer:
        for message in messages:
            if message.topic not in connections:
                name = message.schema.name.replace("/", "/msg/")
                made = writer.add_connection(message.topic, name, typestore=ROS1)
                connections[message.topic] = made
            writer.write(connections[message.topic], message.log_ns, message.content)
    return path


def write_db3(path: Path, messages: Iterable[Written], *, definitions: bool = True) -> Path:
    """Writes a bag of ROS 2 in SQLite, with the tables that rosbag2 makes."""
    path.unlink(missing_ok=True)
    topics: dict[str, int] = {}
    with closing(sqlite3.connect(path)) as con:
        con.executescript(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
            "serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, "
            "timestamp INTEGER NOT NULL, data BLOB NOT NULL);"
            "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
        )
        if definitions:
            con.execute(
                "CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT, "
                "encoding TEXT, encoded_message_definition TEXT, type_description_hash TEXT)"
            )
        for message in messages:
            schema = message.schema
            if message.topic not in topics:
                topics[message.topic] = len(topics) + 1
                row = (topics[message.topic], message.topic, schema.name, schema.encoding, "")
                con.execute("INSERT INTO topics VALUES (?, ?, ?, ?, ?)", row)
                if definitions:
                    definition = (
                        schema.name,
                        schema.definition_encoding,
                        schema.definition.decode(),
                    )
                    con.execute(
                        "INSERT INTO message_definitions VALUES (NULL, ?, ?, ?, '')", definition
                    )
            con.execute(
                "INSERT INTO messages VALUES (NULL, ?, ?, ?)",
                (topics[message.topic], message.log_ns, message.content),
            )
        con.commit()
    return path


def damages(content: bytes, seed: int) -> list[bytes]:
    """Cuts a file at 20 random places, and turns over 20 random bits of it, one at a time."""
    dice = random.Random(seed)  # noqa: S311 - the same every time
    made = [content[: dice.randrange(len(content))] for _ in range(20)]
    for _ in range(20):
        flipped = bytearray(content)
        flipped[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        made.append(bytes(flipped))
    return made


def check_truth(signals: pa.Table, tolerance: float = 2e-3) -> None:
    """Compares every signal with the truth of `drive`, wherever it has a value."""
    s = signals["t_ns"].to_numpy() / NS_PER_S
    for name, truth in TRUTH.items():
        column = signals[name].to_pylist()
        found = np.array([np.nan if v is None else v for v in column])
        assert np.isfinite(found).mean() > 0.97, name
        known = np.isfinite(found)
        expected = np.array([truth(t) for t in s])
        # At the end a sample is held.
        np.testing.assert_allclose(found[known][:-20], expected[known][:-20], atol=tolerance)
