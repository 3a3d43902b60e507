"""WebDataset shards: tar archives in which files that share a key are one sample.

A sample `KEY` has the files:

    KEY.json                 metadata, and for frames their times
    KEY.signals.npz          arrays by name, if there are any
    KEY.<camera>.mp4         a clip a camera, or
    KEY.<camera>.0000.jpg    a picture a frame

The format is described at https://github.com/webdataset/webdataset. Its loader splits a name
at the first dot and lowers the case of what follows; camera names are made safe for that.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import zipfile
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, ClassVar

import numpy as np

from schemas.arrays import AnyArray
from schemas.ids import Canonical, canonical, digest
from transforms.corpora import Sample, ShardDigest
from transforms.corpora.pack import END_OF_ARCHIVE

DECIMALS = 9
"""Decimals of a number in JSON: a tenth of a millimetre of latitude, and no noise."""

_SAFE = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_MAX_CAMERA = 40
_HASHING = 4
"""Parts that may wait to be hashed: they stay in memory until they are."""


class WebDataset:
    """The corpus format `webdataset`."""

    name: ClassVar[str] = "webdataset"
    suffix: ClassVar[str] = ".tar"

    def members(self, sample: Sample) -> dict[str, bytes]:
        """Turns a sample into its files, by suffix.

        `json` is the sample's metadata and, for a sample of frames, `frame_t_ns`: by
        camera, the times of its pictures.
        """
        metadata = dict(sample.metadata)
        members: dict[str, bytes] = {}
        for camera, clip in sample.clips.items():
            members[f"{member_name(camera)}.mp4"] = clip
        for camera, pictures in sample.frames.items():
            for index, (_, jpeg) in enumerate(pictures):
                members[f"{member_name(camera)}.{index:04d}.jpg"] = jpeg
        if sample.frames:
            metadata["frame_t_ns"] = {
                member_name(camera): [t_ns for t_ns, _ in pictures]
                for camera, pictures in sample.frames.items()
            }
        if sample.signals:
            members["signals.npz"] = npz(sample.signals)
        members["json"] = canonical(_rounded(metadata))
        return members

    def assemble(self, parts: Iterable[bytes | memoryview], out: BinaryIO) -> ShardDigest:
        """Writes a shard: the parts, each one sample's bytes in tar, and the archive's end.

        Returns:
            The size, the hash and the number of samples of what was written.
        """
        sha256 = hashlib.sha256()
        size = samples = 0
        # Hashing is as dear as writing, and both let go of the interpreter's lock.
        with ThreadPoolExecutor(1) as hasher:
            hashing: deque[Future[None]] = deque()
            for part in parts:
                hashing.append(hasher.submit(sha256.update, part))
                out.write(part)
                size += len(part)
                samples += 1
                if len(hashing) > _HASHING:
                    hashing.popleft().result()
        out.write(END_OF_ARCHIVE)
        sha256.update(END_OF_ARCHIVE)
        return ShardDigest(size + len(END_OF_ARCHIVE), sha256.hexdigest(), samples)


def member_name(camera: str) -> str:
    """Names a camera's files: as the camera, where that is safe.

    A name that a tar or a loader would change, or that is too long, is cleaned and gets a
    digest, so that no two cameras share one.

    >>> member_name("left_repeater")
    'left_repeater'
    >>> member_name("/cam/Front")
    'cam-front-cd63e7'
    """
    if _SAFE.fullmatch(camera) and len(camera) <= _MAX_CAMERA:
        return camera
    words = re.findall(r"[a-z0-9_]+", camera.lower())
    return "-".join([*words, digest("camera", camera)[:6]])[-_MAX_CAMERA:].lstrip("-")


def npz(arrays: Mapping[str, AnyArray]) -> bytes:
    """Writes arrays as numpy's `.npz`, with equal bytes for equal arrays.

    `numpy.savez` stamps each entry with the clock; here every entry is of 1980-01-01,
    stored, little-endian, in C order, and sorted by name.

    Raises:
        ValueError: an array holds Python objects, which would need pickle.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name], order="C")
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.create_system = 3  # Unix, whatever system writes it.
            body = io.BytesIO()
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            np.save(body, little, allow_pickle=False)
            archive.writestr(entry, body.getvalue())
    return out.getvalue()


def _rounded(value: Any) -> Canonical:
    if isinstance(value, Mapping):
        return {str(key): _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float | np.floating):
        # Adding 0.0 turns -0.0 into 0.0; JSON has no NaN and no infinity.
        return round(float(value), DECIMALS) + 0.0 if math.isfinite(value) else None
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"JSON cannot carry a {type(value).__name__}: {value!r}")
