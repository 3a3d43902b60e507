"""The manifest of a snapshot, and the pointer to a corpus' latest snapshot.

    corpora/<name>/latest.json                the snapshot that was published last
    corpora/<name>/<snapshot>/manifest.json   every file with its hash; written last

A snapshot is identified by a digest of its content: samples, their places, the plan and
the metadata. A folder without a manifest is not published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa

from pipeline.topologies.planner import Plan
from schemas.errors import LakeError, UsageError
from schemas.ids import Canonical, canonical, digest
from transforms.links import check_links
from transforms.storage import get_own, names, normal, put

MANIFEST_FORMAT = 2
"""The format of snapshots: since 2 a sample has parts. Both are read."""
MANIFEST = "manifest.json"
LATEST = "latest.json"
PLACED = ("event_id", "sha256", "split", "shard", "position", "offset", "length")
"""The columns of samples.parquet that say which bytes of which shard a sample is."""

PARTS_TYPE = pa.list_(
    pa.struct(
        [
            pa.field("part", pa.string()),
            pa.field("spec_digest", pa.string()),
            pa.field("length", pa.int64()),
            pa.field("sha256", pa.string()),
        ]
    )
)
"""The type of the column `parts` of samples.parquet: a sample's parts, in order."""

_MAX_POINTER_BYTES = 1 << 12
CORPUS_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MANIFEST_KEYS = {
    "name": str,
    "snapshot": str,
    "root": str,
    "splits": dict,
    "metadata": dict,
    "files": list,
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A published snapshot: `document` is manifest.json, `root` the hash of the rest of it."""

    url: str
    name: str
    snapshot: str
    root: str
    document: Mapping[str, Any]


def snapshot_url(lake_url: str, name: str, snapshot: str) -> str:
    """Returns a snapshot's folder.

    Raises:
        UsageError: `name` is not a corpus name.
    """
    if not CORPUS_NAME.fullmatch(name):
        raise UsageError(
            "a corpus' name is 1 to 64 lower-case letters, digits, '_' and '-', and starts with "
            f"a letter or digit: not {name!r}"
        )
    return f"{normal(lake_url)}/corpora/{name}/{snapshot}"


def snapshot_id(samples: pa.Table, plan: Plan, metadata: Mapping[str, Canonical]) -> str:
    """Identifies a snapshot by its content: samples, their bytes and places, and the plan.

    Args:
        samples: the rows of samples.parquet, at least the columns of PLACED.
        plan: its plan.
        metadata: the manifest's metadata.
    """
    return document_id(samples, plan.document, metadata, MANIFEST_FORMAT)


def sample_hash(parts: Sequence[str]) -> str:
    """Returns a sample's hash, given the SHA-256 of its parts: that of the only one, or of all.

    >>> sample_hash(["ab"])
    'ab'
    """
    return parts[0] if len(parts) == 1 else sha256("".join(parts).encode()).hexdigest()


def document_id(
    samples: pa.Table,
    plan: Mapping[str, Canonical],
    metadata: Mapping[str, Canonical],
    manifest_format: int,
) -> str:
    """Does what `snapshot_id` does, for a plan that was read from plan.json."""
    columns: list[Canonical] = [
        sha256("\n".join(map(str, samples.column(name).to_pylist())).encode()).hexdigest()
        for name in PLACED
    ]
    return digest("snapshot", manifest_format, columns, plan, metadata)


def is_published(url: str) -> bool:
    """Tells whether a snapshot's folder has a manifest."""
    return MANIFEST in names(url)


def read_manifest(url: str) -> Manifest:
    """Reads the manifest of a published snapshot.

    Raises:
        LakeError: there is none, or it is not a manifest of this format.
    """
    try:
        document = json.loads(get_own(f"{url}/{MANIFEST}"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise LakeError(f"{url} has no {MANIFEST}: it is not published") from error
    except OSError as error:
        raise LakeError(f"{url}/{MANIFEST} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise LakeError(f"{url}/{MANIFEST} is not JSON: {error}; publish it again") from error
    known = range(1, MANIFEST_FORMAT + 1)
    if not (isinstance(document, dict) and document.get("format") in known):
        raise LakeError(f"{url}/{MANIFEST} is not a manifest of a format up to {MANIFEST_FORMAT}")
    for key, kind in _MANIFEST_KEYS.items():
        if not isinstance(document.get(key), kind):
            raise LakeError(f"{url}/{MANIFEST}: {key!r} must be a {kind.__name__}")
    return Manifest(url, document["name"], document["snapshot"], document["root"], document)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def root_hash(document: Mapping[str, Any]) -> str:
    """Hashes a manifest, which lists every file and its hash, without its field `root`."""
    rest = {key: value for key, value in document.items() if key != "root"}
    return sha256(canonical(rest)).hexdigest()


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


def make_latest(lake_url: str, name: str, snapshot: str) -> None:
    """Points the corpus at one of its published snapshots."""
    folder = snapshot_url(lake_url, name, snapshot).rpartition("/")[0]
    put(f"{folder}/{LATEST}", canonical({"snapshot": snapshot}))


def latest_snapshots(lake_url: str) -> dict[str, str]:
    """Maps each published corpus to the URL of its latest snapshot.

    Raises:
        LakeError: a corpus' pointer is damaged.
    """
    corpora = f"{lake_url}/corpora"
    pointed = {name: latest_snapshot(f"{corpora}/{name}") for name in names(corpora)}
    return {name: url for name, url in pointed.items() if url is not None and is_published(url)}


def latest_snapshot(corpus_url: str) -> str | None:
    """Returns the URL of the snapshot that a corpus points to; None if it points to none.

    Raises:
        LakeError: the pointer is damaged, or a link leads out of the corpus.
    """
    pointer = f"{corpus_url}/{LATEST}"
    try:
        check_links(corpus_url, corpus_url)
        snapshot = _pointed(pointer, get_own(pointer, 0, _MAX_POINTER_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LakeError(f"{pointer} cannot be read: {error}") from error
    return f"{corpus_url}/{snapshot}"


def _pointed(url: str, content: bytes) -> str:
    try:
        pointer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LakeError(f"{url} is not JSON: {error}; publish the corpus again") from error
    snapshot = pointer.get("snapshot") if isinstance(pointer, dict) else None
    if not (isinstance(snapshot, str) and snapshot.isalnum()):
        raise LakeError(f"{url} names no snapshot; publish the corpus again")
    return snapshot
