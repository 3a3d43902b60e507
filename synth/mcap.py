"""Writes a drive as an MCAP file, as a ROS 2 vehicle logs it; without pictures.

OUT/<vehicle>/<drive>.mcap has the topics /imu (100 Hz), /odometry (50 Hz), /gnss (10 Hz) in CDR,
and /vehicle (50 Hz) in JSON, whose fields are named as our signals. A message is recorded
LATENCY_NS after its stamp; the recorder's clock counts from 1970 as if its local time were UTC.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from typing import Any

from fsspec.spec import AbstractFileSystem
from mcap.writer import CompressionType, Writer

from schemas.times import NS_PER_S
from synth.profiles import SIM_HZ
from synth.recorded import Drive
from synth.spec import FleetSpec
from synth.written import Written
from transforms.messages.ros_types import SIZES, Types, parse_types, short_name

CHUNK_BYTES = 256 << 10
LATENCY_NS = 5_000_000
GEARS = ("park", "reverse", "neutral", "drive")
STATE = "fleetmill.VehicleState"

_HEADER = """
===
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
===
MSG: geometry_msgs/Vector3
float64 x
float64 y
float64 z
===
MSG: geometry_msgs/Quaternion
float64 x
float64 y
float64 z
float64 w
===
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
_DEFINITIONS = {
    "sensor_msgs/msg/Imu": """std_msgs/Header header
geometry_msgs/Quaternion orientation
float64[9] orientation_covariance
geometry_msgs/Vector3 angular_velocity
float64[9] angular_velocity_covariance
geometry_msgs/Vector3 linear_acceleration
float64[9] linear_acceleration_covariance
""",
    "sensor_msgs/msg/NavSatFix": """std_msgs/Header header
NavSatStatus status
float64 latitude
float64 longitude
float64 altitude
float64[9] position_covariance
uint8 position_covariance_type
===
MSG: sensor_msgs/NavSatStatus
int8 status
uint16 service
""",
    "nav_msgs/msg/Odometry": """std_msgs/Header header
string child_frame_id
geometry_msgs/PoseWithCovariance pose
geometry_msgs/TwistWithCovariance twist
===
MSG: geometry_msgs/PoseWithCovariance
Pose pose
float64[36] covariance
===
MSG: geometry_msgs/Pose
Vector3 position
Quaternion orientation
===
MSG: geometry_msgs/TwistWithCovariance
Twist twist
float64[36] covariance
===
MSG: geometry_msgs/Twist
Vector3 linear
Vector3 angular
""",
}

Fields = Mapping[str, Any]


def write_mcap(spec: FleetSpec, drive: Drive, fs: AbstractFileSystem, root: str) -> Written:
    """Writes one drive below `root`, a path of `fs`."""
    del spec
    name = f"{drive.vehicle}/{drive.name}.mcap"
    start_ns = int(drive.start.replace(tzinfo=UTC).timestamp()) * NS_PER_S
    fs.makedirs(f"{root}/{drive.vehicle}", exist_ok=True)
    with fs.open(f"{root}/{name}", "wb") as out:
        writer = Writer(out, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        writer.start(profile="ros2", library="fleetmill synth")
        topics = [
            _ros_topic(writer, "/imu", "sensor_msgs/msg/Imu", 1, _imu),
            _ros_topic(writer, "/odometry", "nav_msgs/msg/Odometry", 2, _odometry),
            _ros_topic(writer, "/gnss", "sensor_msgs/msg/NavSatFix", 10, _fix),
            _state_topic(writer),
        ]
        for step in range(len(drive.motion.t_s)):
            t_ns = start_ns + step * (NS_PER_S // SIM_HZ)
            for number, (channel, every, content) in enumerate(topics):
                if step % every == 0:
                    log_ns = t_ns + LATENCY_NS + number  # in an order of their own
                    data = content(drive, step, t_ns)
                    writer.add_message(channel, log_ns, data, t_ns, step // every)
        writer.finish()  # type: ignore[no-untyped-call]
    return Written(name, 0)


_Topic = tuple[int, int, Callable[[Drive, int, int], bytes]]
"""A channel, how many steps there are for each of its messages, and what makes their content."""


def _ros_topic(
    writer: Writer, topic: str, type_: str, every: int, fields: Callable[[Drive, int], Fields]
) -> _Topic:
    text = _DEFINITIONS[type_] + _HEADER
    types = parse_types(type_, text)
    schema = writer.register_schema(type_, "ros2msg", text.encode())

    def content(drive: Drive, step: int, t_ns: int) -> bytes:
        sec, nanosec = divmod(t_ns, NS_PER_S)
        header = {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": "base_link"}
        return cdr(types, short_name(type_), {"header": header, **fields(drive, step)})

    return writer.register_channel(topic, "cdr", schema), every, content


def _state_topic(writer: Writer) -> _Topic:
    schema = writer.register_schema(STATE, "jsonschema", b'{"type": "object"}')
    names = ("steering_angle_rad", "accelerator_frac", "brake_frac", "heading_rad")
    flags = ("brake_on", "blinker_left", "blinker_right", "engaged")

    def content(drive: Drive, step: int, t_ns: int) -> bytes:
        sec, nsec = divmod(t_ns, NS_PER_S)
        sensed = drive.sensed
        fields = {
            "timestamp": {"sec": sec, "nsec": nsec},
            **{name: float(sensed[name][step]) for name in names},
            "accel_z_mps2": float(sensed["accel_z_mps2"][step]),
            **{name: bool(sensed[name][step]) for name in flags},
            "gear": GEARS.index(sensed["gear"][step]),
        }
        return json.dumps(fields).encode()

    return writer.register_channel("/vehicle", "json", schema), 2, content


def _imu(drive: Drive, step: int) -> Fields:
    sensed = drive.sensed
    return {
        "angular_velocity": {"z": sensed["yaw_rate_radps"][step]},
        "linear_acceleration": {
            "x": sensed["accel_x_mps2"][step],
            "y": sensed["accel_y_mps2"][step],
            "z": sensed["accel_z_mps2"][step] + 9.81,
        },
    }


def _odometry(drive: Drive, step: int) -> Fields:
    linear = {"x": drive.sensed["speed_mps"][step]}
    angular = {"z": drive.sensed["yaw_rate_radps"][step]}
    return {
        "child_frame_id": "base_link",
        "twist": {"twist": {"linear": linear, "angular": angular}},
    }


def _fix(drive: Drive, step: int) -> Fields:
    names = {"latitude": "lat_deg", "longitude": "lon_deg", "altitude": "alt_m"}
    return {name: drive.sensed[signal][step] for name, signal in names.items()}


def cdr(types: Types, name: str, fields: Fields) -> bytes:
    r"""Serializes a ROS 2 message; what is not given is zero or empty.

    >>> cdr(parse_types("p/A", "int8 a\nint32 b"), "p/A", {"a": 1, "b": 2})[4:].hex()
    '0100000002000000'
    """
    out = bytearray()
    for format_, value in _values(types, name, fields):
        if isinstance(value, bytes):
            out += value
        else:
            out += bytes(-len(out) % struct.calcsize(format_))
            out += struct.pack(f"<{format_}", value)
    return b"\0\1\0\0" + bytes(out)


_FORMATS = {
    "u1": "B", "i1": "b", "u2": "H", "i2": "h", "u4": "I", "i4": "i", "u8": "Q", "i8": "q",
    "f4": "f", "f8": "d",
}  # fmt: skip
"""The numbers of SIZES as struct names them."""


def _values(types: Types, name: str, fields: Fields) -> Iterator[tuple[str, Any]]:
    """Yields what a message consists of: numbers with their format, and texts."""
    for field in types[name]:
        value = fields.get(field.name)
        if field.type == "string":
            content = str(value or "").encode() + b"\0"
            yield "I", len(content)
            yield "", content
        elif field.type in SIZES:
            for _ in range(field.length or 1):
                yield _FORMATS[SIZES[field.type]], value or 0
        else:
            yield from _values(types, field.type, value or {})
