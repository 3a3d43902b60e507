"""Telemetry SEI against protobuf's wire format, and through H.264 samples."""

import io
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from transforms.video.mp4 import Track, read_index
from transforms.video.sei import Telemetry, decode_sei, encode_sei, escape, find_telemetry


def _telemetry(k: int) -> Telemetry:
    rng = np.random.default_rng(k)
    return Telemetry(
        frame_seq_no=k,
        speed_mps=rng.uniform(0, 40),
        accelerator_frac=rng.random(),
        steering_angle_rad=rng.uniform(-3, 3),
        heading_rad=rng.uniform(-math.pi, math.pi),
        lat_deg=rng.uniform(-80, 80),
        lon_deg=rng.uniform(-170, 170),
        accel_x_mps2=rng.normal(0, 2),
        accel_y_mps2=rng.normal(0, 2),
        accel_z_mps2=rng.normal(0, 0.2),
        gear=str(rng.choice(["park", "drive", "reverse", "neutral"])),
        blinker_left=bool(rng.random() < 0.5),
        blinker_right=bool(rng.random() < 0.5),
        brake_on=bool(rng.random() < 0.5),
        autopilot=int(rng.integers(4)),
    )


def _track(samples: list[bytes], gap: int = 0) -> tuple[io.BytesIO, Track]:
    """Lays samples out in a file, `gap` bytes apart."""
    lengths = np.array([len(sample) for sample in samples], np.int64)
    offsets = np.cumsum(lengths + gap) - lengths
    file = io.BytesIO(b"".join(b"\xaa" * gap + sample for sample in samples))
    zeros = np.zeros(len(samples), np.int64)
    return file, Track(
        kind="vide",
        codec="h264",
        width=64,
        height=48,
        time_base=(1, 10_000),
        pts=np.arange(len(samples)),
        dts=np.arange(len(samples)),
        is_keyframe=zeros == 0,
        is_hidden=zeros == 1,
        byte_offset=offsets,
        byte_size=lengths,
        duration=zeros + 1,
        extradata=bytes([1, 66, 0, 31, 0xFF]),
    )


def _nal(unit: bytes) -> bytes:
    return struct.pack(">I", len(unit)) + unit


SLICE = _nal(b"\x65" + bytes(range(200)))


def test_the_unit_is_laid_out_as_the_format_says() -> None:
    """The message is proto3's wire format, written out by hand."""
    unit = encode_sei(Telemetry(frame_seq_no=300, speed_mps=1.0, gear="reverse", brake_on=True))
    body = decode_sei(unit)
    assert unit[:2] == b"\x06\x05"
    assert unit[-1] == 0x80
    assert body is not None
    # version 1, gear 2, frame_seq_no 300, speed 1.0f: proto3's wire format by hand.
    assert body.startswith(b"\x08\x01\x10\x02\x18\xac\x02\x25\x00\x00\x80\x3f")
    assert b"\x48\x01" in body


@pytest.mark.parametrize("gap", [0, 10_000])
def test_telemetry_survives_the_round_trip(gap: int) -> None:
    """Decoding inverts encoding, whether samples are adjacent or far apart."""
    told = [_telemetry(k) for k in range(300)]
    file, track = _track([_nal(encode_sei(t)) + SLICE for t in told], gap)
    found = find_telemetry(file, track, "x.mp4")
    assert found.invalid == 0
    assert found.row.tolist() == list(range(300))
    for name, values in found.columns.items():
        expected = [getattr(t, name) for t in told]
        if values.dtype == np.float64:
            # Speed, pedal and wheel angle travel as 32-bit floats, the wheel in degrees.
            np.testing.assert_allclose(values, expected, rtol=2e-7, atol=1e-9, err_msg=name)
        else:
            assert values.tolist() == expected, name


def test_signs_are_those_of_the_vehicle_frame() -> None:
    """From the message's units: steering to the right, compass to the east, pedal in percent."""
    # field 5 (pedal) = 50f, field 6 (wheel) = +90f degrees, field 13 (heading) = 90.0
    body = b"\x2d" + struct.pack("<f", 50) + b"\x35" + struct.pack("<f", 90)
    body += b"\x69" + struct.pack("<d", 90)
    file, track = _track([_nal(b"\x06\x05\x20BBi" + escape(body) + b"\x80") + SLICE])
    columns = find_telemetry(file, track, "x.mp4").columns
    assert columns["steering_angle_rad"][0] == pytest.approx(-math.pi / 2)
    assert columns["heading_rad"][0] == pytest.approx(0.0)
    assert columns["accelerator_frac"][0] == pytest.approx(0.5)
    assert np.isnan(columns["lat_deg"][0])


@pytest.mark.parametrize("seed", range(20))
def test_escaping_hides_start_codes_and_is_undone(seed: int) -> None:
    """An escaped payload has no start code, and unescaping restores it."""
    rng = np.random.default_rng(seed)
    payload = bytes(rng.choice([0, 0, 0, 1, 2, 3, 4], 400).tolist()) + b"\x80"
    hidden = escape(payload)
    for code in (b"\0\0\0", b"\0\0\1", b"\0\0\2"):
        assert code not in hidden
    assert decode_sei(b"\x06\x05\x10BBBi" + hidden) == payload[:-1]


def test_frames_without_telemetry_and_other_units_are_passed_over() -> None:
    """Only telemetry units before the first slice count, whatever precedes them."""
    long_note = _nal(b"\x06\x05\xff" + b"x264 - core" * 100 + b"\x80")
    parameters = _nal(b"\x67\x42\x00\x1f")
    one = _nal(encode_sei(_telemetry(1)))
    file, track = _track([SLICE, parameters + long_note + one + SLICE, SLICE + one])
    found = find_telemetry(file, track, "x.mp4")
    # The third comes after its slice: it would belong to a next slice that is not there.
    assert found.row.tolist() == [1]
    assert found.columns["frame_seq_no"].tolist() == [1]


def test_invalid_units_are_counted_and_never_raise() -> None:
    """Changed and truncated units are counted and never raise."""
    rng = np.random.default_rng(5)
    bad = _nal(b"\x06\x05\x10BBBi" + b"\xff" * 20 + b"\x80")
    good = _nal(encode_sei(_telemetry(2))) + SLICE
    file, track = _track([bad + SLICE, good])
    found = find_telemetry(file, track, "x.mp4")
    assert (found.invalid, found.row.tolist()) == (1, [1])
    for _ in range(300):
        samples = []
        for _ in range(4):
            sample = bytearray(good)
            for _ in range(rng.integers(1, 12)):
                sample[rng.integers(len(sample))] = int(rng.integers(256))
            samples.append(bytes(sample[: rng.integers(len(sample) + 1)]))
        file, track = _track(samples)
        found = find_telemetry(file, track, "x.mp4")
        assert len(found.row) <= 4
        assert all(len(values) == len(found.row) for values in found.columns.values())


def test_a_real_video_has_no_telemetry(data: Path) -> None:
    """A road video of another make has no telemetry and no invalid units."""
    path = data / "video" / "solidWhiteRight.mp4"
    with path.open("rb") as file:
        track = next(t for t in read_index(file, str(path)) if t.kind == "vide")
        found = find_telemetry(file, track, str(path))
    assert (len(found.row), found.invalid) == (0, 0)
