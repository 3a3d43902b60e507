"""Whole objects at URLs, wherever fsspec reaches: read, written, listed and removed.

A file under its final name is always complete: local files are written beside it and
renamed, and object stores show an upload once it is complete. Names that start with
TEMPORARY are files still being written, or left over from a process that died; readers
skip them.

Time spent in the store is charged to the steps `read` and `put` of transforms.timing.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import LakeError, StoreError, UsageError, one_line
from transforms.addresses import missing
from transforms.timing import step

TEMPORARY = ".tmp-"

_STORES = {
    "s3": "transforms.s3.S3Store",
    "s3a": "transforms.s3.S3Store",
    "http": "transforms.http.HttpStore",
    "https": "transforms.http.HttpStore",
}
# Also for URLs that others open, and imported for the first of them.
for _protocol, _store in _STORES.items():
    fsspec.register_implementation(_protocol, _store, clobber=True)

_TAKES_NO_MORE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EMFILE, errno.ENFILE,
    errno.EACCES, errno.EPERM,
}  # fmt: skip
_ATTEMPTS = 5


class FileSystem(Protocol):
    """What is used of fsspec's file systems, with fsspec's names.

    What an implementation adds of its own may stand between fsspec's arguments, as the version
    does in s3fs' `cat_file`: so all but paths and content are given by keyword.
    """

    protocol: str | tuple[str, ...]

    def cat_file(
        self, path: str, /, *, start: int | None = None, end: int | None = None, **own: Any
    ) -> bytes:
        """Reads an object, or its bytes [start, end); the last ones for a negative start."""

    def cat_ranges(
        self,
        paths: list[str],
        /,
        *,
        starts: list[int],
        ends: list[int | None],
        on_error: str = "return",
    ) -> list[bytes]:
        """Reads ranges of objects, on remote stores many at a time."""

    def pipe_file(self, path: str, value: bytes, /, *, mode: str = "overwrite") -> object:
        """Writes an object; FileExistsError where `mode` is "create" and there is one."""

    def put_file(self, lpath: str, rpath: str, /) -> object:
        """Copies a local file to an object."""

    def get_file(self, rpath: str, lpath: str, /) -> object:
        """Copies an object to a local file."""

    def open(self, path: str, /, *, mode: str = "rb", **own: Any) -> BinaryIO:
        """Opens an object."""

    def info(self, path: str, /) -> dict[str, Any]:
        """Describes an object or folder: `type` and `size` at least."""

    def size(self, path: str, /) -> int | None:
        """Returns the size of an object in bytes."""

    def modified(self, path: str, /) -> datetime:
        """Returns when an object was written last."""

    def exists(self, path: str, /) -> bool:
        """Tells whether there is an object or folder."""

    def isdir(self, path: str, /) -> bool:
        """Tells whether there is a folder."""

    def makedirs(self, path: str, /, *, exist_ok: bool = False) -> object:
        """Makes a folder."""

    def ls(self, path: str, /, *, detail: bool) -> list[Any]:
        """Lists a folder: names, or descriptions as `info` gives them."""

    def find(self, path: str, /, *, detail: bool = False) -> Any:
        """Lists the objects below a folder: names, or descriptions by name."""

    def unstrip_protocol(self, name: str, /) -> str:
        """Returns the URL of a path."""

    def rm(self, path: str | list[str], /, *, recursive: bool = False) -> object:
        """Deletes objects, or a folder."""

    def rm_file(self, path: str, /) -> object:
        """Deletes an object."""


def normal(url: str) -> str:
    """Makes a URL absolute, without a trailing slash; local URLs become plain paths.

    >>> normal("s3://bucket/lake/"), normal("file:///lake")
    ('s3://bucket/lake', '/lake')
    """
    if url.startswith("file://"):
        url = url.removeprefix("file://")
    if "://" in url:
        return url.rstrip("/")
    return str(Path(url).absolute())


def filesystem(url: str) -> tuple[FileSystem, str]:
    """Returns the fsspec file system of a URL and the path in it.

    It remembers no listing: another process may have written meanwhile.

    Raises:
        UsageError: the URL is none, or needs a package that is not installed.
        StoreError: there is no connection.
    """
    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise UsageError(f"{url}: {missing(url, error)}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {one_line(error)}; correct the URL") from error
    except StoreError:
        raise
    except OSError as error:  # some connect at once
        raise StoreError(f"{url}: {one_line(error)}; check the URL and the network") from error
    return fs, path


def is_local(url: str) -> bool:
    """Tells whether a URL names a file or folder of this machine's own file system."""
    return isinstance(filesystem(url)[0], LocalFileSystem)


def get(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Reads an object, or its bytes [start, end); fewer where the object ends before.

    Raises:
        FileNotFoundError: there is no such object.
        OSError: it cannot be read, or is no regular file.
    """
    fs, path = filesystem(url)
    with step("read"):
        _check_regular(fs, path)
        if end is not None and end <= (start or 0):  # HTTP has no empty range
            fs.info(path)
            return b""
        # By keyword: the second positional argument of s3fs is a version id.
        return fs.cat_file(path, start=start, end=end, **_whole(fs))


def _whole(fs: FileSystem) -> dict[str, int]:
    """Keeps s3fs from asking for an object's size before it reads the object."""
    return {"max_concurrency": 1} if "s3" in fs.protocol else {}


def check_own(*urls: str) -> None:
    """Checks that local files of a lake are regular files: reading a FIFO may never end.

    Nor may one be a link, which may lead out of the lake.

    Args:
        urls: at least one, all on one file system.

    Raises:
        OSError: one is something else, or does not exist.
    """
    if is_local(urls[0]):
        for path in urls:
            mode = os.lstat(path.removeprefix("file://")).st_mode
            if not stat.S_ISREG(mode):
                what = "a link, which may lead out of the lake" if stat.S_ISLNK(mode) else "no file"
                raise OSError(errno.EINVAL, f"not a regular file: {what}", path)


def get_own(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Reads an object of a lake, see `get` and `check_own`."""
    check_own(url)
    return get(url, start, end)


def _check_regular(fs: FileSystem, path: str) -> None:
    if isinstance(fs, LocalFileSystem) and not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)


@contextlib.contextmanager
def replacing(url: str) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under its name when the block ends without error.

    For a remote store the file is gathered on the local disk and uploaded at the end: a
    file that fsspec opens for writing is uploaded when it is closed, also after an error,
    and fsspec's transactions are shared by all threads of a process.
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with _writing(url), _beside(Path(path)) as (out, temporary):
            yield out
            with step("put"):
                out.close()
                temporary.replace(path)
        return
    with tempfile.TemporaryDirectory(prefix="fleetmill-") as folder:
        temporary = Path(folder) / "upload"
        with temporary.open("xb") as out:
            yield out
        with step("put"):
            fs.put_file(str(temporary), path)


@contextlib.contextmanager
def _writing(url: str) -> Iterator[None]:
    """Makes one line of a store that takes no more files: no input is at fault."""
    try:
        yield
    except OSError as error:
        if error.errno not in _TAKES_NO_MORE:
            raise
        raise LakeError(
            f"{url} cannot be written: {error.strerror}; "
            "make room, raise the limit or get the permission, and run the same command again"
        ) from error


def _make_folder(folder: Path) -> None:
    for _ in range(_ATTEMPTS):
        # It fails where another process removes the folder while it finds that it is there.
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    _make_folder(target.parent)
    # A random name, because another host may run the same process ids.
    temporary = target.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as out:
            yield out, temporary
    finally:
        temporary.unlink(missing_ok=True)


def _until_folder_stays(write: Callable[[], None]) -> None:
    """Repeats a write whose folder another process deletes meanwhile; object stores have none."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            write()
            return
    write()


def _replace(url: str, content: bytes) -> None:
    with replacing(url) as out:
        out.write(content)


def _link(url: str, path: Path, content: bytes) -> None:
    with _writing(url), _beside(path) as (out, temporary):
        out.write(content)
        out.close()
        # A hard link is the one local call that is both complete and exclusive.
        os.link(temporary, path)


def put(url: str, content: bytes) -> None:
    """Writes an object, replacing one that is there."""
    with step("put"):
        fs, path = filesystem(url)
        if isinstance(fs, LocalFileSystem):
            _until_folder_stays(lambda: _replace(url, content))
        else:
            fs.pipe_file(path, content)


def put_new(url: str, content: bytes) -> bool:
    """Writes an object unless one is there; returns whether it did.

    One of the same content counts as written by this call: an answer may have been lost, and
    the request repeated. To know which of several callers wrote it, let it hold something of
    the caller's own.
    """
    fs, path = filesystem(url)
    try:
        with step("put"):
            if isinstance(fs, LocalFileSystem):
                _until_folder_stays(lambda: _link(url, Path(path), content))
            else:
                fs.pipe_file(path, content, mode="create")
    except FileExistsError:
        try:
            return get(url) == content
        except FileNotFoundError:  # deleted since
            return False
    return True


@functools.cache
def reach(url: str) -> None:
    """Checks, once a process, that the store of a URL answers and lets this process list.

    Raises:
        StoreError: it does not; the message says why.
    """
    if not is_local(url):
        names(url)


def exists(url: str) -> bool:
    """Tells whether there is an object."""
    fs, path = filesystem(url)
    try:
        return str(fs.info(path)["type"]) == "file"
    except (FileNotFoundError, NotADirectoryError):
        return False


def names(url: str) -> list[str]:
    """Lists the names in a folder, sorted; none if there is no such folder."""
    fs, path = filesystem(url)
    try:
        found = fs.ls(path, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in found)


def times(url: str) -> dict[str, float]:
    """Lists the files below a folder and when each was written; none if there is no such folder.

    Returns:
        Path below the folder to seconds since 1970, by the clock of the store.
    """
    fs, path = filesystem(url)
    found = {}
    for entry in fs.find(path, detail=True).values():
        at = next(entry[key] for key in ("mtime", "LastModified", "created") if key in entry)
        name = str(entry["name"])[len(path) :].lstrip("/")
        found[name] = float(at) if isinstance(at, int | float) else at.timestamp()
    return found


def delete(url: str) -> bool:
    """Deletes a file; returns whether this call did."""
    fs, path = filesystem(url)
    try:
        fs.rm_file(path)
    except FileNotFoundError:
        return False
    return True


def remove(url: str) -> None:
    """Deletes a folder and everything in it; does nothing if it is not there.

    If another process adds files meanwhile, the folder may stay, with those files in it.
    """
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        found = fs.find(path)
        if found:
            fs.rm(found)
        return
    for _ in range(_ATTEMPTS):
        try:
            fs.rm(path, recursive=True)
        except FileNotFoundError:
            if not fs.exists(path):
                return
        except OSError as error:
            # A folder that another process made or filled between two of fsspec's calls.
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR}:
                raise
