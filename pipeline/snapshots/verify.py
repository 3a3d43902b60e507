"""Verifying a snapshot: every hash, count and range of it, recomputed.

Nothing is repaired: what cannot be read is one line of the report, and the rest is still
checked.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.snapshots.manifest import (
    LATEST,
    MANIFEST,
    PARTS_TYPE,
    PLACED,
    Manifest,
    document_id,
    latest_snapshots,
    read_manifest,
    root_hash,
    sample_hash,
    split_totals,
)
from pipeline.snapshots.publish import card
from pipeline.topologies.planner import PLAN_FORMAT, RANGE_FIELDS
from schemas.errors import DataError, LakeError, one_line
from transforms.corpora.pack import END_OF_ARCHIVE, sample_key
from transforms.links import check_links
from transforms.parquet import decode
from transforms.storage import TEMPORARY, check_own, filesystem, get_own, names

_TABLES = ("samples.parquet", "labels.parquet", "plan.json", "card.md")
_READ_BYTES = 1 << 22
_PATH = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")

_Place = tuple[str, int]
"""A sample by its shard and position."""


def check_corpus(url: str, checked: Counter[str]) -> Iterator[str]:
    """Yields what is wrong with a corpus: its snapshots, and the pointer to the latest.

    A folder without a manifest is being published, or its writer was killed: readers do not
    see it, so it is no fault.
    """
    try:
        for name in listed(url):
            if name.isalnum() and MANIFEST in listed(f"{url}/{name}"):
                snapshot = check_snapshot(f"{url}/{name}", checked)
                yield from (f"{name}: {problem}" for problem in snapshot)
        lake, _, corpus = url.rpartition("/corpora/")
        if lake and LATEST in names(url) and corpus not in latest_snapshots(lake):
            yield f"{LATEST} names a snapshot that is not published"
    except LakeError as error:
        yield str(error)


def check_snapshot(url: str, checked: Counter[str]) -> Iterator[str]:
    """Yields what is wrong with a snapshot."""
    try:
        manifest = read_manifest(url)
    except LakeError as error:
        yield str(error)
        return
    try:
        check_links(url, url, f"{url}/train", f"{url}/val")
    except OSError as error:
        yield one_line(error)
        return
    checked["snapshots"] += 1
    yield from _check_manifest(manifest)
    shards: dict[str, Mapping[str, Any]] = {}
    altered: set[str] = set()
    for entry in manifest.document["files"]:
        if not _is_entry(entry):
            yield f"{MANIFEST}: not a file entry: {str(entry)[:200]}"
        elif "samples" in entry:
            shards[entry["path"]] = entry
        elif found := [*_check_file(url, entry, checked)]:
            altered.add(entry["path"])
            yield from found
    try:
        yield from _check_strays(url, manifest)
        samples = _rows(f"{url}/samples.parquet")
        if broken := _unfit(samples):
            yield f"samples.parquet: these columns are absent, null or of a wrong type: {broken}"
            return
    except LakeError as error:
        yield str(error)
        return
    yield from _check_shards(url, shards, samples, checked)
    yield from _check_splits(manifest, samples)
    if {"plan.json", "card.md"} & altered:
        return
    try:
        plan = json.loads(read_bytes(f"{url}/plan.json"))
        yield from _check_plan(plan, samples)
        yield from _check_summary(url, plan, manifest, samples)
        metadata, form = manifest.document["metadata"], manifest.document["format"]
        if document_id(samples, plan, metadata, form) != manifest.snapshot:
            yield (
                f"{MANIFEST}: the snapshot's id {manifest.snapshot} is not that of its samples, "
                "plan and metadata"
            )
    except LakeError as error:
        yield str(error)
    except (ValueError, RecursionError) as error:
        yield f"plan.json: not JSON: {error}"


def _unfit(samples: pa.Table) -> list[str]:
    """Lists the columns of PLACED that are absent, of another type, or hold nulls."""
    types = dict.fromkeys(PLACED, pa.string())
    types |= dict.fromkeys(("position", "offset", "length"), pa.int64())
    if "parts" in samples.column_names:
        types["parts"] = PARTS_TYPE
    return [
        name
        for name, type_ in types.items()
        if name not in samples.column_names
        or samples.schema.field(name).type != type_
        or samples[name].null_count
        or (name == "parts" and not _are_whole(samples[name]))
    ]


def _are_whole(parts: pa.ChunkedArray) -> bool:
    """Tells whether every sample has parts, and every part its length and hash."""
    if not pc.all(pc.greater(pc.list_value_length(parts), 0)).as_py():
        return not len(parts)
    flat = pc.list_flatten(parts)
    fields = (pc.struct_field(flat, name) for name in ("length", "sha256"))
    return all(int(one.null_count) == 0 for one in fields)


def _check_manifest(manifest: Manifest) -> Iterator[str]:
    folder = manifest.url.rpartition("/")[2]
    if root_hash(manifest.document) != manifest.root:
        yield f"{MANIFEST}: altered: its root is not the hash of the rest"
    if manifest.snapshot != folder:
        yield f"{MANIFEST}: names snapshot {manifest.snapshot}, but is in the folder {folder}"
    lake, _, place = manifest.url.rpartition("/corpora/")
    if lake and manifest.name != place.partition("/")[0]:
        yield f"{MANIFEST}: is of the corpus {manifest.name}, but is in {place}"


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and isinstance(entry.get("sha256"), str)
        and type(entry.get("bytes")) is int
        and type(entry.get("samples", 0)) is int
        and _PATH.fullmatch(entry["path"]) is not None
    )


def _check_file(url: str, entry: Mapping[str, Any], checked: Counter[str]) -> Iterator[str]:
    path = entry["path"]
    try:
        content = read_bytes(f"{url}/{path}")
    except LakeError as error:
        yield str(error)
        return
    checked["files"] += 1
    checked["bytes"] += len(content)
    if len(content) != entry["bytes"]:
        yield f"{path}: has {len(content)} bytes, the manifest says {entry['bytes']}"
    elif sha256(content).hexdigest() != entry["sha256"]:
        yield f"{path}: altered: its SHA-256 is not the manifest's"


def _check_strays(url: str, manifest: Manifest) -> Iterator[str]:
    entries = manifest.document["files"]
    listed = {entry["path"] for entry in entries if _is_entry(entry)}
    for path in _TABLES:
        if path not in listed:
            yield f"{MANIFEST}: does not list {path}"
    fs, root = filesystem(url)
    for path in sorted(fs.find(root)):
        name = path.removeprefix(root).lstrip("/")
        if name.rpartition("/")[2].startswith(TEMPORARY):  # left by a writer that was killed
            continue
        if name != MANIFEST and name not in listed:
            yield f"{name}: is not in the manifest"


def _check_shards(
    url: str, shards: Mapping[str, Mapping[str, Any]], samples: pa.Table, checked: Counter[str]
) -> Iterator[str]:
    """Reads every shard once, sample by sample."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    columns = [*PLACED, *({"parts"} & {*samples.column_names})]
    for row in samples.select(columns).to_pylist():
        rows[row["shard"]].append(row)
    for path in sorted(rows.keys() | shards.keys()):
        if path not in shards:
            yield f"{path}: samples.parquet names this shard, the manifest does not"
            continue
        entry = shards[path]
        if entry["samples"] != len(rows[path]):
            yield (
                f"{path}: the manifest says {entry['samples']} samples, samples.parquet "
                f"{len(rows[path])}"
            )
        fs, place = filesystem(f"{url}/{path}")
        try:
            check_own(f"{url}/{path}")
            with fs.open(place, mode="rb") as file:
                yield from _check_shard(path, entry, rows[path], file)
        except OSError as error:
            yield f"{path}: cannot be read: {error}"
        checked["shards"] += 1
        checked["samples"] += len(rows[path])
        checked["bytes"] += entry["bytes"]


def _check_shard(
    path: str, entry: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], file: BinaryIO
) -> Iterator[str]:
    hashed, at = sha256(), 0
    ordered = sorted(rows, key=lambda row: row["offset"])
    for position, row in enumerate(ordered):
        place = f"{path}: sample {row['event_id']} at byte {row['offset']}"
        if row["offset"] != at or row["position"] != position or row["length"] <= 0:
            yield f"{place}: samples.parquet places it wrongly: the sample before ends at {at}"
            break
        if row["length"] > entry["bytes"]:
            yield f"{place}: claims {row['length']} bytes of a shard of {entry['bytes']}"
            break
        block = file.read(row["length"])
        hashed.update(block)
        at += len(block)
        if len(block) != row["length"]:
            yield f"{place}: the shard ends within it"
            break
        yield from (f"{place}: {problem}" for problem in _check_sample(block, row))
    else:
        tail = file.read(len(END_OF_ARCHIVE))
        if tail != END_OF_ARCHIVE:
            yield f"{path}: the tar does not end after its last sample"
        hashed.update(tail)
        at += len(tail)
    while rest := file.read(_READ_BYTES):
        hashed.update(rest)
        at += len(rest)
    if at != entry["bytes"]:
        yield f"{path}: has {at} bytes, the manifest says {entry['bytes']}"
    elif hashed.hexdigest() != entry["sha256"]:
        yield f"{path}: altered: its SHA-256 is not the manifest's"


def _check_sample(block: bytes, row: Mapping[str, Any]) -> Iterator[str]:
    """Yields what is wrong with the parts of a sample; one of format 1 has a single part."""
    parts = row.get("parts") or [{"length": row["length"], "sha256": row["sha256"]}]
    if sample_hash([part["sha256"] for part in parts]) != row["sha256"]:
        yield "samples.parquet: its SHA-256 is not that of its parts"
        return
    if sum(part["length"] for part in parts) != row["length"]:
        yield "samples.parquet: its length is not that of its parts"
        return
    ends = list(accumulate(part["length"] for part in parts))
    pieces = [block[end - part["length"] : end] for part, end in zip(parts, ends, strict=True)]
    hashed = [sha256(piece).hexdigest() for piece in pieces]
    if hashed != [part["sha256"] for part in parts]:
        yield "altered: its SHA-256 is not that in samples.parquet"
        return
    for piece in pieces:
        yield from check_key(piece, row["event_id"])


def check_key(block: bytes, event_id: str) -> Iterator[str]:
    """Yields what is wrong with the key that the members of a sample share."""
    try:
        key = sample_key(block)
    except DataError as error:
        yield str(error)
        return
    if key != event_id:
        yield f"its members have the key {key!r}"


def _check_splits(manifest: Manifest, samples: pa.Table) -> Iterator[str]:
    if split_totals(samples) != manifest.document["splits"]:
        yield f"{MANIFEST}: its totals of splits are not those of samples.parquet"
    if pc.count_distinct(samples["event_id"]).as_py() != samples.num_rows:
        yield "samples.parquet: an event is in it twice"
    split = samples["split"].to_pylist()
    folders = [shard.partition("/")[0] for shard in samples["shard"].to_pylist()]
    if split != folders:
        yield "samples.parquet: a sample's split is not the folder of its shard"
    if "drive_id" in samples.column_names:
        pairs = samples.group_by(["drive_id", "split"]).aggregate([])
        leaks = Counter(pairs["drive_id"].to_pylist())
        for drive in sorted((d for d, number in leaks.items() if number > 1), key=str):
            yield f"samples.parquet: drive {drive} leaks: it is in several splits"
    if "privacy" in samples.column_names and "privacy" in manifest.document["metadata"]:
        promised = manifest.document["metadata"]["privacy"]
        promised = promised if isinstance(promised, list) else [promised]
        found = sorted(set(samples["privacy"].to_pylist()), key=str)
        for privacy in (privacy for privacy in found if privacy not in promised):
            yield f"{MANIFEST}: does not list the samples of privacy {privacy!r}"


def _check_plan(plan: Any, samples: pa.Table) -> Iterator[str]:
    """Yields what is wrong with plan.json: who reads what, and how evenly."""
    try:
        if plan["format"] != PLAN_FORMAT or plan["range"] != list(RANGE_FIELDS):
            yield f"plan.json: is not of format {PLAN_FORMAT}"
            return
        splits = dict(plan["splits"])
        wanted = set(samples["split"].to_pylist())
        if set(splits) != wanted:
            yield f"plan.json: has splits {sorted(splits)}, samples.parquet {sorted(wanted)}"
            return
        for name in sorted(splits):
            rows = samples.filter(pc.equal(samples["split"], name))
            units = plan["topology"]["units"]
            yield from (
                f"plan.json: split {name!r}: {problem}"
                for problem in _check_split(splits[name], units, rows)
            )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        yield f"plan.json: does not have the structure of a plan: {error!r}"


def _check_summary(url: str, plan: Any, manifest: Manifest, samples: pa.Table) -> Iterator[str]:
    """Yields whether the manifest or card.md say something else than the plan and the samples."""
    document = manifest.document
    try:
        if document["topology"] != plan["topology"]["name"]:
            yield f"{MANIFEST}: is for {document['topology']}, plan.json for another machine"
        text = card(manifest.name, manifest.snapshot, plan, samples, document["metadata"])
    except (KeyError, TypeError, AttributeError) as error:
        yield f"{MANIFEST}: cannot be summed up: {error!r}"
        return
    if read_bytes(f"{url}/card.md") != text.encode():
        yield "card.md: does not say what the plan and the samples say"


def _check_split(split: Mapping[str, Any], units: int, rows: pa.Table) -> Iterator[str]:
    """Yields what is wrong with one split of a plan, whose numbers are computed again."""
    lengths: dict[str, list[int]] = defaultdict(list)
    ordered = rows.sort_by([("shard", "ascending"), ("position", "ascending")])
    for shard, length in zip(
        ordered["shard"].to_pylist(), ordered["length"].to_pylist(), strict=True
    ):
        lengths[shard].append(length)
    if len(split["units"]) != units:
        yield f"has {len(split['units'])} units, the topology {units}"
    read: Counter[_Place] = Counter()
    unit_bytes = []
    for unit, ranges in enumerate(split["units"]):
        places, size = yield from _check_unit(unit, ranges, lengths)
        if len(places) != split["samples_per_unit"]:
            yield f"unit {unit} reads {len(places)} samples, not {split['samples_per_unit']}"
        read.update(places)
        unit_bytes.append(size)
    missed = sum(map(len, lengths.values())) - len(read)
    if missed:
        yield f"{missed} samples are read by no unit"
    computed = {
        "samples": rows.num_rows,
        "bytes": sum(map(sum, lengths.values())),
        "shards": len(lengths),
        "repeated": read.total() - len(read),
        "unit_bytes": unit_bytes,
        "imbalance": round(max(unit_bytes) / (max(sum(unit_bytes), 1) / units), 6),
    }
    for key, value in computed.items():
        if split[key] != value:
            yield f"{key} is {str(split[key])[:80]}, recomputed {str(value)[:80]}"


def _check_unit(
    unit: int, ranges: Sequence[Any], lengths: Mapping[str, Sequence[int]]
) -> Generator[str, None, tuple[list[_Place], int]]:
    """Yields what is wrong with a unit's ranges; returns the samples it reads, and their bytes."""
    places: list[_Place] = []
    total = 0
    for shard, first, count, offset, size in ranges:
        inside = lengths.get(shard, [])
        wanted = inside[first : first + count]
        if (
            first < 0
            or len(wanted) != count
            or sum(inside[:first]) != offset
            or sum(wanted) != size
        ):
            yield (
                f"unit {unit}: the range {[shard, first, count, offset, size]} does not match "
                "samples.parquet"
            )
            continue
        places += [(shard, position) for position in range(first, first + count)]
        total += size
    if len(set(places)) != len(places):
        yield f"unit {unit} reads a sample twice"
    return places, total


def read_bytes(url: str) -> bytes:
    """Reads a file of the lake.

    Raises:
        LakeError: it cannot be read, or is a link.
    """
    try:
        return get_own(url)
    except (OSError, ValueError) as error:
        raise LakeError(f"{url} cannot be read: {error}") from error


def listed(url: str) -> list[str]:
    """Lists the names in a folder of the lake, sorted; none if there is no such folder.

    Raises:
        LakeError: it cannot be listed.
    """
    try:
        return names(url)
    except OSError as error:
        raise LakeError(f"{url} cannot be listed: {error}") from error


def _rows(url: str) -> pa.Table:
    try:
        return decode(read_bytes(url))
    except (pa.ArrowException, OSError) as error:
        raise LakeError(f"{url} is not Parquet: {one_line(error)}") from error
