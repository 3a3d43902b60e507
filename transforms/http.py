"""Web servers for fsspec: whole files and ranges of them, and listings that stay in their folder.

Credentials are fsspec's configuration or the environment's, never part of a URL:

    ~/.netrc, or the file NETRC       user and password by host
    FSSPEC_HTTP                       '{"headers": {"Authorization": "Bearer ..."}}', for every host
    HTTP_PROXY, HTTPS_PROXY           proxies

What a server refuses is an OSError in one line, without the secrets that a redirection may hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import aiohttp
from fsspec.asyn import _run_coros_in_chunks
from fsspec.implementations.http import HTTPFileSystem
from fsspec.spec import AbstractBufferedFile

from schemas.errors import StoreError, one_line

_DENIED = {401, 403, 407}
_BEYOND = 416
_PARTIAL = 206

_DEEPEST, _MOST_FOLDERS = 66, 100_000
"""Folders below a folder that are listed: a server may link a folder from itself."""

_NAVIGATION = re.compile(r"(?:[?#]|.*/[?#]|\.{1,2}(?:/|\Z))")
"""Links of a listing that name no file: to sort it, and to the folder above."""


class HttpStore(HTTPFileSystem):  # type: ignore[misc] # fsspec is not typed
    """fsspec's file system with sizes in listings, and errors that are OSErrors."""

    def __init__(self, **options: Any) -> None:
        """Takes the options of fsspec's file system, which go before the defaults."""
        client = {"trust_env": True, **(options.pop("client_kwargs", None) or {})}
        super().__init__(client_kwargs=client, **options)

    async def _ls_real(self, url: str, detail: bool = True, **own: Any) -> list[Any]:
        with _worded(url):
            found = await super()._ls_real(url, detail=False, **own)
        folder = f"{url.rstrip('/')}/"
        names = sorted(
            name for name in found if name.startswith(folder) and _is_below(name, folder)
        )
        if not detail:
            return names
        kinds = ("file", "directory")
        return [{"name": n, "size": None, "type": kinds[n.endswith("/")]} for n in names]

    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, **own: Any
    ) -> Any:
        """Finds files; that of fsspec leaves out folders that it cannot list."""
        del maxdepth, withdirs
        names: set[str] = set()
        waiting, listed = [(path, 0)], 0
        while waiting:
            folder, depth = waiting.pop()
            listed += 1
            if listed > _MOST_FOLDERS:
                raise StoreError(f"{path}: over {_MOST_FOLDERS} folders; name one below it")
            try:
                found = await self._ls_real(folder, detail=False)
            except FileNotFoundError:
                if folder == path:
                    raise
                continue  # a link to nowhere
            names.update(name for name in found if not name.endswith("/"))
            folders = [name for name in found if name.endswith("/")]
            waiting += [(name, depth + 1) for name in folders if depth < _DEEPEST]
        if not names and await self._isfile(path):
            names = {path}
        if not own.get("detail"):
            return sorted(names)
        ordered = sorted(names)
        entries = await _run_coros_in_chunks([self._entry(name) for name in ordered])
        return dict(zip(ordered, entries, strict=True))

    async def _entry(self, url: str) -> dict[str, Any]:
        """Describes a file of a listing; reading one that cannot be had says why."""
        try:
            return await self._info(url)
        except OSError:
            return {"name": url, "size": None, "type": "file"}

    async def _info(self, url: str, **own: Any) -> dict[str, Any]:
        with _worded(url):
            try:
                found: dict[str, Any] = await super()._info(url, **own)
            except FileNotFoundError as error:  # fsspec's word for any failure
                raise error.__cause__ or error from None
        if "Last-Modified" in found:
            found["LastModified"] = found["Last-Modified"]
        return found

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, **own: Any
    ) -> bytes:
        if start is None and end is None:
            with _worded(url):
                content: bytes = await super()._cat_file(url, **own)
            return content
        options = {**self.kwargs, **own}
        with _worded(url):
            limits = await self._process_limits(url, start, end)
            headers = {**options.pop("headers", {}), "Range": limits}
            session = await self.set_session()
            async with session.get(self.encode_url(url), headers=headers, **options) as answer:
                if answer.status == _BEYOND:
                    return b""
                self._raise_not_found_for_status(answer, url)
                if answer.status == _PARTIAL:
                    return bytes(await answer.read())
                if start or end is None:
                    raise StoreError(
                        f"{url}: the server cannot send a part of a file; serve it by one that "
                        "answers requests for ranges"
                    )
                return await _first(answer, end)

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **own: Any
    ) -> AbstractBufferedFile:
        if mode != "rb":
            raise OSError(f"{path}: a web server takes no files")
        if block_size == 0:  # fsspec's word for a stream, whose size need not be known
            with _worded(path):
                return super()._open(path, mode, block_size=0, **own)
        size = self.info(path)["size"]
        if size is None:
            raise StoreError(f"{path}: the server does not say how large the file is")
        cache = own.get("cache_type") or self.cache_type
        return _RangeFile(
            self, path, block_size=block_size or self.block_size, cache_type=cache, size=size
        )


class _RangeFile(AbstractBufferedFile):  # type: ignore[misc] # fsspec is not typed
    """A file that is read by ranges."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = self.fs.cat_file(self.path, start=start, end=end)
        return content


def _is_below(name: str, folder: str) -> bool:
    """Tells whether a link of a listing leads into the folder, and not to a view of it."""
    link = name.removeprefix(folder)
    inside = ".." not in unquote(re.split(r"[?#]", link, maxsplit=1)[0]).split("/")
    return bool(link) and inside and not _NAVIGATION.match(link)


async def _first(answer: aiohttp.ClientResponse, size: int) -> bytes:
    """Reads the first bytes of an answer that holds the whole file."""
    content = b""
    while len(content) < size and (block := await answer.content.read(size - len(content))):
        content += block
    return content


@contextmanager
def _worded(url: str) -> Iterator[None]:
    """Makes an OSError of what aiohttp raises; that there is no such file stays as it is."""
    try:
        yield
    except aiohttp.ClientResponseError as error:
        if error.status == 404:
            raise FileNotFoundError(url) from error
        cure = (
            "put user and password into ~/.netrc, or a header into FSSPEC_HTTP"
            if error.status in _DENIED
            else "try again later, or look at the server"
        )
        raise StoreError(
            f"{url}: the server says {error.status} {error.message}; {cure}"
        ) from error
    except aiohttp.ClientError as error:
        what = one_line(error) or type(error).__name__
        raise StoreError(f"{url}: {what}; check the address and the network") from error
    except TimeoutError as error:
        raise StoreError(f"{url}: the server does not answer; check the network") from error
