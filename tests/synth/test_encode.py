"""Encoded pictures as PyAV decodes them."""

from __future__ import annotations

from collections.abc import Sequence

import av
import cv2
import numpy as np
import pytest

from schemas.arrays import Image
from synth.encode import BLANK_SIZE, GOP_FRAMES, H264, Coded, blank_gop, nals


def _decode(coded: Sequence[Coded], sps: bytes, pps: bytes) -> list[Image]:
    """Decodes to planes, uint8[height * 3 / 2, width]."""
    stream = b"".join(b"\0\0\0\1" + nal for nal in (sps, pps, *(frame.nal for frame in coded)))
    decoder = av.CodecContext.create("h264", "r")
    packets = [*decoder.parse(stream), *decoder.parse(b"")]
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    frames += decoder.decode(None)
    return [np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8) for frame in frames]


def _pictures(count: int) -> list[Image]:
    """Draws a smooth texture that pans."""
    coarse = np.random.default_rng(4).integers(0, 255, (8, 12, 3), np.uint8)
    wide = cv2.resize(coarse, (192, 96), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:, 2 * k : 2 * k + 128], np.uint8) for k in range(count)]


def test_keyframes_come_once_a_second() -> None:
    encoder = H264(64, 48)
    rng = np.random.default_rng(1)
    coded = [encoder.encode(rng.integers(0, 255, (48, 64, 3), np.uint8)) for _ in range(80)]
    assert [k for k, frame in enumerate(coded) if frame.is_keyframe] == [0, 36, 72]
    assert {frame.nal[0] & 0x1F for frame in coded} == {1, 5}


def test_a_decoder_sees_what_was_encoded() -> None:
    pictures = _pictures(20)
    encoder = H264(128, 96, gop=8)
    coded = [encoder.encode(picture) for picture in pictures]
    decoded = _decode(coded, encoder.sps, encoder.pps)
    assert len(decoded) == len(pictures)
    for picture, seen in zip(pictures, decoded, strict=True):
        planes = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
        error = np.mean((planes.astype(float) - seen) ** 2)
        assert 10 * np.log10(255**2 / error) > 34  # dB PSNR


def test_equal_pictures_give_equal_bytes() -> None:
    first, second = ([H264(128, 96).encode(p) for p in _pictures(3)] for _ in range(2))
    assert first == second


def test_the_profile_is_constrained_baseline() -> None:
    encoder = H264(128, 96)
    encoder.encode(_pictures(1)[0])
    profile, constraints = encoder.sps[1:3]
    assert profile == 66
    assert constraints & 0x40  # constraint_set1: decoders of the main profile can read it


@pytest.mark.parametrize("code", [b"\0\0\1", b"\0\0\0\1"])
def test_nals_are_what_start_codes_enclose(code: bytes) -> None:
    units = [b"\x67\x42\x03", b"\x68\xce", b"\x65" + b"\x11" * 9]
    assert list(nals(b"".join(code + unit for unit in units))) == units


def test_the_blank_gops_repeat_as_one_valid_stream() -> None:
    coded, sps, pps = blank_gop()
    assert [k for k, frame in enumerate(coded) if frame.is_keyframe] == [0, GOP_FRAMES]
    decoded = _decode([*coded, *coded, *coded], sps, pps)
    assert len(decoded) == 3 * 2 * GOP_FRAMES
    for image in decoded:
        assert image.shape == (BLANK_SIZE[1] * 3 // 2, BLANK_SIZE[0])
        assert (image[: BLANK_SIZE[1]] == 16).all()
        assert (image[BLANK_SIZE[1] :] == 128).all()
