"""Assembling: a shard is byte ranges of packs, each checked by its hash and its sample's key.

Packs on a local disk are mapped into memory. Those of a remote store are read many ranges
at a time, adjacent ranges in one request.
"""

from __future__ import annotations

import contextlib
import mmap
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from schemas.errors import CorruptError, LakeError
from transforms.corpora import CORPORA, ShardDigest
from transforms.corpora.pack import first_key
from transforms.storage import filesystem, is_local, normal, replacing
from transforms.timing import step

Range = tuple[str, int, int, str, str]
"""A part of a sample in a pack: pack URI, relative to the lake, offset, length, SHA-256, event."""

_PACK = re.compile(r"packs/[A-Za-z0-9_-]+\.tar")

_READ_BYTES = 64 << 20
"""Bytes of remote packs that are held at a time."""

_AHEAD = 4
"""Samples that may be written before their hashes are known."""


def assemble_shard(
    lake_url: str, out_uri: str, ranges: Sequence[Range], form: str = "webdataset"
) -> ShardDigest:
    """Writes a shard from byte ranges of packs, checking each sample's hash and key.

    The shard appears under its name once it is complete. A second thread hashes the samples
    while the corpus format writes and hashes the shard.

    Args:
        lake_url: the lake that has the packs.
        out_uri: the shard.
        ranges: the parts of the samples, in order.
        form: a name in CORPORA.

    Raises:
        LakeError: a pack is gone, too short, changed, or not a file of the lake, or holds
            another event's sample.
    """
    corpus = CORPORA.load(form)()
    with (
        ThreadPoolExecutor(1) as hasher,
        contextlib.closing(_parts(normal(lake_url), ranges)) as parts,
        replacing(out_uri) as out,
    ):
        written: ShardDigest = corpus.assemble(_checked(parts, ranges, hasher), out)
    return replace(written, samples=len({event_id for *_, event_id in ranges}))


def pack_url(lake_url: str, uri: str) -> str:
    """Returns where a pack is; a row of `samples` cannot name a file outside the lake's packs.

    >>> pack_url("/lake", "packs/a1.tar")
    '/lake/packs/a1.tar'

    Raises:
        LakeError: the URI is not `packs/<name>.tar`, or it is a link.
    """
    if not _PACK.fullmatch(uri):
        raise LakeError(
            f"pack {uri!r}: must be packs/<name>.tar in the lake {lake_url}; label its events again"
        )
    url = f"{lake_url}/{uri}"
    if not is_local(lake_url):
        return url
    path = Path(url)
    if path.is_symlink():
        raise LakeError(f"pack {url} is a link, which may lead out of the lake; copy the file")
    if path.exists() and not path.is_file():
        raise LakeError(f"pack {url} is not a regular file; label its events again")
    return url


def _checked(
    parts: Iterable[memoryview], ranges: Sequence[Range], hasher: ThreadPoolExecutor
) -> Iterator[memoryview]:
    """Yields the parts on, and raises once the key or hash of one is not that of its range."""
    waiting: deque[tuple[Range, Future[str]]] = deque()
    for part, wanted in zip(parts, ranges, strict=True):
        _check_key(wanted, part)
        waiting.append((wanted, hasher.submit(_hash, part)))
        yield part
        while len(waiting) > _AHEAD:
            _compare(*waiting.popleft())
    for wanted, found in waiting:
        _compare(wanted, found)


def _hash(part: memoryview) -> str:
    return sha256(part).hexdigest()


def _check_key(wanted: Range, part: memoryview) -> None:
    """Raises if the range is another event's: its hash may be right all the same."""
    uri, offset, length, _, event_id = wanted
    place = f"pack {uri}, bytes {offset} to {offset + length}"
    try:
        key = first_key(part)
    except CorruptError as error:
        raise LakeError(f"{place}: {error}") from error
    if key != event_id:
        raise LakeError(
            f"{place}: the sample of event {key}, which the samples table says is that of "
            f"{event_id}; `fleetmill verify` lists such rows"
        )


def _compare(wanted: Range, found: Future[str]) -> None:
    uri, offset, length, expected, _ = wanted
    if found.result() != expected:
        raise LakeError(
            f"pack {uri}, bytes {offset} to {offset + length}: SHA-256 {found.result()}, the "
            f"samples table says {expected}; label these events again"
        )


def _parts(lake_url: str, ranges: Sequence[Range]) -> Generator[memoryview, None, None]:
    """Yields the bytes of each range; packs on a local disk are mapped, not read."""
    packs = dict.fromkeys(uri for uri, *_ in ranges)
    checked = {uri: pack_url(lake_url, uri) for uri in packs}  # once a pack, not once a sample
    urls = [checked[uri] for uri, *_ in ranges]
    if is_local(lake_url):
        yield from _mapped(urls, ranges)
    else:
        yield from _fetched(urls, ranges)


def _mapped(urls: Sequence[str], ranges: Sequence[Range]) -> Iterator[memoryview]:
    """Yields ranges of files that are mapped into memory."""
    maps: dict[str, memoryview] = {}
    for url, (_, offset, length, *_) in zip(urls, ranges, strict=True):
        if url not in maps:
            try:
                with Path(url).open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # ValueError: an empty file
                raise LakeError(f"pack {url}: {error}; label its events again") from error
            maps[url] = memoryview(mapped)
        yield _checked_length(url, offset, length, maps[url][offset : offset + length])


def _fetched(urls: Sequence[str], ranges: Sequence[Range]) -> Iterator[memoryview]:
    """Reads many ranges at a time, adjacent ones in one piece."""
    for batch in _batches(urls, ranges):
        fs, _ = filesystem(batch[0][0])
        try:
            with step("read"):
                blocks = fs.cat_ranges(
                    [filesystem(url)[1] for url, _, _, _ in batch],
                    starts=[start for _, start, _, _ in batch],
                    ends=[end for _, _, end, _ in batch],
                    on_error="raise",
                )
        except OSError as error:
            raise LakeError(
                f"packs from {batch[0][0]} on: {error}; label their events again"
            ) from error
        for (url, start, _, members), block in zip(batch, blocks, strict=True):
            view = memoryview(block)
            for offset, length in members:
                at = offset - start
                yield _checked_length(url, offset, length, view[at : at + length])


_Piece = tuple[str, int, int, list[tuple[int, int]]]
"""One request: URL, start, end, and the (offset, length) of the samples in it."""


def _batches(urls: Sequence[str], ranges: Sequence[Range]) -> Iterator[list[_Piece]]:
    """Groups ranges into batches of about _READ_BYTES, merging adjacent ones."""
    batch: list[_Piece] = []
    size = 0
    for url, (_, offset, length, *_) in zip(urls, ranges, strict=True):
        if batch and size + length > _READ_BYTES:
            yield batch
            batch, size = [], 0
        size += length
        if batch and batch[-1][0] == url and batch[-1][2] == offset:
            _, start, _, members = batch[-1]
            batch[-1] = (url, start, offset + length, [*members, (offset, length)])
        else:
            batch.append((url, offset, offset + length, [(offset, length)]))
    if batch:
        yield batch


def _checked_length(url: str, offset: int, length: int, part: memoryview) -> memoryview:
    if len(part) != length:
        raise LakeError(
            f"pack {url} ends within the sample at bytes {offset} to {offset + length}; "
            "label these events again"
        )
    return part
