"""Verifying: every hash, count and promise of a snapshot or a lake, recomputed.

Nothing is repaired and nothing is believed: what cannot be read is a problem in the
report, one line each, and the rest is still checked.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake.tables import Lake
from pipeline.queries.catalog import latest_snapshots
from pipeline.snapshots.publish import (
    LATEST,
    MANIFEST,
    PLACED,
    Manifest,
    document_id,
    is_published,
    read_manifest,
    root_hash,
    split_totals,
)
from pipeline.topologies.planner import PLAN_FORMAT, RANGE_FIELDS
from schemas.errors import DataError, LakeError
from schemas.tables import TABLES
from transforms.corpora.pack import END_OF_ARCHIVE, sample_key
from transforms.storage import TEMPORARY, filesystem, names, normal, resolve

_TABLES = ("samples.parquet", "labels.parquet", "plan.json", "card.md")
_READ_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found: `problems`, one line each, and how much was looked at.

    `checked` counts things by what they are: "shards", "samples", "bytes", "tables"...
    """

    url: str
    kind: str
    problems: tuple[str, ...]
    checked: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems


def verify(url: str) -> VerifyReport:
    """Checks a snapshot, a corpus (all of its snapshots), or a lake with its corpora.

    Raises:
        LakeError: the URL is none of these.
    """
    url = normal(url)
    found = set(names(url))
    checked: Counter[str] = Counter()
    if {MANIFEST, "samples.parquet", "train", "val"} & found:
        kind, problems = "snapshot", list(_snapshot(url, checked))
    elif LATEST in found or any(is_published(f"{url}/{name}") for name in found):
        kind, problems = "corpus", list(_corpus(url, checked))
    elif "tables" in found:
        kind, problems = "lake", list(_lake(url, checked))
    else:
        raise LakeError(f"{url} is no snapshot, no corpus and no lake")
    return VerifyReport(url, kind, tuple(problems), dict(checked))


def _corpus(url: str, checked: Counter[str]) -> Iterator[str]:
    snapshots = [name for name in names(url) if name != LATEST and not _is_temporary(name)]
    for name in snapshots:
        yield from (f"{name}: {problem}" for problem in _snapshot(f"{url}/{name}", checked))
    try:
        lake, _, corpus = url.rpartition("/corpora/")
        if lake and LATEST in names(url) and corpus not in latest_snapshots(lake):
            yield f"{LATEST} names a snapshot that is not published"
    except LakeError as error:
        yield str(error)


def _snapshot(url: str, checked: Counter[str]) -> Iterator[str]:
    """Yields what is wrong with a snapshot."""
    try:
        manifest = read_manifest(url)
    except LakeError as error:
        yield str(error)
        return
    checked["snapshots"] += 1
    yield from _check_manifest(manifest)
    shards: dict[str, Mapping[str, Any]] = {}
    for entry in manifest.document["files"]:
        if not _is_entry(entry):
            yield f"{MANIFEST}: not the entry of a file: {str(entry)[:200]}"
        elif "samples" in entry:
            shards[entry["path"]] = entry
        else:
            yield from _check_file(url, entry, checked)
    yield from _check_strays(url, manifest)
    try:
        samples = _read_table(f"{url}/samples.parquet")
        if broken := _unfit(samples):
            yield f"samples.parquet: these columns are absent, null or of a wrong type: {broken}"
            return
    except LakeError as error:
        yield str(error)
        return
    yield from _check_shards(url, shards, samples, checked)
    yield from _check_splits(manifest, samples)
    try:
        plan = json.loads(_read(f"{url}/plan.json"))
        yield from _check_plan(plan, samples)
        if document_id(samples, plan, manifest.document["metadata"]) != manifest.snapshot:
            yield (
                f"{MANIFEST}: the snapshot's id {manifest.snapshot} is not that of its samples, "
                "plan and metadata"
            )
    except LakeError as error:
        yield str(error)
    except (ValueError, RecursionError) as error:
        yield f"plan.json: not JSON: {error}"


def _unfit(samples: pa.Table) -> list[str]:
    whole = {"position", "offset", "length"}
    return [
        name
        for name in PLACED
        if name not in samples.column_names
        or samples.schema.field(name).type != (pa.int64() if name in whole else pa.string())
        or samples[name].null_count
    ]


def _check_manifest(manifest: Manifest) -> Iterator[str]:
    folder = manifest.url.rpartition("/")[2]
    if root_hash(manifest.document) != manifest.root:
        yield f"{MANIFEST}: altered: its root is not the hash of the rest"
    if manifest.snapshot != folder:
        yield f"{MANIFEST}: is of snapshot {manifest.snapshot}, in the folder {folder}"


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("path"), str)
        and isinstance(entry.get("sha256"), str)
        and type(entry.get("bytes")) is int
        and type(entry.get("samples", 0)) is int
        and ".." not in entry["path"].split("/")
    )


def _check_file(url: str, entry: Mapping[str, Any], checked: Counter[str]) -> Iterator[str]:
    path = entry["path"]
    try:
        content = _read(f"{url}/{path}")
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
        if name != MANIFEST and name not in listed:
            yield f"{name}: is not in the manifest"


def _check_shards(
    url: str, shards: Mapping[str, Mapping[str, Any]], samples: pa.Table, checked: Counter[str]
) -> Iterator[str]:
    """Reads every shard once, sample by sample."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in samples.select([*PLACED]).to_pylist():
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
            with fs.open(place, "rb") as file:
                yield from _check_shard(path, entry, rows[path], file)
        except OSError as error:
            yield f"{path}: cannot be read: {error}"
        checked["shards"] += 1
        checked["samples"] += len(rows[path])
        checked["bytes"] += entry["bytes"]


def _check_shard(
    path: str, entry: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], file: BinaryIO
) -> Iterator[str]:
    whole, at = sha256(), 0
    ordered = sorted(rows, key=lambda row: row["offset"])
    for position, row in enumerate(ordered):
        place = f"{path}: sample {row['event_id']} at byte {row['offset']}"
        if row["offset"] != at or row["position"] != position or row["length"] <= 0:
            yield f"{place}: samples.parquet does not frame it, the one before ends at {at}"
            break
        if row["length"] > entry["bytes"]:
            yield f"{place}: claims {row['length']} bytes of a shard of {entry['bytes']}"
            break
        block = file.read(row["length"])
        whole.update(block)
        at += len(block)
        if len(block) != row["length"]:
            yield f"{place}: the shard ends within it"
            break
        if sha256(block).hexdigest() != row["sha256"]:
            yield f"{place}: altered: its SHA-256 is not that in samples.parquet"
            continue
        yield from (f"{place}: {problem}" for problem in _check_key(block, row["event_id"]))
    else:
        tail = file.read(len(END_OF_ARCHIVE))
        if tail != END_OF_ARCHIVE:
            yield f"{path}: the tar does not end after its last sample"
        whole.update(tail)
        at += len(tail)
    while rest := file.read(_READ_BYTES):
        whole.update(rest)
        at += len(rest)
    if at != entry["bytes"]:
        yield f"{path}: has {at} bytes, the manifest says {entry['bytes']}"
    elif whole.hexdigest() != entry["sha256"]:
        yield f"{path}: altered: its SHA-256 is not the manifest's"


def _check_key(block: bytes, event_id: str) -> Iterator[str]:
    try:
        key = sample_key(block)
    except DataError as error:
        yield str(error)
        return
    if key != event_id:
        yield f"its members are those of {key!r}"


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
            yield f"{MANIFEST}: does not say that there are samples of privacy {privacy!r}"


def _check_plan(plan: Any, samples: pa.Table) -> Iterator[str]:
    """Yields what is wrong with plan.json: who reads what, and how evenly."""
    try:
        if plan["format"] != PLAN_FORMAT or plan["range"] != list(RANGE_FIELDS):
            yield "plan.json: is not of this format"
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
        yield f"plan.json: is not laid out as a plan: {error!r}"


def _check_split(split: Mapping[str, Any], units: int, rows: pa.Table) -> Iterator[str]:
    lengths: dict[str, list[int]] = defaultdict(list)
    ordered = rows.sort_by([("shard", "ascending"), ("position", "ascending")])
    for shard, length in zip(
        ordered["shard"].to_pylist(), ordered["length"].to_pylist(), strict=True
    ):
        lengths[shard].append(length)
    read: Counter[tuple[str, int]] = Counter()
    unit_bytes = []
    if len(split["units"]) != units:
        yield f"has {len(split['units'])} units, the topology {units}"
    for unit, ranges in enumerate(split["units"]):
        mine: list[tuple[str, int]] = []
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
                yield f"unit {unit}: the range {[shard, first, count, offset, size]} is no such run"
                continue
            mine += [(shard, position) for position in range(first, first + count)]
            total += size
        if len(mine) != split["samples_per_unit"]:
            yield f"unit {unit} reads {len(mine)} samples, not {split['samples_per_unit']}"
        if len(set(mine)) != len(mine):
            yield f"unit {unit} reads a sample twice"
        read.update(mine)
        unit_bytes.append(total)
    missed = sum(map(len, lengths.values())) - len(read)
    if missed:
        yield f"{missed} samples are read by no unit"
    told = {
        "samples": rows.num_rows,
        "bytes": sum(map(sum, lengths.values())),
        "shards": len(lengths),
        "repeated": read.total() - len(read),
        "unit_bytes": unit_bytes,
        "imbalance": round(max(unit_bytes) / (max(sum(unit_bytes), 1) / units), 6),
    }
    for key, value in told.items():
        if split[key] != value:
            yield f"{key} is {str(split[key])[:80]}, recomputed {str(value)[:80]}"


def _lake(url: str, checked: Counter[str]) -> Iterator[str]:
    """Yields what is wrong with a lake and its corpora."""
    try:
        lake = Lake.open(url)
    except LakeError as error:
        yield str(error)
        return
    rows: dict[str, pa.Table] = {}
    for table in TABLES:
        try:
            yield from _check_table(lake, table, checked)
            if table in {"events", "runs", "samples"}:
                rows[table] = lake.read(table)
        except LakeError as error:
            yield str(error)
    if "samples" in rows:
        yield from _check_packs(lake, rows["samples"], checked)
    if "runs" in rows:
        yield from _check_runs(lake, rows["runs"])
    if "events" in rows and "samples" in rows:
        yield from _check_events(rows["events"], rows["samples"])
    for name in names(f"{url}/corpora"):
        yield from (
            f"corpora/{name}: {problem}" for problem in _corpus(f"{url}/corpora/{name}", checked)
        )


def _check_table(lake: Lake, table: str, checked: Counter[str]) -> Iterator[str]:
    checked["tables"] += 1
    for add in lake.adds(table):
        place = f"tables/{table}/{add.path}"
        try:
            content = _read(f"{lake.table_url(table)}/{add.path}")
            if len(content) != add.size:
                yield f"{place}: has {len(content)} bytes, the table says {add.size}"
                continue
            rows = pq.read_table(pa.BufferReader(content))
            checked["files"] += 1
            checked["bytes"] += len(content)
            if rows.num_rows != add.rows:
                yield f"{place}: has {rows.num_rows} rows, the table says {add.rows}"
            TABLES[table].conform(rows)
        except LakeError as error:
            yield str(error)
        except (pa.ArrowException, OSError, ValueError) as error:
            yield f"{place}: cannot be read as rows of {table}: {' '.join(str(error).split())}"


def _check_packs(lake: Lake, samples: pa.Table, checked: Counter[str]) -> Iterator[str]:
    rows = samples.sort_by([("pack_uri", "ascending"), ("offset", "ascending")]).to_pylist()
    for row in rows:
        fs, path = filesystem(resolve(lake.url, row["pack_uri"]))
        start, end = row["offset"], row["offset"] + row["length"]
        place = f"{row['pack_uri']}: sample {row['event_id']} at byte {start}"
        try:
            if end > fs.size(path):
                yield f"{place}: the pack ends within it"
                continue
            block = fs.cat_file(path, start, end)
        except OSError as error:
            yield f"{place}: cannot be read: {error}"
            continue
        checked["samples"] += 1
        checked["bytes"] += len(block)
        if sha256(block).hexdigest() != row["sha256"]:
            yield f"{place}: altered: its SHA-256 is not that in the table"
            continue
        yield from (f"{place}: {problem}" for problem in _check_key(block, row["event_id"]))


def _check_runs(lake: Lake, runs: pa.Table) -> Iterator[str]:
    for row in runs.to_pylist():
        for count in row["counts"]:
            if min(count["kept"], count["filtered"], count["rejected"]) < 0:
                yield f"runs: run {row['run_id']}: the balance of {count['stage']} is negative"
        for entry in row["versions"]:
            if entry["version"] > lake.versions.get(entry["table"], 0):
                yield (
                    f"runs: run {row['run_id']} names version {entry['version']} of "
                    f"{entry['table']}, the lake is at {lake.versions.get(entry['table'], 0)}"
                )


def _check_events(events: pa.Table, samples: pa.Table) -> Iterator[str]:
    known = Counter(events["event_id"].to_pylist())
    twice = sum(number > 1 for number in known.values())
    if twice:
        yield f"events: {twice} ids are there more than once"
    lost = sum(event_id not in known for event_id in samples["event_id"].to_pylist())
    if lost:
        yield f"samples: {lost} are of events that are not in the table events"


def _read(url: str) -> bytes:
    fs, path = filesystem(url)
    try:
        content: bytes = fs.cat_file(path)
    except OSError as error:
        raise LakeError(f"{url} cannot be read: {error}") from error
    return content


def _read_table(url: str) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(_read(url)))
    except (pa.ArrowException, OSError) as error:
        raise LakeError(f"{url} is not Parquet: {' '.join(str(error).split())}") from error


def _is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY)
