"""Untrusted .npy files: no Python objects, and no more memory than the file has bytes.

The format is described in numpy.lib.format. The header is matched, not evaluated.
"""

from __future__ import annotations

import math
import re

import numpy as np

from schemas.arrays import AnyArray
from schemas.errors import CorruptError, EmptyError, TruncatedError, UnreadableError
from transforms.storage import filesystem

MAX_BYTES = 1 << 30
MAGIC = b"\x93NUMPY"
HEADER = re.compile(
    rb"\{'descr': '(?P<descr>[<>|=][biufS]\d{1,3})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(\d{1,15}L?,? ?){0,4})\),? ?\}\s*"
)


def load_npy(uri: str) -> AnyArray:
    """Reads one array of numbers or byte strings.

    Raises:
        DataError: the file cannot be read, is empty, is not an array of numbers or byte
            strings, is over 1 GiB, or is shorter than its header states.
    """
    fs, path = filesystem(uri)
    try:
        with fs.open(path, mode="rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(f"{uri}: cannot be read ({error}); check its permissions") from error
    if not content:
        raise EmptyError(f"{uri}: has no bytes; copy it again")
    return parse_npy(content, uri)


def parse_npy(content: bytes, uri: str) -> AnyArray:
    """Parses the bytes of an .npy file; messages call it `uri`.

    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.arange(6).reshape(2, 3))
    >>> parse_npy(file.getvalue(), "x").tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    if len(content) > MAX_BYTES:
        raise CorruptError(f"{uri}: is over {MAX_BYTES} bytes; split the array")
    if not content.startswith(MAGIC[: len(content)]):
        raise CorruptError(f"{uri}: starts with {content[:6]!r}, not an .npy file; copy it again")
    # The header's length has 2 bytes in version 1, and 4 in later ones.
    body = 10 if content[6:7] == b"\x01" else 12
    if len(content) < body:
        raise TruncatedError(f"{uri}: ends inside its .npy header; copy it again")
    end = body + int.from_bytes(content[8:body], "little")
    if end > len(content):
        raise TruncatedError(f"{uri}: ends inside its .npy header; copy it again")
    match = HEADER.fullmatch(content[body:end])
    if match is None:
        raise CorruptError(
            f"{uri}: byte {body}: {content[body : min(end, body + 80)]!r} is not the header of an "
            "array of plain numbers; save the array without objects or fields"
        )
    try:
        dtype = np.dtype(match["descr"].decode("ascii"))
    except TypeError as error:
        raise CorruptError(
            f"{uri}: byte {body}: unknown type {match['descr']!r}; save the array again"
        ) from error
    shape = tuple(int(size) for size in re.findall(rb"\d+", match["shape"]))
    need = math.prod(shape) * dtype.itemsize
    if not dtype.itemsize or math.prod(max(size, 1) for size in shape) > MAX_BYTES:
        raise CorruptError(
            f"{uri}: byte {body}: {dtype.str}{list(shape)} is over the limit of {MAX_BYTES} "
            "elements, or has elements of no bytes; save the array again"
        )
    if need > len(content) - end:
        raise TruncatedError(
            f"{uri}: its header states {need} bytes of {dtype.str}{list(shape)}, "
            f"{len(content) - end} follow; copy it again"
        )
    flat: AnyArray = np.frombuffer(content, dtype, count=math.prod(shape), offset=end)
    return flat.reshape(shape, order="F" if match["fortran"] == b"True" else "C")
