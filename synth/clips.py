"""Frame times of a camera, and writing one MP4 file of its frames and telemetry."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

import numpy as np

from schemas.arrays import FloatArray, Image, IntArray
from synth.encode import BLANK_SIZE, H264, Coded, blank_gop
from synth.mp4_file import TICKS_PER_S, Samples, write_mp4

CAMERA_HZ = 36
_HIDDEN = 2
_SHORTEST, _LONGEST = 14, 549
"""Least and largest interval between frames in real recordings, in ticks."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Frame times of one file in ticks, increasing from 0.

    An edit list hides the frames before `edit_tick`, as the recorder of a car does, and time 0
    of the presentation is there.
    """

    ticks: IntArray
    end_tick: int
    edit_tick: int

    @property
    def t_s(self) -> FloatArray:
        """Frame times in s from the first frame presented; negative for hidden frames."""
        return np.asarray((self.ticks - self.edit_tick) / TICKS_PER_S)


def clip(rng: np.random.Generator, duration_s: float, drops: float) -> Clip:
    """Draws frame times at about 36 Hz, with jitter, delays and dropped frames.

    Args:
        rng: source of randomness.
        duration_s: length of the presentation.
        drops: scale of dropped frames; 0 is none.
    """
    n = _HIDDEN + max(1, int(duration_s * CAMERA_HZ) + 2)
    ticks = np.arange(n) * (TICKS_PER_S / CAMERA_HZ) + rng.normal(0, 12, n)
    ticks += np.where(rng.random(n) < 0.005, rng.uniform(60, 240, n), 0)
    kept = rng.random(n) >= 0.03 * drops
    kept[1:] &= kept[:-1]
    kept[: _HIDDEN + 1] = True
    steps = np.clip(np.diff(ticks[kept]).round().astype(np.int64), _SHORTEST, _LONGEST)
    rising = np.concatenate([[0], np.cumsum(steps)])
    edit = int(rising[_HIDDEN])
    end = edit + max(_SHORTEST, round(duration_s * TICKS_PER_S))
    return Clip(rising[rising <= end - _SHORTEST], end, edit)


def even_clip(duration_s: float, fps: int) -> Clip:
    """Lists frame times at a constant rate."""
    n = max(1, int(duration_s * fps))
    ticks = np.arange(n, dtype=np.int64) * TICKS_PER_S // fps
    return Clip(ticks, n * TICKS_PER_S // fps, 0)


def write_clip(
    out: BinaryIO,
    clip: Clip,
    telemetry: Sequence[bytes],
    draw: Callable[[int], Image] | None,
    size: tuple[int, int],
) -> tuple[int, int]:
    """Writes one MP4 file; returns the size of its images.

    Args:
        out: binary file to write to.
        clip: frame times.
        telemetry: for every frame a NAL unit to insert before its slice, b"" for none.
        draw: renders frame k; None repeats a tiny black image.
        size: of rendered images, (width, height) in pixels.
    """
    n = len(clip.ticks)
    if draw is None:
        coded, sps, pps = _blank()
        frames: Sequence[Coded] = [coded[k % len(coded)] for k in range(n)]
        size = BLANK_SIZE
    else:
        encoder = H264(*size)
        frames = [encoder.encode(draw(k)) for k in range(n)]
        sps, pps = encoder.sps, encoder.pps
    pack = struct.Struct(">I").pack
    payloads = [
        b"".join(
            (pack(len(sei)), sei, pack(len(f.nal)), f.nal) if sei else (pack(len(f.nal)), f.nal)
        )
        for sei, f in zip(telemetry, frames, strict=True)
    ]
    keyframes = np.array([f.is_keyframe for f in frames], np.bool_)
    samples = Samples(payloads, clip.ticks, keyframes, clip.end_tick, clip.edit_tick)
    write_mp4(out, samples, (sps, pps), size)
    return size


@cache
def _blank() -> tuple[list[Coded], bytes, bytes]:
    return blank_gop()
