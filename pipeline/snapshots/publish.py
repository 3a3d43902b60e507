"""Publishing: a planned selection becomes an immutable snapshot of a corpus.

    corpora/<name>/latest.json            which snapshot was published last
    corpora/<name>/<snapshot>/            named by a digest of what it holds
        train/*.tar, val/*.tar            shards: byte ranges of packs, put together
        samples.parquet, labels.parquet   where each sample lies, and what is in it
        plan.json                         which unit of the machine reads what
        card.md                           what a person wants to know first
        manifest.json                     every file with its hash; written last

A folder without manifest.json is not published. Nothing in it knows where the lake lies
or what time it is, so equal selections give equal bytes anywhere.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from pipeline.topologies.planner import Plan
from schemas.errors import LakeError, UsageError
from schemas.ids import Canonical, canonical, digest
from transforms.corpora import CORPORA, ShardDigest
from transforms.parquet import encode
from transforms.storage import filesystem, names, normal, put, replacing, resolve

MANIFEST_FORMAT = 1
MANIFEST = "manifest.json"
LATEST = "latest.json"
PLACED = ("event_id", "sha256", "split", "shard", "position", "offset", "length")
"""The columns of samples.parquet that say what bytes lie where."""

Range = tuple[str, int, int, str]
"""A sample in a pack: pack URI (relative to the lake, or absolute), offset, length, SHA-256."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MANIFEST_KEYS = {
    "name": str,
    "snapshot": str,
    "root": str,
    "splits": dict,
    "metadata": dict,
    "files": list,
}
_READING = (
    'Shards are WebDataset tars: `webdataset.WebDataset("train/000000.tar")`. samples.parquet '
    "says where each sample lies, labels.parquet what is in it, plan.json which unit reads "
    "which ranges of shards. `fleetmill verify` recomputes every hash in manifest.json."
)
_READ_BYTES = 64 << 20
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Manifest:
    """What manifest.json says; `document` is all of it, `root` its hash."""

    url: str
    name: str
    snapshot: str
    root: str
    document: Mapping[str, Any]


def snapshot_url(lake_url: str, name: str, snapshot: str) -> str:
    """Returns where a snapshot lies.

    Raises:
        UsageError: the corpus' name is not one.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a corpus' name is small letters, digits, '_' and '-', up to 64: not {name!r}"
        )
    return f"{normal(lake_url)}/corpora/{name}/{snapshot}"


def snapshot_id(samples: pa.Table, plan: Plan, metadata: Mapping[str, Canonical]) -> str:
    """Names a snapshot by what it holds: samples and their bytes, in their places, the plan.

    Args:
        samples: what goes to samples.parquet (see `publish`).
        plan: its plan.
        metadata: what the manifest says beside.
    """
    return document_id(samples, plan.document, metadata)


def document_id(
    samples: pa.Table, plan: Mapping[str, Canonical], metadata: Mapping[str, Canonical]
) -> str:
    """Does as `snapshot_id`, for a plan that was read from plan.json."""
    columns: list[Canonical] = [
        sha256("\n".join(map(str, samples.column(name).to_pylist())).encode()).hexdigest()
        for name in PLACED
    ]
    return digest("snapshot", MANIFEST_FORMAT, columns, plan, metadata)


def is_published(url: str) -> bool:
    """Tells whether a snapshot's folder has its manifest."""
    return MANIFEST in names(url)


def assemble_shard(
    lake_url: str, out_uri: str, ranges: Sequence[Range], form: str = "webdataset"
) -> ShardDigest:
    """Puts a shard together from byte ranges of packs, checking each sample's hash.

    The shard appears under its name when it is whole. A second thread hashes the samples
    while the corpus format writes and hashes the shard.

    Args:
        lake_url: what relative pack URIs are relative to.
        out_uri: the shard.
        ranges: the samples, in order.
        form: a name in CORPORA.

    Raises:
        LakeError: a pack is gone, too short, or not what it was.
    """
    corpus = CORPORA.load(form)()
    with (
        ThreadPoolExecutor(1) as hasher,
        contextlib.closing(_parts(normal(lake_url), ranges)) as parts,
        replacing(out_uri) as out,
    ):
        written: ShardDigest = corpus.assemble(_checked(parts, ranges, hasher), out)
    return written


def _checked(
    parts: Iterable[memoryview], ranges: Sequence[Range], hasher: ThreadPoolExecutor
) -> Iterator[memoryview]:
    waiting: deque[tuple[Range, Future[str]]] = deque()
    for part, wanted in zip(parts, ranges, strict=True):
        waiting.append((wanted, hasher.submit(_hash, part)))
        yield part
        while len(waiting) > _AHEAD:
            _compare(*waiting.popleft())
    for wanted, found in waiting:
        _compare(wanted, found)


def _hash(part: memoryview) -> str:
    return sha256(part).hexdigest()


def _compare(wanted: Range, found: Future[str]) -> None:
    uri, offset, length, expected = wanted
    if found.result() != expected:
        raise LakeError(
            f"pack {uri}, bytes {offset} to {offset + length}: SHA-256 {found.result()}, the "
            f"samples table says {expected}; label these events again"
        )


def _parts(lake_url: str, ranges: Sequence[Range]) -> Generator[memoryview, None, None]:
    """Yields the bytes of each range; packs on a local disk are mapped, not read."""
    fs, _ = filesystem(lake_url)
    urls = [resolve(lake_url, uri) for uri, *_ in ranges]
    if isinstance(fs, LocalFileSystem) and not any("://" in url for url in urls):
        yield from _mapped(urls, ranges)
    else:
        yield from _fetched(urls, ranges)


def _mapped(urls: Sequence[str], ranges: Sequence[Range]) -> Iterator[memoryview]:
    maps: dict[str, memoryview] = {}
    for url, (_, offset, length, _) in zip(urls, ranges, strict=True):
        if url not in maps:
            try:
                with Path(url).open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # ValueError: an empty file
                raise LakeError(f"pack {url}: {error}; label its events again") from error
            maps[url] = memoryview(mapped)
        yield _whole(url, offset, length, maps[url][offset : offset + length])


def _fetched(urls: Sequence[str], ranges: Sequence[Range]) -> Iterator[memoryview]:
    """Reads ranges many at a time, neighbours in one piece."""
    for batch in _batches(urls, ranges):
        fs, _ = filesystem(batch[0][0])
        try:
            blocks = fs.cat_ranges(
                [fs._strip_protocol(url) for url, _, _, _ in batch],
                [start for _, start, _, _ in batch],
                [end for _, _, end, _ in batch],
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
                yield _whole(url, offset, length, view[at : at + length])


_Piece = tuple[str, int, int, list[tuple[int, int]]]


def _batches(urls: Sequence[str], ranges: Sequence[Range]) -> Iterator[list[_Piece]]:
    batch: list[_Piece] = []
    size = 0
    for url, (_, offset, length, _) in zip(urls, ranges, strict=True):
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


def _whole(url: str, offset: int, length: int, part: memoryview) -> memoryview:
    if len(part) != length:
        raise LakeError(
            f"pack {url} ends within the sample at bytes {offset} to {offset + length}; "
            "label these events again"
        )
    return part


def publish(
    lake_url: str,
    name: str,
    snapshot: str,
    *,
    plan: Plan,
    samples: pa.Table,
    labels: pa.Table,
    shards: Mapping[str, ShardDigest],
    metadata: Mapping[str, Canonical],
) -> Manifest:
    """Writes what goes with the shards, and the manifest, which publishes the snapshot.

    A snapshot that is published already stays as it is, and becomes the latest again.

    Args:
        lake_url: the lake; the shards are in the snapshot's folder (see `snapshot_url`).
        name: the corpus.
        snapshot: its id (see `snapshot_id`).
        plan: what was planned.
        samples: where each sample lies, in the order of the plan's placements: the columns
            of PLACED and any others. Goes to samples.parquet as it is.
        labels: the boxes of the samples' events. Goes to labels.parquet as it is.
        shards: by path, what `assemble_shard` returned.
        metadata: payload, privacy, what was asked for; JSON.

    Raises:
        LakeError: the shards are not those of the plan.
    """
    url = snapshot_url(lake_url, name, snapshot)
    if not is_published(url):
        _check_shards(url, samples, shards)
        small = {
            "samples.parquet": encode(samples),
            "labels.parquet": encode(labels),
            "plan.json": canonical(plan.document),
            "card.md": _card(name, snapshot, plan, samples, metadata).encode(),
        }
        files: list[dict[str, Any]] = [
            {"path": path, "bytes": shard.bytes, "sha256": shard.sha256, "samples": shard.samples}
            for path, shard in shards.items()
        ]
        for path, content in small.items():
            put(f"{url}/{path}", content)
            hashed = sha256(content).hexdigest()
            files.append({"path": path, "bytes": len(content), "sha256": hashed})
        document: dict[str, Any] = {
            "format": MANIFEST_FORMAT,
            "name": name,
            "snapshot": snapshot,
            "topology": plan.topology.name,
            "splits": split_totals(samples),
            "metadata": dict(metadata),
            "files": sorted(files, key=lambda file: str(file["path"])),
        }
        document["root"] = root_hash(document)
        put(f"{url}/{MANIFEST}", canonical(document))
    make_latest(lake_url, name, snapshot)
    return read_manifest(url)


def make_latest(lake_url: str, name: str, snapshot: str) -> None:
    """Points the corpus at one of its published snapshots."""
    folder = snapshot_url(lake_url, name, snapshot).rpartition("/")[0]
    put(f"{folder}/{LATEST}", canonical({"snapshot": snapshot}))


def read_manifest(url: str) -> Manifest:
    """Reads the manifest of a published snapshot.

    Raises:
        LakeError: there is none, or it is not a manifest of this format.
    """
    fs, path = filesystem(f"{url}/{MANIFEST}")
    try:
        document = json.loads(fs.cat_file(path), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise LakeError(f"{url} has no {MANIFEST}: it is not published") from error
    except (ValueError, RecursionError) as error:
        raise LakeError(f"{url}/{MANIFEST} is not JSON: {error}; publish it again") from error
    if not (isinstance(document, dict) and document.get("format") == MANIFEST_FORMAT):
        raise LakeError(f"{url}/{MANIFEST} is not a manifest of format {MANIFEST_FORMAT}")
    for key, kind in _MANIFEST_KEYS.items():
        if not isinstance(document.get(key), kind):
            raise LakeError(f"{url}/{MANIFEST}: {key!r} must be a {kind.__name__}")
    return Manifest(url, document["name"], document["snapshot"], document["root"], document)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def root_hash(document: Mapping[str, Any]) -> str:
    """Hashes a manifest, which lists every file and its hash, without its own `root`."""
    rest = {key: value for key, value in document.items() if key != "root"}
    return sha256(canonical(rest)).hexdigest()


def _check_shards(url: str, rows: pa.Table, shards: Mapping[str, ShardDigest]) -> None:
    planned = Counter(rows.column("shard").to_pylist())
    made = {path: shard.samples for path, shard in shards.items()}
    for path in sorted(planned.keys() | made.keys()):
        if planned[path] != made.get(path, 0):
            raise LakeError(
                f"{url}/{path}: {made.get(path, 0)} samples were written, {planned[path]} planned"
            )


def split_totals(rows: pa.Table) -> dict[str, dict[str, int]]:
    """Counts samples, bytes, shards and drives of each split."""
    wanted = [("event_id", "count"), ("length", "sum"), ("shard", "count_distinct")]
    wanted += [("drive_id", "count_distinct")] if "drive_id" in rows.column_names else []
    keys = {
        "event_id_count": "samples",
        "length_sum": "bytes",
        "shard_count_distinct": "shards",
        "drive_id_count_distinct": "drives",
    }
    found = rows.group_by("split").aggregate(wanted).sort_by("split").to_pylist()
    return {row["split"]: {keys[key]: row[key] for key in keys if key in row} for row in found}


def _card(
    name: str, snapshot: str, plan: Plan, rows: pa.Table, metadata: Mapping[str, Canonical]
) -> str:
    splits: Any = plan.document["splits"]
    lines = [
        f"# {name}",
        "",
        f"Snapshot `{snapshot}`, planned for {plan.topology.name}: {plan.topology.description}.",
        "",
        "| split | samples | bytes | shards | samples a unit | read twice | worst unit over mean |",
        "|---|---|---|---|---|---|---|",
    ]
    for split in sorted(splits):
        s = splits[split]
        cells = (split, s["samples"], s["bytes"], s["shards"], s["samples_per_unit"])
        lines.append("| " + " | ".join(map(str, (*cells, s["repeated"], s["imbalance"]))) + " |")
    if "trigger" in rows.column_names:
        lines += ["", "| trigger | samples |", "|---|---|"]
        counts = Counter(rows.column("trigger").to_pylist())
        lines += [f"| {trigger} | {counts[trigger]} |" for trigger in sorted(counts)]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| {key} | `{_cell(metadata[key])}` |" for key in sorted(metadata)]
    lines += ["", _READING, ""]
    return "\n".join(lines)


def _cell(value: Canonical) -> str:
    text = value if isinstance(value, str) else canonical(value).decode()
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())
