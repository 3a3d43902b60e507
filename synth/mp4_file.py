"""Writes MP4 files of one H.264 track, laid out as by the recorder of a car.

Boxes `ftyp`, `mdat`, then `moov` (ISO/IEC 14496-12); parameter sets only in `avcC` (14496-15);
one chunk; an edit list. Creation times are zero, so that files are reproducible.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from schemas.arrays import BoolArray, IntArray

TICKS_PER_S = 10_000
_UNITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_FTYP = b"isom" + struct.pack(">I", 512) + b"isomiso2avc1mp41"


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of the track, one coded picture each.

    Args:
        payloads: length-prefixed NAL units of every sample.
        ticks: int64[n] decoding times from 0, increasing, in 1/TICKS_PER_S s.
        is_keyframe: bool[n].
        end_tick: end of the last sample.
        edit_tick: media time at which the edit list starts the presentation; earlier samples
            have negative presentation times.
    """

    payloads: Sequence[bytes]
    ticks: IntArray
    is_keyframe: BoolArray
    end_tick: int
    edit_tick: int


def write_mp4(
    out: BinaryIO, samples: Samples, sets: tuple[bytes, bytes], size: tuple[int, int]
) -> None:
    """Writes a complete file; `sets` are SPS and PPS, `size` (width, height) in pixels."""
    sizes = np.array([len(payload) for payload in samples.payloads], np.int64)
    ftyp = _box(b"ftyp", _FTYP)
    out.write(ftyp)
    out.write(struct.pack(">I4sQ", 1, b"mdat", 16 + int(sizes.sum())))
    out.write(b"".join(samples.payloads))
    out.write(_moov(samples, sizes, len(ftyp) + 16, _avc1(*sets, size), size))


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def _moov(
    samples: Samples,
    sizes: IntArray,
    offset: int,
    entry: bytes,
    size: tuple[int, int],
) -> bytes:
    shown = samples.end_tick - samples.edit_tick
    count = len(sizes)
    header = struct.pack(">4I", 0, 0, TICKS_PER_S, shown)
    mvhd = _full(
        b"mvhd", 0, header, struct.pack(">IH10x", 0x10000, 0x100), _UNITY, bytes(24), b"\0\0\0\2"
    )
    tkhd = _full(
        b"tkhd",
        3,
        struct.pack(">5I8x4H", 0, 0, 1, 0, shown, 0, 0, 0, 0),
        _UNITY,
        struct.pack(">2I", size[0] << 16, size[1] << 16),
    )
    elst = _full(b"elst", 0, struct.pack(">IIiI", 1, shown, samples.edit_tick, 0x10000))
    mdhd = _full(b"mdhd", 0, struct.pack(">4IHH", 0, 0, TICKS_PER_S, samples.end_tick, 0x55C4, 0))
    hdlr = _full(b"hdlr", 0, struct.pack(">I4s12x", 0, b"vide"), b"VideoHandler\0")
    dref = _full(b"dref", 0, struct.pack(">I", 1), _full(b"url ", 1))
    stbl = _box(
        b"stbl",
        _full(b"stsd", 0, struct.pack(">I", 1), entry),
        _stts(np.diff(np.append(samples.ticks, samples.end_tick))),
        _full(
            b"stss",
            0,
            struct.pack(">I", int(samples.is_keyframe.sum())),
            (np.flatnonzero(samples.is_keyframe) + 1).astype(">u4").tobytes(),
        ),
        _full(b"stsc", 0, struct.pack(">4I", 1, 1, count, 1)),
        _full(b"stsz", 0, struct.pack(">2I", 0, count), sizes.astype(">u4").tobytes()),
        _full(b"co64", 0, struct.pack(">IQ", 1, offset)),
    )
    minf = _box(b"minf", _full(b"vmhd", 1, bytes(8)), _box(b"dinf", dref), stbl)
    trak = _box(b"trak", tkhd, _box(b"edts", elst), _box(b"mdia", mdhd, hdlr, minf))
    return _box(b"moov", mvhd, trak)


def _stts(steps: IntArray) -> bytes:
    """Run-length encodes the sample durations."""
    starts = np.flatnonzero(np.diff(steps, prepend=-1))
    runs = np.diff(np.append(starts, len(steps)))
    table = np.stack([runs, steps[starts]], axis=1)
    return _full(b"stts", 0, struct.pack(">I", len(runs)), table.astype(">u4").tobytes())


def _avc1(sps: bytes, pps: bytes, size: tuple[int, int]) -> bytes:
    avcc = _box(
        b"avcC",
        bytes([1, sps[1], sps[2], sps[3], 0xFF, 0xE1]),
        struct.pack(">H", len(sps)) + sps,
        b"\x01" + struct.pack(">H", len(pps)) + pps,
    )
    return _box(
        b"avc1",
        struct.pack(">6xH16x2H2I4xH32x2H", 1, *size, 0x480000, 0x480000, 1, 24, 0xFFFF),
        avcc,
    )
