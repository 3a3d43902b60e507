"""Packs: ordinary tar archives of samples, each of which is a byte range that can be copied.

The bytes of a sample depend only on its key and members: not on its offset in a pack, the
clock, the user or the machine. A shard is therefore the concatenated ranges of its samples,
followed by the end of an archive. The format is ustar (POSIX.1-1988, IEEE Std 1003.1 "pax",
section "ustar Interchange Format"), with regular files only.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from schemas.errors import CorruptError

BLOCK = tarfile.BLOCKSIZE
END_OF_ARCHIVE = b"\0" * (2 * BLOCK)

# In WebDataset, the key ends at the first dot of a name.
_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SUFFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_MAX_NAME = tarfile.LENGTH_NAME
_MAX_BYTES = 8**11 - 1


@dataclass(frozen=True, slots=True)
class PackRange:
    """The range of one sample in a pack: `length` bytes at `offset`, and their SHA-256."""

    offset: int
    length: int
    sha256: str


def tar_members(key: str, members: Mapping[str, bytes]) -> bytes:
    """Builds the tar bytes of one sample: for each member a header, its bytes, padding.

    Args:
        key: name of the sample; letters, digits, "_" and "-".
        members: bytes by suffix; a member's name in the archive is "<key>.<suffix>".
            Members are sorted by suffix.

    Raises:
        ValueError: a name that the format or a loader would change, a member of 8 GiB or
            more, or no members.

    >>> len(tar_members("k", {"json": b"{}"}))
    1024
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"sample key {key!r} must be letters, digits, '_' and '-' only")
    if not members:
        raise ValueError(f"sample {key!r} has no members")
    pieces = []
    for suffix in sorted(members):
        body = members[suffix]
        pieces += [_header(key, suffix, len(body)), body, b"\0" * (-len(body) % BLOCK)]
    return b"".join(pieces)


def _header(key: str, suffix: str, size: int) -> bytes:
    name = f"{key}.{suffix}"
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"member {name!r}: the suffix must be words joined by dots")
    if len(name) > _MAX_NAME:
        raise ValueError(f"member {name!r} has {len(name)} characters; ustar holds {_MAX_NAME}")
    if size > _MAX_BYTES:
        raise ValueError(f"member {name!r} has {size} bytes; ustar holds {_MAX_BYTES}")
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def read_sample(block: bytes) -> dict[str, bytes]:
    """Returns the members of one sample by suffix: the inverse of `tar_members`.

    Raises:
        CorruptError: the bytes are not exactly one sample.

    >>> read_sample(tar_members("k", {"json": b"{}"}))
    {'json': b'{}'}
    """
    return _parse(block)[1]


def sample_key(block: bytes) -> str:
    """Returns the key of one sample, whose bytes are checked as by `read_sample`.

    >>> sample_key(tar_members("k", {"json": b"{}"}))
    'k'
    """
    return _parse(block)[0]


def first_key(block: bytes | memoryview) -> str:
    """Returns the key of the first member of a sample; nothing else of it is looked at.

    >>> first_key(tar_members("k", {"json": b"{}"}))
    'k'

    Raises:
        CorruptError: the bytes do not begin with a tar header.
    """
    return _read_header(block, 0).name.partition(".")[0]


def _read_header(block: bytes | memoryview, offset: int) -> tarfile.TarInfo:
    try:
        header = bytes(block[offset : offset + BLOCK])
        return tarfile.TarInfo.frombuf(header, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise CorruptError(
            f"sample: no tar header at byte {offset} of {len(block)}: {error}; write the pack again"
        ) from error


def _parse(block: bytes) -> tuple[str, dict[str, bytes]]:
    members: dict[str, bytes] = {}
    keys: set[str] = set()
    offset = 0
    while offset < len(block):
        header = _read_header(block, offset)
        key, _, suffix = header.name.partition(".")
        end = offset + BLOCK + header.size
        if header.size < 0 or end > len(block):
            raise CorruptError(
                f"sample: member {header.name!r} at byte {offset} claims {header.size} bytes, "
                f"{len(block) - offset - BLOCK} are left; write the pack again"
            )
        keys.add(key)
        members[suffix] = block[offset + BLOCK : end]
        offset = end + -end % BLOCK
    if len(keys) != 1 or tar_members(key := keys.pop(), members) != block:
        raise CorruptError(
            f"sample: {len(block)} bytes are not exactly one sample; write the pack again"
        )
    return key, members


class PackWriter:
    """Writes samples to a tar archive.

    Args:
        out: an open binary file; `close` ends the archive and leaves the file open.
    """

    def __init__(self, out: BinaryIO | io.BytesIO) -> None:
        self._out = out
        self._offset = 0

    def add(self, key: str, members: Mapping[str, bytes]) -> PackRange:
        """Appends one sample and returns its range."""
        block = tar_members(key, members)
        self._out.write(block)
        written = PackRange(self._offset, len(block), hashlib.sha256(block).hexdigest())
        self._offset += len(block)
        return written

    def close(self) -> None:
        """Ends the archive."""
        self._out.write(END_OF_ARCHIVE)
