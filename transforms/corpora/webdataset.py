"""WebDataset shards: tar archives in which files with the same key are one sample.

A sample `KEY` has the files:

    KEY.<camera>.mp4         one clip per camera, or
    KEY.<camera>.0000.jpg    one picture per frame
    KEY.pictures.json        the sizes of the cameras, how they were encoded, the times of frames
    KEY.signals.npz          arrays by name
    KEY.json                 the event, its log and its labels

The format is described at https://github.com/webdataset/webdataset. Its loader splits a name
at the first dot and converts the rest to lower case; camera names are escaped accordingly.
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
"""Decimals of numbers in JSON: a tenth of a millimetre of latitude, without rounding noise."""

_SAFE = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_MAX_CAMERA = 40
_HASHING = 4
"""Parts that may wait to be hashed, and stay in memory until then."""


class WebDataset:
    """The corpus format `webdataset`."""

    name: ClassVar[str] = "webdataset"
    suffix: ClassVar[str] = ".tar"

    def members(self, sample: Sample) -> dict[str, bytes]:
        """Returns the files of a sample, or of a part of one, by suffix.

        `pictures.json` holds what is said of the pictures and, if there are frames,
        `frame_t_ns`: their times by camera.
        """
        members: dict[str, bytes] = {}
        for camera, clip in sample.clips.items():
            members[f"{member_name(camera)}.mp4"] = clip
        for camera, pictures in sample.frames.items():
            for index, (_, jpeg) in enumerate(pictures):
                members[f"{member_name(camera)}.{index:04d}.jpg"] = jpeg
        if sample.pictures is not None:
            said = dict(sample.pictures)
            if sample.frames:
                said["frame_t_ns"] = {
                    camera: [t_ns for t_ns, _ in pictures]
                    for camera, pictures in sample.frames.items()
                }
            members["pictures.json"] = canonical(rounded(said))
        if sample.signals is not None:
            members["signals.npz"] = npz(sample.signals)
        if sample.metadata is not None:
            members["json"] = canonical(rounded(sample.metadata))
        return members

    def assemble(self, parts: Iterable[bytes | memoryview], out: BinaryIO) -> ShardDigest:
        """Writes a shard: the parts, each the tar bytes of one sample, and the end of archive.

        Returns:
            The shard's size, hash and number of samples.
        """
        sha256 = hashlib.sha256()
        size = samples = 0
        # Hashing is as expensive as writing, and both release the GIL.
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
    """Returns the name of a camera in file names, unchanged if it is safe.

    Names that tar or a loader would change, or that are too long, are cleaned and get a
    digest, so that names stay distinct.

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

    `numpy.savez` writes the current time into each entry; here every entry is dated
    1980-01-01, uncompressed, little-endian and in C order, and entries are sorted by name.

    Raises:
        ValueError: an array holds Python objects, which would need pickle.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name], order="C")
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.create_system = 3  # Unix, on every operating system.
            body = io.BytesIO()
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            np.save(body, little, allow_pickle=False)
            archive.writestr(entry, body.getvalue())
    return out.getvalue()


def rounded(value: Any) -> Canonical:
    """Returns a value as the `json` of a sample holds it."""
    if isinstance(value, Mapping):
        return {str(key): rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [rounded(inner) for inner in value]
    if isinstance(value, float | np.floating):
        # Adding 0.0 converts -0.0 to 0.0. JSON has no NaN and no infinity.
        return round(float(value), DECIMALS) + 0.0 if math.isfinite(value) else None
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"JSON cannot represent a {type(value).__name__}: {value!r}")
