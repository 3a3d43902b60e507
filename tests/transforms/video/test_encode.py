"""Clips: equal bytes in any process, exact times, and pictures close to the originals."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from typing import Any

import av
import cv2
import numpy as np
import pytest

from schemas.arrays import Image
from schemas.errors import CorruptError, EmptyError
from schemas.times import NS_PER_S
from tests.conftest import ROOT
from transforms.video.encode import ClipWriter, clip_ticks, clip_to_frames, encode_jpeg

START_NS = 12_345_678_901
SHAPE = (98, 162, 3)


def picture(index: int, shape: tuple[int, int, int] = SHAPE) -> Image:
    """Paints a smooth moving gradient, which compression hardly changes."""
    y, x, c = np.indices(shape)
    return np.asarray((x + 2 * y + 40 * c + 3 * index) % 256 // 2 + 60, np.uint8)


def times(count: int) -> list[int]:
    """Returns times of a variable rate, steps of 1.4 to 54.9 ms, the first at 7 ms."""
    steps = np.random.default_rng(3).integers(1_400_000, 54_900_000, count)
    return [START_NS + 7_000_000 + int(t) for t in np.cumsum(steps) - steps[0]]


def clip(t_ns: list[int], shape: tuple[int, int, int] = SHAPE) -> bytes:
    """Encodes a clip."""
    writer = ClipWriter(shape[1], shape[0], START_NS)
    for index, t in enumerate(t_ns):
        writer.write(t, picture(index, shape))
    return writer.close()


def packets(mp4: bytes) -> list[Any]:
    """Demuxes a clip."""
    with av.open(io.BytesIO(mp4), "r") as container:
        return [packet for packet in container.demux(video=0) if packet.pts is not None]


# glibc fills what it hands out with the complement of the byte named here.
@pytest.mark.parametrize("fill", [0, 1, 85, 254])
def test_bytes_are_equal_in_another_process(fill: int) -> None:
    """Bytes are equal in another process, whatever its memory held before."""
    code = (
        "import hashlib, importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('t', sys.argv[1])\n"
        "t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)\n"
        "sys.stdout.write(hashlib.sha256(t.clip(t.times(60), (240, 320, 3))).hexdigest())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, __file__],
        cwd=ROOT,
        env={**os.environ, "MALLOC_PERTURB_": str(fill)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == hashlib.sha256(clip(times(60), (240, 320, 3))).hexdigest()


def test_times_survive_to_the_tick() -> None:
    t_ns = times(80)
    found = packets(clip(t_ns))
    assert [p.pts for p in found] == [clip_ticks(t - START_NS) for t in t_ns]
    assert [p.pts for p in found] == [p.dts for p in found]
    for packet, t in zip(found, t_ns, strict=True):
        assert abs(packet.pts * packet.time_base * NS_PER_S - (t - START_NS)) <= NS_PER_S / 180_000


def test_every_second_starts_with_a_keyframe() -> None:
    found = packets(clip(times(120)))
    seconds = [p.pts // 90_000 for p in found]
    first_of_second = [i for i, s in enumerate(seconds) if i == 0 or s != seconds[i - 1]]
    assert len(first_of_second) > 3
    assert all(found[i].is_keyframe for i in first_of_second)


@pytest.mark.parametrize("shape", [SHAPE, (97, 161, 3)])
def test_pictures_survive(shape: tuple[int, int, int]) -> None:
    mp4 = clip(times(20), shape)
    height, width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
    with av.open(io.BytesIO(mp4), "r") as container:
        for index, frame in enumerate(container.decode(video=0)):
            assert (frame.height, frame.width) == (height, width)
            image = frame.to_ndarray(format="bgr24")[: shape[0], : shape[1]]
            assert np.abs(image - picture(index, shape).astype(int)).mean() < 6


def test_moov_comes_first_and_a_loader_can_stream() -> None:
    mp4 = clip(times(60))
    assert mp4.index(b"moov") < mp4.index(b"mdat")

    class Pipe(io.RawIOBase):
        """Reads forward only."""

        def __init__(self) -> None:
            self._rest = io.BytesIO(mp4)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._rest.read(size)

    with av.open(Pipe(), "r", format="mp4") as container:
        assert len(list(container.decode(video=0))) == 60


def test_a_seek_lands_on_the_right_bytes() -> None:
    """The chunk offsets were adjusted when `moov` was moved."""
    mp4 = clip(times(90))
    for packet in packets(mp4)[::7]:
        assert mp4[packet.pos : packet.pos + packet.size] == bytes(packet)


def test_refuses_what_has_no_place_in_the_clip() -> None:
    writer = ClipWriter(64, 48, START_NS)
    with pytest.raises(ValueError, match="after"):
        writer.write(START_NS - 10**9, np.zeros((48, 64, 3), np.uint8))
    writer.write(START_NS, np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="after"):
        writer.write(START_NS + 1, np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="64"):
        writer.write(START_NS + 10**8, np.zeros((64, 48, 3), np.uint8))
    with pytest.raises(EmptyError, match="no frames"):
        ClipWriter(64, 48, 0).close()


def test_jpeg_keeps_the_picture() -> None:
    bgr = picture(0)
    small, large = encode_jpeg(bgr, 50), encode_jpeg(bgr, 95)
    back: Any = cv2.imdecode(np.frombuffer(large, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(back - bgr.astype(int)).mean() < 3
    assert len(small) < len(large)
    assert encode_jpeg(bgr) == encode_jpeg(bgr)


def test_frames_are_derived_from_a_clip() -> None:
    t_ns = [START_NS + 40_000_000 * i for i in range(50)]  # 25 frames/s
    mp4 = clip(t_ns)
    every = clip_to_frames(mp4, None)
    assert [t for t, _ in every] == [40_000_000 * i for i in range(50)]
    assert [t for t, _ in clip_to_frames(mp4, 5.0)] == [200_000_000 * i for i in range(10)]
    assert [t for t, _ in clip_to_frames(mp4, 1000.0)] == [t for t, _ in every]
    last: Any = cv2.imdecode(np.frombuffer(every[-1][1], np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(last - picture(49).astype(int)).mean() < 6


def test_a_broken_clip_has_no_frames() -> None:
    mp4 = clip(times(5))
    for body in (b"", b"text", mp4[: len(mp4) // 4]):
        with pytest.raises(CorruptError):
            clip_to_frames(body, None)
