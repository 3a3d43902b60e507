"""Files that others wrote and a user names, read within bounds: regular files, up to a size.

Configuration, CAN databases and weights of models are read here and nowhere else. A pipe, a
device or a socket is refused without opening it, a file is read no further than the limit,
and a server that never ends is left when the time is over.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import aiohttp
import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UsageError, one_line
from transforms.timing import step

TIME_LIMIT_S = 60.0
"""How long a file of configuration may take to arrive."""

_BLOCK_BYTES = 1 << 20
_HTTP = ("http://", "https://")
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe, as /dev/stdin and <(...) are"),
    (stat.S_ISSOCK, "a socket"),
    (lambda _: True, "a device"),
)


class RefusedError(ValueError):
    """A file that is not read; the message is the end of a line, after the file's name."""


def read_configuration(kind: str, url: str, limit: int) -> bytes:
    """Reads a file of configuration.

    Args:
        kind: what it is, in messages: "trigger", "--config".
        url: where it is, anywhere fsspec reads.
        limit: the most bytes that it may have.

    Raises:
        UsageError: it does not exist, cannot be read, is no regular file or is too long.
    """
    try:
        with step("read"):
            return b"".join(blocks(url, limit, TIME_LIMIT_S))
    except FileNotFoundError as error:
        raise UsageError(f"{kind} {url}: no such file; correct the path") from error
    except RefusedError as error:
        raise UsageError(f"{kind} {url}: {error}") from error
    except Exception as error:  # each store's client has errors of its own
        why = one_line(error) or type(error).__name__
        raise UsageError(
            f"{kind} {url}: cannot be read: {why}; check the path, its permissions and its store"
        ) from error


def blocks(url: str, limit: int, seconds: float) -> Iterator[bytes]:
    """Reads a file block by block, of a megabyte at most.

    Args:
        url: the file, anywhere fsspec reads.
        limit: the most bytes that it may have.
        seconds: the time in which all of it must have arrived.

    Raises:
        RefusedError: it is no regular file, or longer than `limit`.
        FileNotFoundError: there is no such file.
        TimeoutError: it takes longer than `seconds`.
        Exception: what the store's client raises.
    """
    found = 0
    end = time.monotonic() + seconds
    with _opened(url, seconds) as file:
        while block := file.read(min(_BLOCK_BYTES, limit + 1 - found)):
            found += len(block)
            if found > limit:
                raise RefusedError(f"longer than {limit} bytes; give a shorter file")
            if time.monotonic() > end:
                raise TimeoutError(f"not done after {seconds:g} s")
            yield block


@contextmanager
def _opened(url: str, seconds: float) -> Iterator[BinaryIO]:
    if url.startswith(_HTTP):
        timeout = aiohttp.ClientTimeout(
            total=seconds, connect=4, sock_connect=4, sock_read=min(30.0, seconds)
        )
        # The proxies of the environment are used, as pip does.
        client = {"timeout": timeout, "trust_env": True}
        fs, path = fsspec.core.url_to_fs(url, client_kwargs=client)
        # As a stream: a size or range that the server states may be wrong. With a size,
        # whatever it is, fsspec does not ask for it first.
        with fs.open(path, mode="rb", block_size=0, size=1) as file:
            yield file
        return
    _check_chain(url)
    fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    if isinstance(fs, LocalFileSystem):
        with _local(Path(path)) as file:
            yield file
        return
    with fs.open(path, mode="rb") as file:
        yield file


def _check_chain(url: str) -> None:
    """Checks what a chained URL, such as zip://x.toml::all.zip, is reached through.

    Raises:
        RefusedError: it is no regular file, or a server's, whose size nothing bounds.
    """
    for target in url.split("::")[1:]:
        if target.startswith(_HTTP):
            raise RefusedError("reached through another address; download that and name the copy")
        is_protocol = re.fullmatch(r"[a-z0-9]+", target)
        if target.startswith(("file://", "local://")) or not (is_protocol or "://" in target):
            _check_regular(Path(LocalFileSystem._strip_protocol(target)).stat().st_mode)


@contextmanager
def _local(path: Path) -> Iterator[BinaryIO]:
    _check_regular(path.stat().st_mode)
    # It may have become a pipe since: opening one would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        _check_regular(os.fstat(descriptor).st_mode)
        yield file


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next(name for is_kind, name in _KINDS if is_kind(mode))
        raise RefusedError(f"{kind}, and not a regular file; save it to a file and name that")
