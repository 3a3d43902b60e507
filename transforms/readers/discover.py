"""Discovery: walks inputs, tells which files are logs of which format, and accounts for all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from schemas.errors import (
    DataError,
    UnreadableError,
    UnrecognisedError,
    UnsupportedError,
    UsageError,
)
from schemas.ids import digest
from schemas.records import Count, LogRef, Member, Reject
from transforms.readers import FORMATS, HEAD_BYTES, Claim, Reader, Tree

TAIL_BYTES = 16 << 10
THREADS = 16
MAX_DEPTH = 64

RECORDING_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts",
    ".hevc", ".h265", ".265", ".h264", ".264",
    ".mcap", ".bag", ".db3", ".mf4", ".mdf", ".blf", ".asc", ".trc",
)  # fmt: skip
"""Files that look like recordings: unclaimed, they are rejects and not just filtered."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What the inputs hold. Every file is kept, filtered or rejected, by `counts`.

    Logs are in the order of (format, name, uri), rejects in their own.
    """

    logs: tuple[LogRef, ...]
    rejects: tuple[Reject, ...]
    counts: tuple[Count, ...]


def discover(inputs: Sequence[str], only: str | None = None) -> Discovery:
    """Finds the logs in folders and files.

    A log reached twice, or copied, is one log: its identity is its content.

    Args:
        inputs: addresses that fsspec opens.
        only: the one format to look for; every format if None.

    Raises:
        UsageError: an input does not exist, or `only` is no format.
    """
    names = list(FORMATS) if only is None else [only]
    readers: list[Reader] = [FORMATS.load(name)() for name in names]
    seen: set[str] = set()
    logs: list[LogRef] = []
    rejects: set[Reject] = set()
    for uri in inputs:
        tree, refused = _listed(uri)
        rejects.update(refused)
        seen.update(_uris(tree))
        seen.update(reject.uri for reject in refused)
        found, bad = _claimed(tree, readers)
        logs += found
        rejects.update(bad)
    distinct: dict[str, LogRef] = {}
    for log in sorted(logs, key=lambda log: (log.format, log.name, log.uri)):
        distinct.setdefault(log.log_id, log)
    kept = {member.uri for log in distinct.values() for member in log.members}
    # A file of one input's log may look unclaimable where another input cuts its folder off.
    final = sorted(reject for reject in rejects if reject.uri not in kept)
    rejected = {reject.uri for reject in final}
    count = Count("discover", "files", len(kept), len(seen - kept - rejected), len(rejected))
    return Discovery(tuple(distinct.values()), tuple(final), (count,))


def _uris(tree: Tree) -> set[str]:
    return {tree.uri(path) for path in tree.paths}


def _listed(uri: str) -> tuple[Tree, list[Reject]]:
    """Lists one input, a folder or a file.

    Raises:
        UsageError: there is no such thing.
    """
    try:
        fs, root = fsspec.core.url_to_fs(uri)
        top = fs.info(root)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"input {uri!r} does not exist; check its spelling") from error
    except (ValueError, ImportError) as error:
        raise UsageError(f"input {uri!r} cannot be opened: {error}") from error
    except OSError as error:
        tree = Tree(LocalFileSystem(), "/", {})
        return tree, [_unreadable(uri, error)]
    if top["type"] != "directory" and not fs.isdir(root):
        parent, _, name = root.rpartition("/")
        return Tree(fs, parent, {name: int(top["size"] or 0)}), []
    sizes: dict[str, int] = {}
    rejects: list[Reject] = []
    tree = Tree(fs, root, {})
    for path, size, reject in _walk(tree, fs):
        if reject is not None:
            rejects.append(reject)
        else:
            sizes[path] = size
    return Tree(fs, root, sizes), rejects


def _walk(tree: Tree, fs: AbstractFileSystem) -> Iterator[tuple[str, int, Reject | None]]:
    """Yields (path, size, None) of every file, or a reject for what cannot be listed."""
    local = isinstance(fs, LocalFileSystem)
    visited: set[str] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        where = tree.where(folder)
        if local:
            real = os.path.realpath(where)
            if real in visited:
                continue
            visited.add(real)
        try:
            entries = fs.ls(where, detail=True)
        except OSError as error:
            yield folder, 0, _unreadable(tree.uri(folder), error)
            continue
        for entry in sorted(entries, key=lambda entry: str(entry["name"]), reverse=True):
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            path = f"{folder}/{name}".lstrip("/")
            if not name or tree.where(path) == where:
                # Object stores list a folder's own marker among its files.
                continue
            bad = _unusable_name(path)
            if bad:
                printable = path.encode("utf-8", "backslashreplace").decode()
                named = UnsupportedError(f"{tree.uri(printable)}: {bad}; rename the file")
                yield path, 0, Reject.of(named, uri=tree.uri(printable), stage="discover")
            elif entry["type"] == "directory" or (
                entry.get("islink") and fs.isdir(tree.where(path))
            ):
                if path.count("/") < MAX_DEPTH:
                    waiting.append(path)
                else:
                    deep = UnsupportedError(f"{tree.uri(path)}: over {MAX_DEPTH} folders deep")
                    yield path, 0, Reject.of(deep, uri=tree.uri(path), stage="discover")
            elif entry["type"] == "file" or (
                entry.get("islink") and not (local and _is_odd(tree.where(path)))
            ):
                yield path, int(entry["size"] or 0), None
            else:
                odd = UnsupportedError(f"{tree.uri(path)}: a device or pipe, not a file")
                yield path, 0, Reject.of(odd, uri=tree.uri(path), stage="discover")


def _is_odd(where: str) -> bool:
    """Tells whether a link leads to a pipe or a device: opening one may wait for ever."""
    path = Path(where)
    return path.exists() and not path.is_file()


def _unusable_name(path: str) -> str | None:
    """Tells why a path could not be opened again by its address, if so."""
    if "::" in path or "://" in path:
        return "its name reads as a chained address"
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return None


def _unreadable(uri: str, error: OSError) -> Reject:
    told = UnreadableError(
        f"{uri}: cannot be listed ({error.strerror or error}); check its permissions"
    )
    return Reject.of(told, uri=uri, stage="discover")


def _claimed(tree: Tree, readers: Sequence[Reader]) -> tuple[list[LogRef], list[Reject]]:
    """Lets each format claim what the ones before it left; the rest is filtered or rejected."""
    logs: list[LogRef] = []
    rejects: list[Reject] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for reader in readers:
            claims = reader.claim(tree)
            wanted = sorted({path for claim in claims for path in claim.paths})
            edges: dict[str, str] = {}
            for path, edge in zip(wanted, pool.map(partial(_edges, tree), wanted), strict=True):
                if isinstance(edge, DataError):
                    rejects.append(Reject.of(edge, uri=tree.uri(path), stage="discover"))
                else:
                    edges[path] = edge
            for claim in claims:
                log = _log(reader.name, tree, claim, edges)
                if log is not None:
                    logs.append(log)
            tree = tree.without(wanted)
    for path in tree.paths:
        if path.lower().endswith(RECORDING_SUFFIXES) and "EncryptedClips" not in path.split("/"):
            stray = UnrecognisedError(
                f"{tree.uri(path)}: looks like a recording, no format claims it; "
                f"formats tried: {', '.join(reader.name for reader in readers)}"
            )
            rejects.append(Reject.of(stray, uri=tree.uri(path), stage="discover"))
    return logs, rejects


def _edges(tree: Tree, path: str) -> str | DataError:
    """Digests a file's first 4 KiB and last 16 KiB, or says why it cannot be read."""
    size = tree.size(path)
    try:
        edges = hashlib.sha256(tree.head(path))
        if size > HEAD_BYTES:
            start = max(size - TAIL_BYTES, HEAD_BYTES)
            edges.update(tree.fs.cat_file(tree.where(path), start=start, end=size))
    except UnreadableError as error:
        return error
    except OSError as error:
        return UnreadableError(f"{tree.uri(path)}: cannot be read ({error.strerror or error})")
    return edges.hexdigest()


def _log(format_: str, tree: Tree, claim: Claim, edges: dict[str, str]) -> LogRef | None:
    """Makes a claim a log of its readable members, or None if there are none."""
    members = sorted(
        (Member(path.removeprefix(claim.base), tree.uri(path), tree.size(path)), edges[path])
        for path in claim.paths
        if path in edges
    )
    if not members:
        return None
    fingerprint = digest(*((member.name, member.size, edge) for member, edge in members))
    return LogRef(
        format_, claim.name, claim.uri, tuple(member for member, _ in members), fingerprint
    )
