"""Discovery: lists inputs, groups files into logs, and accounts for every file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from schemas.errors import (
    DataError,
    InternalError,
    OutsideError,
    StoreError,
    UnreadableError,
    UnrecognisedError,
    UnsupportedError,
    UsageError,
    one_line,
)
from schemas.ids import digest
from schemas.records import Count, LogRef, Member, Reject
from schemas.redaction import bare, has_secret
from transforms.addresses import check_bare
from transforms.isolation import described
from transforms.links import leaves
from transforms.readers import (
    FORMATS,
    HEAD_BYTES,
    VIDEO_SUFFIXES,
    Claim,
    Format,
    Tree,
    is_encrypted,
)
from transforms.readers.checks import UNFIT
from transforms.storage import FileSystem, filesystem

TAIL_BYTES = 16 << 10
THREADS = 16
MAX_DEPTH = 64
_CACHES = {"simplecache", "filecache", "blockcache"}
"""Protocols of fsspec behind which a file has the address that it has without them."""

_LITTER = frozenset(
    {
        ".trashes", ".trash", "$recycle.bin", "recycler", "#recycle", "@eadir", "__macosx",
        ".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100",
        "system volume information", "lost+found", ".thumbnails",
    }
)  # fmt: skip
"""Folders of systems, in small letters: bins, indexes, previews."""

_LINK = "a link that leads out of the input; follow it by --follow-links, or copy what it leads to"

RECORDING_SUFFIXES = (
    *VIDEO_SUFFIXES, ".mcap", ".bag", ".db3", ".mf4", ".mdf", ".blf", ".asc", ".trc",
)  # fmt: skip
"""Suffixes of recordings: unclaimed files with these are rejected, all others are filtered."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """A log that is known by its listing; no byte of it has been read."""

    log_id: str
    format: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """The logs in the inputs; `counts` accounts for every file as kept, filtered or rejected.

    Logs are sorted by (format, name, uri), rejects by their fields. A link that is not followed is
    one file, which is rejected; `notes` says how many there are.
    """

    logs: tuple[LogRef, ...]
    known: tuple[Recognised, ...]
    rejects: tuple[Reject, ...]
    counts: tuple[Count, ...]
    notes: tuple[str, ...]


Recognise = Callable[[Sequence[str]], Mapping[str, str]]
"""Given `LogRef.listing` of many logs, returns the log ids of those that are known."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A claimed log; `log` is None if it is known by its listing."""

    format: str
    name: str
    uri: str
    log_id: str
    members: tuple[str, ...]
    log: LogRef | None


def discover(
    inputs: Sequence[str],
    only: str | None = None,
    recognise: Recognise = lambda _listings: {},
    *,
    follow_links: bool = False,
) -> Discovery:
    """Finds the logs in folders and files.

    A log that is reached twice, or that has copies, is found once: its identity is its
    content. What is found for an input lies in it, unless `follow_links`.

    Args:
        inputs: URLs or paths that fsspec opens, without credentials.
        only: the one format to look for; every format if None.
        recognise: tells which logs are known, so that they need not be read: by default none.
        follow_links: follow links that lead out of an input too.

    Raises:
        UsageError: an input does not exist or holds a secret, or `only` is not a format.
    """
    names = list(FORMATS) if only is None else [only]
    readers: list[Format] = [FORMATS.load(name)() for name in names]
    seen: set[str] = set()
    logs: list[_Found] = []
    rejects: set[Reject] = set()
    for uri in inputs:
        tree, unlisted = _list_input(uri, follow_links)
        rejects.update(unlisted)
        seen.update(tree.uri(path) for path in tree.paths)
        seen.update(reject.uri for reject in unlisted)
        litter = [path for path in tree.paths if _is_litter(path) and tree.uri(path) != uri]
        if litter:
            tree = tree.without(litter)
        found, unusable = _claim_logs(tree, readers, recognise)
        logs += found
        rejects.update(unusable)
    distinct: dict[str, _Found] = {}
    for log in sorted(logs, key=lambda log: (log.format, log.name, log.uri)):
        distinct.setdefault(log.log_id, log)
    kept = {uri for log in distinct.values() for uri in log.members}
    # A member of a log in one input may be unclaimed in another that starts inside its folder.
    final = sorted(reject for reject in rejects if reject.uri not in kept)
    rejected = {reject.uri for reject in final}
    count = Count("discover", "files", len(kept), len(seen - kept - rejected), len(rejected))
    return Discovery(
        tuple(found.log for found in distinct.values() if found.log is not None),
        tuple(Recognised(f.log_id, f.format) for f in distinct.values() if f.log is None),
        tuple(final),
        (count,),
        tuple(_not_followed(final)),
    )


def _not_followed(rejects: Iterable[Reject]) -> Iterator[str]:
    number = sum(reject.reason == OutsideError.reason for reject in rejects)
    if number:
        yield (
            f"{number} links lead out of the inputs and were not followed, see the table rejects; "
            "--follow-links follows them"
        )


def _list_input(uri: str, follow_links: bool) -> tuple[Tree, list[Reject]]:
    """Lists one input, a folder or a file.

    Raises:
        UsageError: the input does not exist, or its URL holds a secret.
    """
    check_bare("input", uri)
    if "::" in uri and uri.partition("::")[0] not in _CACHES:
        raise UsageError(
            f"input {uri!r}: later jobs cannot open what is in an archive by its address; unpack it"
        )
    try:
        fs, root = filesystem(uri)
        if not isinstance(fs, LocalFileSystem):
            return _list_store(fs, root)
        top = fs.info(root)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"input {uri!r} does not exist; check its spelling") from error
    except ValueError as error:
        raise UsageError(f"input {uri!r} cannot be opened: {one_line(error)}") from error
    except OSError as error:
        tree = Tree(LocalFileSystem(), "/", {})
        return tree, [_unreadable(uri, error)]
    if top["type"] != "directory" and not fs.isdir(root):
        return _one_file(fs, root, top), []
    return _tree(fs, root, _walk(Tree(fs, root, {}), fs, follow_links))


def _list_store(fs: FileSystem, root: str) -> tuple[Tree, list[Reject]]:
    """Lists a folder, or one file, of a store that is not a local disk.

    An object store lists a thousand objects at a time, whatever folders they are in.
    """
    listing: dict[str, dict[str, Any]] = fs.find(root, detail=True)
    # A folder may have a marker of its own.
    found = {name: entry for name, entry in listing.items() if not name.endswith("/")}
    where = root.rstrip("/")
    if not found:
        raise FileNotFoundError(root)
    if list(found) == [where]:
        return _one_file(fs, where, found[where]), []
    tree = Tree(fs, root, {})
    listed: list[tuple[str, Mapping[str, Any] | Reject]] = []
    for name, entry in found.items():
        path = name.removeprefix(where).lstrip("/")
        if ".." in path.split("/") or not name.startswith(where and f"{where}/"):
            listed.append((path, _outside(name, "listed, but not in the input; move it there")))
            continue
        refused = _too_deep(tree, path) if path.count("/") > MAX_DEPTH else _refused(tree, path)
        listed.append((path, refused or entry))
    return _tree(fs, root, listed)


def _one_file(fs: FileSystem, root: str, entry: Mapping[str, Any]) -> Tree:
    parent, _, name = root.rpartition("/")
    return Tree(fs, parent, *_sizes_and_marks({name: entry}))


def _tree(
    fs: FileSystem, root: str, listed: Iterable[tuple[str, Mapping[str, Any] | Reject]]
) -> tuple[Tree, list[Reject]]:
    """Makes a tree of listed files, and lists what cannot be one."""
    files: dict[str, Mapping[str, Any]] = {}
    rejects: list[Reject] = []
    for path, found in listed:
        if isinstance(found, Reject):
            rejects.append(found)
        else:
            files[path] = found
    return Tree(fs, root, *_sizes_and_marks(files)), rejects


def _refused(tree: Tree, path: str) -> Reject | None:
    """Returns why a path's name is not taken, None if it is."""
    if problem := _name_problem(path):
        printable = path.encode("utf-8", "backslashreplace").decode()
        return _unsupported(tree.uri(printable), f"{problem}; rename the file")
    if has_secret(tree.uri(path)):
        problem = "listed with a query, which may be a signature and would be stored"
        return _unsupported(bare(tree.uri(path)), f"{problem}; serve it without")
    return None


def _outside(uri: str, problem: str) -> Reject:
    return Reject.of(OutsideError(f"{uri}: {problem}"), uri=uri, stage="discover")


def _too_deep(tree: Tree, path: str) -> Reject:
    return _unsupported(tree.uri(path), f"over {MAX_DEPTH} folders deep; move it up")


def _sizes_and_marks(
    files: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, int], dict[str, str]]:
    """Returns the sizes of listed files, and what changes in the listing when a file does."""
    sizes = {path: int(entry["size"] or 0) for path, entry in files.items()}
    marks = {}
    for path, entry in files.items():
        found = [entry[key] for key in ("ETag", "mtime", "ino", "LastModified") if key in entry]
        if found:
            marks[path] = " ".join(map(str, found))
    return sizes, marks


def _walk(
    tree: Tree, fs: LocalFileSystem, follow_links: bool
) -> Iterator[tuple[str, Mapping[str, Any] | Reject]]:
    """Yields each path with its entry of the listing, or a reject for what cannot be listed."""
    visited: set[str] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        where = tree.where(folder)
        real = os.path.realpath(where)
        if real in visited:
            continue
        visited.add(real)
        try:
            entries = fs.ls(where, detail=True)
        except OSError as error:
            yield folder, _unreadable(tree.uri(folder), error)
            continue
        for entry in sorted(entries, key=lambda entry: str(entry["name"]), reverse=True):
            name = str(entry["name"]).rpartition("/")[2]
            path = f"{folder}/{name}".lstrip("/")
            link = bool(entry.get("islink"))
            if refused := _refused(tree, path):
                yield path, refused
            elif link and not follow_links and leaves(tree.root, tree.where(path)):
                yield path, _outside(tree.uri(path), _LINK)
            elif entry["type"] == "directory" or (link and fs.isdir(tree.where(path))):
                if path.count("/") < MAX_DEPTH:
                    waiting.append(path)
                else:
                    yield path, _too_deep(tree, path)
            elif entry["type"] == "file" or (link and not _is_special(tree.where(path))):
                yield path, entry
            else:
                problem = "a device or pipe, not a file; remove it from the input"
                yield path, _unsupported(tree.uri(path), problem)


def _is_litter(path: str) -> bool:
    """Tells whether a file is none that somebody keeps: a bin's, a preview, or beside another.

    Where a disk cannot hold all that macOS notes of a file, `._NAME` beside it does.

    >>> _is_litter("TeslaCam/._a-front.mp4"), _is_litter("$RECYCLE.BIN/$R1.mp4")
    (True, True)
    >>> _is_litter("drive.mp4"), _is_litter(".hidden/_.mp4")
    (False, False)
    """
    *folders, name = path.lower().split("/")
    binned = any(folder in _LITTER or folder.startswith(".trash-") for folder in folders)
    return binned or name.startswith("._")


def _is_special(where: str) -> bool:
    """Tells whether a link leads to a pipe or a device: opening one may block for ever."""
    path = Path(where)
    return path.exists() and not path.is_file()


def _name_problem(path: str) -> str | None:
    """Returns why a path could not be reopened by its URI, or stored; None if it can."""
    if "::" in path or "://" in path:
        return "its name looks like a chained URL"
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if found := UNFIT.search(path):
        return f"its name holds the character U+{ord(found[0]):04X}"
    return None


def _unsupported(uri: str, problem: str) -> Reject:
    return Reject.of(UnsupportedError(f"{uri}: {problem}"), uri=uri, stage="discover")


def _unreadable(uri: str, error: OSError) -> Reject:
    said = (
        str(error)  # it names the place and the cure
        if isinstance(error, StoreError)
        else f"{uri}: cannot be listed ({error.strerror or error}); check its permissions"
    )
    return Reject.of(UnreadableError(said), uri=uri, stage="discover")


def _claim_logs(
    tree: Tree, readers: Sequence[Format], recognise: Recognise
) -> tuple[list[_Found], list[Reject]]:
    """Lets each format claim files in turn; unclaimed files are filtered or rejected."""
    logs: list[_Found] = []
    rejects: list[Reject] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for reader in readers:
            try:
                claims = reader.claim(tree)
            except Exception as error:  # noqa: BLE001 - a bug of one format costs its logs alone
                rejects.append(_bug(reader, tree, error))
                continue
            listings = [_listing(reader.name, tree, claim) for claim in claims]
            known = recognise([listing for listing in listings if listing])
            new: list[tuple[Claim, str]] = []
            for claim, listing in zip(claims, listings, strict=True):
                if listing not in known:
                    new.append((claim, listing))
                    continue
                members = tuple(map(tree.uri, claim.paths))
                place = (reader.name, claim.name, claim.uri)
                logs.append(_Found(*place, known[listing], members, None))
            wanted = sorted({p for claim, _ in new for p in claim.paths if p not in claim.shared})
            edges: dict[str, str] = {}
            for path, edge in zip(wanted, pool.map(partial(_edges, tree), wanted), strict=True):
                if isinstance(edge, DataError):
                    rejects.append(Reject.of(edge, uri=tree.uri(path), stage="discover"))
                else:
                    edges[path] = edge
            for claim, listing in new:
                log = _log(reader.name, tree, claim, edges, listing)
                if log is not None:
                    members = tuple(member.uri for member in log.members)
                    place = (log.format, log.name, log.uri)
                    logs.append(_Found(*place, log.log_id, members, log))
            tree = tree.without(path for c in claims for path in (*c.paths, *c.beside))
    for path in tree.paths:
        if path.lower().endswith(RECORDING_SUFFIXES) and not is_encrypted(path):
            unclaimed = UnrecognisedError(
                f"{tree.uri(path)}: looks like a recording, but no format claims it; "
                f"formats tried: {', '.join(reader.name for reader in readers)}"
            )
            rejects.append(Reject.of(unclaimed, uri=tree.uri(path), stage="discover"))
    return logs, rejects


def _edges(tree: Tree, path: str) -> str | DataError:
    """Digests a file's first 4 KiB and last 16 KiB, or returns why it cannot be read."""
    size = tree.size(path)
    try:
        edges = hashlib.sha256(tree.head(path))
        if size > HEAD_BYTES:
            start = max(size - TAIL_BYTES, HEAD_BYTES)
            edges.update(tree.fs.cat_file(tree.where(path), start=start, end=size))
    except UnreadableError as error:
        return error
    except OSError as error:
        return UnreadableError(
            f"{tree.uri(path)}: cannot be read ({error.strerror or error}); check its permissions"
        )
    return edges.hexdigest()


def _bug(reader: Format, tree: Tree, error: Exception) -> Reject:
    """Returns the reject of an input in which a format could not look for logs."""
    uri = tree.uri("")
    said = f"{uri}: the format {reader.name} cannot look for logs in it: {described(error)}"
    return Reject.of(InternalError(said), uri=uri, stage="discover")


def _listing(format_: str, tree: Tree, claim: Claim) -> str:
    """Digests what the listing says of a claim's files; "" if it would not show a change."""
    files = [[tree.uri(path), tree.size(path), tree.mark(path)] for path in claim.paths]
    return "" if any(mark is None for _, _, mark in files) else digest("listing", format_, files)


def _log(
    format_: str, tree: Tree, claim: Claim, edges: dict[str, str], listing: str
) -> LogRef | None:
    """Makes a log of a claim's files, or returns None if one of them cannot be read.

    The log without that file would have another identity once the file can be read.
    """
    own = [path for path in claim.paths if path not in claim.shared]
    if not all(path in edges for path in own):
        return None

    def member(path: str) -> Member:
        return Member(path.removeprefix(claim.base), tree.uri(path), tree.size(path))

    read = sorted((member(path), edges[path]) for path in own)
    basis = [claim.basis] if claim.basis else []
    fingerprint = digest(*((one.name, one.size, edge) for one, edge in read), *basis)
    found = tuple(sorted(map(member, claim.paths)))
    return LogRef(format_, claim.name, claim.uri, found, fingerprint, listing)
