"""NumPy's .npy files of strangers: no objects, and never more memory than the file has.

The format is that of numpy.lib.format; its header is matched, not evaluated.
"""

from __future__ import annotations

import math
import re

import fsspec
import numpy as np

from schemas.arrays import AnyArray
from schemas.errors import CorruptError, EmptyError, TruncatedError, UnreadableError

MAX_BYTES = 1 << 30
MAGIC = b"\x93NUMPY"
HEADER = re.compile(
    rb"\{'descr': '(?P<descr>[<>|=][biufS]\d{1,3})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(\d{1,15}L?,? ?){0,4})\),? ?\}\s*"
)


def load_npy(uri: str) -> AnyArray:
    """Reads one array of numbers or byte strings.

    Raises:
        DataError: the file cannot be read, is empty, holds objects or no array, is over
            1 GiB, or ends before its header says.
    """
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        with fs.open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(f"{uri}: cannot be read ({error}); check its permissions") from error
    if not content:
        raise EmptyError(f"{uri}: has no bytes; copy it again")
    return parse_npy(content, uri)


def parse_npy(content: bytes, uri: str) -> AnyArray:
    """Parses the bytes of an .npy file; `uri` names it in messages.

    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.arange(6).reshape(2, 3))
    >>> parse_npy(file.getvalue(), "x").tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    if len(content) > MAX_BYTES:
        raise CorruptError(f"{uri}: is over {MAX_BYTES} bytes, more than a channel can have")
    if not content.startswith(MAGIC[: len(content)]):
        raise CorruptError(f"{uri}: does not start as an .npy file does; copy it again")
    # Version 1 gives the header's length in 2 bytes, later ones in 4.
    body = 10 if content[6:7] == b"\x01" else 12
    if len(content) < body:
        raise TruncatedError(f"{uri}: ends inside its .npy header; copy it again")
    end = body + int.from_bytes(content[8:body], "little")
    if end > len(content):
        raise TruncatedError(f"{uri}: ends inside its .npy header; copy it again")
    match = HEADER.fullmatch(content[body:end])
    if match is None:
        raise CorruptError(
            f"{uri}: byte {body}: {content[body : min(end, body + 80)]!r} is no header of plain "
            "numbers; save the array without objects or fields"
        )
    try:
        dtype = np.dtype(match["descr"].decode("ascii"))
    except TypeError as error:
        raise CorruptError(f"{uri}: byte {body}: no such type {match['descr']!r}") from error
    shape = tuple(int(size) for size in re.findall(rb"\d+", match["shape"]))
    need = math.prod(shape) * dtype.itemsize
    if not dtype.itemsize or math.prod(max(size, 1) for size in shape) > MAX_BYTES:
        raise CorruptError(f"{uri}: byte {body}: no array can be {dtype.str}{list(shape)}")
    if need > len(content) - end:
        raise TruncatedError(
            f"{uri}: its header promises {need} bytes of {dtype.str}{list(shape)}, "
            f"{len(content) - end} follow it; copy it again"
        )
    flat: AnyArray = np.frombuffer(content, dtype, count=math.prod(shape), offset=end)
    return flat.reshape(shape, order="F" if match["fortran"] == b"True" else "C")
