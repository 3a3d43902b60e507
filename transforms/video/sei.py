"""The telemetry that a Tesla writes into its dashcam video, both ways.

One H.264 SEI unit (type 6, payload type 5) lies before the slice that it belongs to: after
a run of 0x42 and one 0x69 comes a protobuf message, with emulation prevention. The message
carries degrees and compass headings; everything outside this module is SI, in the vehicle
frame of schemas.signals. The two differ as follows, and nothing else in the house knows:

- `steering_wheel_angle` is degrees, right positive: ours is radians, left positive.
- `heading_deg` is clockwise from north: ours is counter-clockwise from east.
- `linear_acceleration_mps2_*` are taken to be x forward, y left, z up, gravity removed.
- `accelerator_pedal_position` is a fraction by some accounts, a percentage by others: values
  above 1 are read as percent. We write fractions.
- latitude and longitude both 0 mean no position fix.

The signs are assumed, as no public document states them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from schemas.arrays import AnyArray, IntArray
from schemas.errors import UnreadableError
from transforms.video.mp4 import Track

GEARS = ("park", "drive", "reverse", "neutral")
"""Names of the gear field's numbers."""

HEAD_BYTES = 384
"""How much of a sample is read to find its telemetry; a message takes about 130."""
MAX_HEAD_BYTES = 64 << 10
GAP_BYTES = 4 << 10
"""Reads closer than this become one."""
MAX_READ_BYTES = 4 << 20

_NAL_SEI, _PAYLOAD_USER = 6, 5
_SLICES = (1, 5)
_FIELD = descriptor_pb2.FieldDescriptorProto
_FIELDS: tuple[tuple[str, int], ...] = (
    ("version", _FIELD.TYPE_UINT32),
    ("gear_state", _FIELD.TYPE_UINT32),
    ("frame_seq_no", _FIELD.TYPE_UINT64),
    ("vehicle_speed_mps", _FIELD.TYPE_FLOAT),
    ("accelerator_pedal_position", _FIELD.TYPE_FLOAT),
    ("steering_wheel_angle", _FIELD.TYPE_FLOAT),
    ("blinker_on_left", _FIELD.TYPE_BOOL),
    ("blinker_on_right", _FIELD.TYPE_BOOL),
    ("brake_applied", _FIELD.TYPE_BOOL),
    ("autopilot_state", _FIELD.TYPE_UINT32),
    ("latitude_deg", _FIELD.TYPE_DOUBLE),
    ("longitude_deg", _FIELD.TYPE_DOUBLE),
    ("heading_deg", _FIELD.TYPE_DOUBLE),
    ("linear_acceleration_mps2_x", _FIELD.TYPE_DOUBLE),
    ("linear_acceleration_mps2_y", _FIELD.TYPE_DOUBLE),
    ("linear_acceleration_mps2_z", _FIELD.TYPE_DOUBLE),
)
"""Name and type of the message's fields; their numbers count from 1."""


def _message_class() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="fleetmill/telemetry.proto", package="fleetmill", syntax="proto3"
    )
    described = file.message_type.add(name="Telemetry")
    for number, (name, type_) in enumerate(_FIELDS, 1):
        described.field.add(name=name, number=number, type=type_, label=_FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type[Any] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("fleetmill.Telemetry")
    )
    return found


_Message = _message_class()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the vehicle says at one frame, in the units and frame of schemas.signals.

    `autopilot` is 0 none, 1 self driving, 2 autosteer, 3 traffic-aware cruise.
    """

    frame_seq_no: int
    speed_mps: float
    accelerator_frac: float = 0.0
    steering_angle_rad: float = 0.0
    heading_rad: float = 0.0
    lat_deg: float = 0.0
    lon_deg: float = 0.0
    accel_x_mps2: float = 0.0
    accel_y_mps2: float = 0.0
    accel_z_mps2: float = 0.0
    gear: str = "drive"
    blinker_left: bool = False
    blinker_right: bool = False
    brake_on: bool = False
    autopilot: int = 0


@dataclass(frozen=True, slots=True)
class TelemetryColumns:
    """Telemetry of many frames: `row` int64[n] in the track, then one column a field.

    The columns are those of `Telemetry`, floats with NaN where the vehicle has no value
    (no position fix, no finite number), gear as strings. `garbage` counts units that carry
    the marks of telemetry and no message.
    """

    row: IntArray
    columns: dict[str, AnyArray]
    garbage: int


def encode_sei(telemetry: Telemetry) -> bytes:
    """Writes a frame's telemetry as a NAL unit, without length or start code.

    >>> unit = encode_sei(Telemetry(frame_seq_no=7, speed_mps=12.5))
    >>> unit[:8].hex(), unit[-1]
    ('06051d4242426908', 128)
    """
    body = _Message(
        version=1,
        gear_state=GEARS.index(telemetry.gear),
        frame_seq_no=telemetry.frame_seq_no,
        vehicle_speed_mps=telemetry.speed_mps,
        accelerator_pedal_position=telemetry.accelerator_frac,
        steering_wheel_angle=-math.degrees(telemetry.steering_angle_rad),
        blinker_on_left=telemetry.blinker_left,
        blinker_on_right=telemetry.blinker_right,
        brake_applied=telemetry.brake_on,
        autopilot_state=telemetry.autopilot,
        latitude_deg=telemetry.lat_deg,
        longitude_deg=telemetry.lon_deg,
        heading_deg=math.degrees(math.pi / 2 - telemetry.heading_rad) % 360.0,
        linear_acceleration_mps2_x=telemetry.accel_x_mps2,
        linear_acceleration_mps2_y=telemetry.accel_y_mps2,
        linear_acceleration_mps2_z=telemetry.accel_z_mps2,
    ).SerializeToString(deterministic=True)
    payload = b"BBBi" + body
    # Everything after the two type bytes is escaped; the payload is under 255 bytes.
    return b"\x06\x05" + escape(bytes([len(payload)]) + payload) + b"\x80"


def escape(payload: bytes) -> bytes:
    """Puts emulation prevention into a payload (ISO/IEC 14496-10, 7.4.1).

    >>> escape(bytes([0, 0, 0, 0, 1, 9])).hex()
    '0000030000030109'
    """
    if b"\0\0" not in payload:
        return payload
    out = bytearray()
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def decode_sei(unit: bytes) -> bytes | None:
    """Returns the message inside a NAL unit, or None if it is no telemetry unit."""
    if len(unit) < 6 or unit[0] & 0x1F != _NAL_SEI or unit[1] != _PAYLOAD_USER:
        return None
    at = 3
    while at < len(unit) and unit[at] == 0x42:
        at += 1
    if at == 3 or at >= len(unit) or unit[at] != 0x69:
        return None
    # bytes.replace does not rescan what it replaced: 00 00 03 00 00 03 gives 00 00 00 00.
    return unit[at + 1 : -1].replace(b"\0\0\3", b"\0\0")


def find_telemetry(file: BinaryIO, track: Track, uri: str) -> TelemetryColumns:
    """Reads the telemetry of a track from the heads of its samples.

    Args:
        file: the file, seekable.
        track: its video track; one that is not H.264 in an MP4 has none.
        uri: what messages call the file.

    Raises:
        UnreadableError: reading fails; odd content never does.
    """
    rows: list[int] = []
    messages: list[Any] = []
    garbage = 0
    if track.codec == "h264" and track.nal_length_bytes:
        try:
            for row, unit in _units(file, track):
                body = decode_sei(unit)
                if body is None:
                    continue
                try:
                    messages.append(_Message.FromString(body))
                    rows.append(row)
                except message.DecodeError:
                    garbage += 1
        except OSError as error:
            raise UnreadableError(f"{uri}: reading failed ({error.strerror or error})") from error
    return TelemetryColumns(np.array(rows, np.int64), _columns(messages), garbage)


def _units(file: BinaryIO, track: Track) -> Iterator[tuple[int, bytes]]:
    """Yields (row, unit) for every SEI unit before the first slice of a sample."""
    size = track.nal_length_bytes
    for row, head in _heads(file, track):
        data, at = head, 0
        length = int(track.byte_size[row])
        while at + size + 2 <= length:
            if at + size + 2 > len(data):
                data = _grow(file, track, row, at + size + 2)
                if at + size + 2 > len(data):
                    break
            unit = int.from_bytes(data[at : at + size], "big")
            start = at + size
            type_ = data[start] & 0x1F
            if type_ in _SLICES or unit == 0:
                break
            at = start + unit
            if type_ == _NAL_SEI and data[start + 1] == _PAYLOAD_USER:
                if at > len(data):
                    data = _grow(file, track, row, at)
                yield row, data[start:at]
            if at > MAX_HEAD_BYTES:
                break


def _grow(file: BinaryIO, track: Track, row: int, need: int) -> bytes:
    """Reads a longer head of one sample."""
    file.seek(int(track.byte_offset[row]))
    return file.read(min(max(need, 4096), MAX_HEAD_BYTES, int(track.byte_size[row])))


def _heads(file: BinaryIO, track: Track) -> Iterator[tuple[int, bytes]]:
    """Yields (row, head) of every sample, in file order, few reads for neighbours."""
    order = np.argsort(track.byte_offset, kind="stable")
    starts = track.byte_offset[order]
    ends = starts + np.minimum(track.byte_size[order], HEAD_BYTES)
    breaks = np.flatnonzero(starts[1:] - ends[:-1] > GAP_BYTES) + 1
    for run in np.split(np.arange(len(order)), breaks):
        first = 0
        while first < len(run):
            origin = int(starts[run[first]])
            last = int(np.searchsorted(ends[run], origin + MAX_READ_BYTES, side="right"))
            last = max(last, first + 1)
            part = run[first:last]
            file.seek(origin)
            data = file.read(int(ends[part].max()) - origin)
            for k in part.tolist():
                yield int(order[k]), data[int(starts[k]) - origin : int(ends[k]) - origin]
            first = last


def _columns(messages: list[Any]) -> dict[str, AnyArray]:
    """Turns messages into columns in our units."""

    def column(name: str, type_: type = float) -> AnyArray:
        return np.array([getattr(m, name) for m in messages], type_)

    pedal = column("accelerator_pedal_position")
    heading = np.pi / 2 - np.radians(column("heading_deg"))
    lat, lon = column("latitude_deg"), column("longitude_deg")
    fix = ((lat != 0) | (lon != 0)) & (np.abs(lat) <= 90) & (np.abs(lon) <= 180)
    gear = column("gear_state", int)
    with np.errstate(invalid="ignore"):
        wrapped = np.pi - (np.pi - heading) % (2 * np.pi)
    columns: dict[str, AnyArray] = {
        "frame_seq_no": column("frame_seq_no", np.uint64),
        "speed_mps": np.abs(column("vehicle_speed_mps")),
        "accelerator_frac": np.where(pedal > 1, pedal / 100, pedal),
        "steering_angle_rad": -np.radians(column("steering_wheel_angle")),
        "heading_rad": wrapped,
        "lat_deg": np.where(fix, lat, np.nan),
        "lon_deg": np.where(fix, lon, np.nan),
        "accel_x_mps2": column("linear_acceleration_mps2_x"),
        "accel_y_mps2": column("linear_acceleration_mps2_y"),
        "accel_z_mps2": column("linear_acceleration_mps2_z"),
        "gear": np.array([GEARS[g] if g < len(GEARS) else "" for g in gear.tolist()], object),
        "blinker_left": column("blinker_on_left", bool),
        "blinker_right": column("blinker_on_right", bool),
        "brake_on": column("brake_applied", bool),
        "autopilot": column("autopilot_state", np.int64),
    }
    for name, values in columns.items():
        if values.dtype == np.float64:
            columns[name] = np.where(np.isfinite(values), values, np.nan)
    return columns
