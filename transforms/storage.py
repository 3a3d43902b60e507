"""Whole objects at URLs: written at once or not at all, wherever fsspec reaches.

A file under its final name is always whole: local files are written beside it and
renamed, object stores publish a put when it is complete. A name that starts with
TEMPORARY is nobody's file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

TEMPORARY = ".tmp-"
_REMOVE_ATTEMPTS = 5


def normal(url: str) -> str:
    """Makes a URL absolute and free of a trailing slash; local ones become plain paths.

    >>> normal("s3://bucket/lake/"), normal("file:///lake")
    ('s3://bucket/lake', '/lake')
    """
    if url.startswith("file://"):
        url = url.removeprefix("file://")
    if "://" in url:
        return url.rstrip("/")
    return str(Path(url).absolute())


def is_url(uri: str) -> bool:
    """Tells an absolute URI (a URL or a rooted path) from a path relative to a lake."""
    return "://" in uri or Path(uri).is_absolute()


def resolve(root: str, uri: str) -> str:
    """Reads `uri` as relative to `root`, unless it is absolute.

    >>> resolve("/lake", "packs/a.tar"), resolve("/lake", "s3://b/a.tar")
    ('/lake/packs/a.tar', 's3://b/a.tar')
    """
    return uri if is_url(uri) else f"{root}/{uri}"


def filesystem(url: str) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL and the path in it."""
    fs, path = fsspec.core.url_to_fs(url)
    return fs, path


@contextlib.contextmanager
def replacing(url: str) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under its name when the block ends well."""
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        with fs.transaction, fs.open(path, "wb") as out:
            yield out
        return
    with _beside(Path(path)) as (out, temporary):
        yield out
        out.close()
        temporary.replace(path)


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name is random, for another host may have the same process ids; it never stays.
    temporary = target.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as out:
            yield out, temporary
    finally:
        temporary.unlink(missing_ok=True)


def put(url: str, content: bytes) -> None:
    """Writes a whole object, over one that may be there."""
    with replacing(url) as out:
        out.write(content)


def put_new(url: str, content: bytes) -> bool:
    """Writes a whole object unless one is there; says whether it did."""
    fs, path = filesystem(url)
    try:
        if isinstance(fs, LocalFileSystem):
            with _beside(Path(path)) as (out, temporary):
                out.write(content)
                out.close()
                # A hard link is the one local call that is whole and exclusive at once.
                os.link(temporary, path)
        else:
            fs.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    return True


def names(url: str) -> list[str]:
    """Lists the names in a folder, sorted; none where there is no folder."""
    fs, path = filesystem(url)
    try:
        found = fs.ls(path, detail=False, refresh=True)
    except FileNotFoundError:
        return []
    return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in found)


def remove(url: str) -> None:
    """Deletes a folder and all in it; nothing happens if it is not there.

    Where another process adds files meanwhile, the folder may stay, with these in it.
    """
    fs, path = filesystem(url)
    for _ in range(_REMOVE_ATTEMPTS):
        try:
            fs.rm(path, recursive=True)
        except FileNotFoundError:
            if not fs.exists(path):
                return
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
