"""H.264 encoding as in the recorder of a car.

Constrained Baseline profile, one slice per picture, no B-frames, one IDR picture per second,
parameter sets out of band. Encoding is single-threaded, so that the same pictures give the same
bytes wherever the same x264 is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np

from schemas.arrays import Image

GOP_FRAMES = 36
BLANK_SIZE = (64, 48)
_START_CODE = re.compile(rb"\x00\x00\x01")
_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8


@dataclass(frozen=True, slots=True)
class Coded:
    """One coded picture: the NAL unit of its slice, without length prefix or start code."""

    nal: bytes
    is_keyframe: bool


class H264:
    """Encodes pictures of one size, uint8[height, width, 3] BGR.

    Args:
        width: pixels, even.
        height: pixels, even.
        gop: pictures per GOP, the distance of keyframes.
    """

    def __init__(self, width: int, height: int, gop: int = GOP_FRAMES) -> None:
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height = width, height
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, 36)
        context.thread_count = 1
        context.options = {
            "preset": "ultrafast",
            "profile": "baseline",
            "tune": "zerolatency",
            "crf": "27",
            "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:repeat-headers=1:threads=1",
        }
        self._context = context
        self._count = 0
        self.sps = b""
        self.pps = b""

    def encode(self, picture: Image) -> Coded:
        """Encodes the next picture."""
        planes = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = self._count
        self._count += 1
        coded: Coded | None = None
        for packet in self._context.encode(frame):
            for nal in nals(bytes(packet)):
                kind = nal[0] & 0x1F
                if kind == _SPS:
                    self.sps = nal
                elif kind == _PPS:
                    self.pps = nal
                elif kind in (_SLICE, _IDR):
                    coded = Coded(nal, kind == _IDR)
        if coded is None:
            raise RuntimeError("x264 delayed a picture in spite of tune=zerolatency")
        return coded


def nals(annex_b: bytes) -> Iterator[bytes]:
    """Splits an Annex B byte stream into NAL units.

    >>> [nal.hex() for nal in nals(bytes.fromhex("00000001 6742 000001 65ff"))]
    ['6742', '65ff']
    """
    starts = [match.end() for match in _START_CODE.finditer(annex_b)]
    for start, stop in zip(starts, [*(s - 3 for s in starts[1:]), len(annex_b)], strict=True):
        yield annex_b[start:stop].rstrip(b"\x00")


def blank_gop() -> tuple[list[Coded], bytes, bytes]:
    """Encodes two GOPs of a tiny black picture; returns them with SPS and PPS.

    Two, so that repeating them is a valid stream: consecutive IDR pictures must differ in
    idr_pic_id (H.264, 7.4.3).
    """
    width, height = BLANK_SIZE
    encoder = H264(width, height)
    black = np.zeros((height, width, 3), np.uint8)
    coded = [encoder.encode(black) for _ in range(2 * GOP_FRAMES)]
    return coded, encoder.sps, encoder.pps
