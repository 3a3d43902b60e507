"""Tesla's dashcam telemetry in H.264 SEI: encoding and decoding.

Each slice is preceded by an SEI NAL unit (nal_unit_type 6, payload type 5,
user_data_unregistered): bytes 0x42, one 0x69, and a protobuf message, with emulation
prevention. Telemetry outside of this module is in SI units and in the vehicle frame of
schemas.signals; the message differs as follows:

- `steering_wheel_angle` is in degrees, positive to the right; ours is in radians, positive to
  the left.
- `heading_deg` is clockwise from north; ours is counter-clockwise from east.
- `linear_acceleration_mps2_*` are assumed to be x forward, y left, z up, without gravity.
- `accelerator_pedal_position` is a fraction in some descriptions and a percentage in others:
  values above 1 are read as percent. We write fractions.
- latitude and longitude both 0 mean no position fix.

The signs are assumptions: no public document states them.
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
"""Names of the values of the gear field."""

HEAD_BYTES = 384
"""How much of a sample is read first to find its telemetry; a message has about 130 bytes."""
MAX_HEAD_BYTES = 64 << 10
GAP_BYTES = 4 << 10
"""Reads with smaller gaps between them are merged."""
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
"""Names and types of the message's fields, numbered from 1."""


def _message_class() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="fleetmill/telemetry.proto", package="fleetmill", syntax="proto3"
    )
    described = file.message_type.add(name="Telemetry")
    for number, (name, type_) in enumerate(_FIELDS, 1):
        described.field.add(name=name, number=number, type=type_, label=_FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    class_: type[Any] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("fleetmill.Telemetry")
    )
    return class_


_Message = _message_class()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Telemetry of one frame, in the units and the vehicle frame of schemas.signals.

    `autopilot` is 0 none, 1 self driving, 2 autosteer, 3 traffic-aware cruise control.
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
    """Telemetry of n frames, in columns.

    `row` int64[n] is the sample in the track. `columns` are the fields of `Telemetry`:
    floats are NaN if there is no value (no position fix, not finite), `gear` is a string.
    `invalid` counts SEI units marked as telemetry whose message cannot be parsed.
    """

    row: IntArray
    columns: dict[str, AnyArray]
    invalid: int


def encode_sei(telemetry: Telemetry) -> bytes:
    """Encodes a frame's telemetry as an SEI NAL unit, without length prefix or start code.

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
    # Everything after the two type bytes is escaped; the payload has under 255 bytes.
    return b"\x06\x05" + escape(bytes([len(payload)]) + payload) + b"\x80"


def escape(payload: bytes) -> bytes:
    """Inserts emulation prevention bytes into a payload (ISO/IEC 14496-10, 7.4.1).

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
    """Returns the protobuf message in a NAL unit, or None if the unit is not telemetry."""
    if len(unit) < 6 or unit[0] & 0x1F != _NAL_SEI or unit[1] != _PAYLOAD_USER:
        return None
    at = 3
    while at < len(unit) and unit[at] == 0x42:
        at += 1
    if at == 3 or at >= len(unit) or unit[at] != 0x69:
        return None
    # bytes.replace does not rescan its output: 00 00 03 00 00 03 becomes 00 00 00 00.
    return unit[at + 1 : -1].replace(b"\0\0\3", b"\0\0")


def find_telemetry(file: BinaryIO, track: Track, uri: str) -> TelemetryColumns:
    """Reads the telemetry of a track, from the first bytes of its samples only.

    Args:
        file: the file, seekable.
        track: its video track; only H.264 with length-prefixed NAL units has telemetry.
        uri: the name of the file in messages.

    Raises:
        UnreadableError: reading fails. Invalid content does not raise.
    """
    rows: list[int] = []
    messages: list[Any] = []
    invalid = 0
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
                    invalid += 1
        except OSError as error:
            raise UnreadableError(
                f"{uri}: reading failed ({error.strerror or error}); try again, or copy the file "
                "again"
            ) from error
    return TelemetryColumns(np.array(rows, np.int64), _columns(messages), invalid)


def _units(file: BinaryIO, track: Track) -> Iterator[tuple[int, bytes]]:
    """Yields (row, NAL unit) for every user data SEI before the first slice of each sample."""
    prefix = track.nal_length_bytes
    for row, first_bytes in _heads(file, track):
        head, at = first_bytes, 0
        sample_bytes = int(track.byte_size[row])
        while at + prefix + 2 <= sample_bytes:
            if at + prefix + 2 > len(head):
                head = _longer_head(file, track, row, at + prefix + 2)
                if at + prefix + 2 > len(head):
                    break
            unit_bytes = int.from_bytes(head[at : at + prefix], "big")
            start = at + prefix
            type_ = head[start] & 0x1F
            if type_ in _SLICES or unit_bytes == 0:
                break
            at = start + unit_bytes
            if type_ == _NAL_SEI and head[start + 1] == _PAYLOAD_USER:
                if at > len(head):
                    head = _longer_head(file, track, row, at)
                yield row, head[start:at]
            if at > MAX_HEAD_BYTES:
                break


def _longer_head(file: BinaryIO, track: Track, row: int, need: int) -> bytes:
    """Reads at least the first `need` bytes of a sample, up to MAX_HEAD_BYTES."""
    file.seek(int(track.byte_offset[row]))
    return file.read(min(max(need, 4096), MAX_HEAD_BYTES, int(track.byte_size[row])))


def _heads(file: BinaryIO, track: Track) -> Iterator[tuple[int, bytes]]:
    """Yields (row, first bytes) of every sample in file order; merges reads of neighbours."""
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
            content = file.read(int(ends[part].max()) - origin)
            for k in part.tolist():
                yield int(order[k]), content[int(starts[k]) - origin : int(ends[k]) - origin]
            first = last


def _columns(messages: list[Any]) -> dict[str, AnyArray]:
    """Converts messages to columns in the units of `Telemetry`."""

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
