"""Publishing: a planned selection becomes an immutable snapshot of a corpus.

    corpora/<name>/latest.json            the snapshot that was published last
    corpora/<name>/<snapshot>/            named by a digest of its content
        train/*.tar, val/*.tar            shards: byte ranges of packs, put together
        samples.parquet, labels.parquet   where each sample is stored, and its labels
        plan.json                         which unit of the machine reads which ranges
        card.md                           a summary for people
        manifest.json                     every file with its hash; written last

Nothing in a snapshot depends on the lake's URL or on the clock, so equal selections give
equal bytes anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pyarrow as pa

from pipeline.snapshots.manifest import (
    MANIFEST,
    MANIFEST_FORMAT,
    Manifest,
    is_published,
    make_latest,
    read_manifest,
    root_hash,
    snapshot_url,
    split_totals,
)
from schemas.errors import LakeError, one_line
from schemas.ids import Canonical, canonical
from transforms.corpora import ShardDigest
from transforms.parquet import encode
from transforms.storage import put

_READING = (
    'Shards are WebDataset tars: `webdataset.WebDataset("train/000000.tar")`. samples.parquet '
    "says where each sample lies, labels.parquet what is in it, plan.json which unit reads "
    "which ranges of shards. `fleetmill verify` recomputes every hash in manifest.json."
)


def publish(
    lake_url: str,
    name: str,
    snapshot: str,
    *,
    plan: Mapping[str, Any],
    samples: pa.Table,
    labels: pa.Table,
    shards: Mapping[str, ShardDigest],
    metadata: Mapping[str, Canonical],
) -> Manifest:
    """Writes the files beside the shards and then the manifest, which publishes the snapshot.

    A snapshot that is published already is not changed; it becomes the latest again.

    Args:
        lake_url: the lake; the shards are in the snapshot's folder (see `snapshot_url`).
        name: the corpus.
        snapshot: its id (see `snapshot_id`).
        plan: the document of the plan that placed the samples.
        samples: rows of samples.parquet in the order of the plan's placements: the columns
            of PLACED and any others.
        labels: rows of labels.parquet: the boxes of the samples' events.
        shards: by path, what `assemble_shard` returned.
        metadata: payload, privacy, the selection; JSON.

    Raises:
        LakeError: the shards are not those of the plan.
    """
    url = snapshot_url(lake_url, name, snapshot)
    if not is_published(url):
        _check_shards(url, samples, shards)
        document: dict[str, Any] = {
            "format": MANIFEST_FORMAT,
            "name": name,
            "snapshot": snapshot,
            "topology": plan["topology"]["name"],
            "splits": split_totals(samples),
            "metadata": dict(metadata),
        }
        contents = {
            "samples.parquet": encode(samples),
            "labels.parquet": encode(labels),
            "plan.json": canonical(dict(plan)),
            "card.md": card(name, snapshot, plan, samples, metadata).encode(),
        }
        files = [*_shard_entries(shards), *_put_all(url, contents)]
        document["files"] = sorted(files, key=lambda file: str(file["path"]))
        document["root"] = root_hash(document)
        put(f"{url}/{MANIFEST}", canonical(document))
    make_latest(lake_url, name, snapshot)
    return read_manifest(url)


def _shard_entries(shards: Mapping[str, ShardDigest]) -> list[dict[str, Any]]:
    """Returns the shards' entries of the manifest."""
    return [
        {"path": path, "bytes": shard.bytes, "sha256": shard.sha256, "samples": shard.samples}
        for path, shard in shards.items()
    ]


def _put_all(url: str, contents: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Writes files to the snapshot's folder; returns their entries of the manifest."""
    entries = []
    for path, content in contents.items():
        put(f"{url}/{path}", content)
        hashed = sha256(content).hexdigest()
        entries.append({"path": path, "bytes": len(content), "sha256": hashed})
    return entries


def _check_shards(url: str, rows: pa.Table, shards: Mapping[str, ShardDigest]) -> None:
    planned = Counter(rows.column("shard").to_pylist())
    made = {path: shard.samples for path, shard in shards.items()}
    for path in sorted(planned.keys() | made.keys()):
        if planned[path] != made.get(path, 0):
            raise LakeError(
                f"{url}/{path}: {made.get(path, 0)} samples were written, {planned[path]} planned"
            )


def card(
    name: str,
    snapshot: str,
    plan: Mapping[str, Any],
    rows: pa.Table,
    metadata: Mapping[str, Canonical],
) -> str:
    """Writes a snapshot's card.md from plan.json, the rows of samples.parquet and the metadata."""
    splits: Any = plan["splits"]
    machine = f"{plan['topology']['name']}: {plan['topology']['description']}"
    lines = [
        f"# {name}",
        "",
        f"Snapshot `{snapshot}`, planned for {machine}.",
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
    return one_line(text.replace("|", "\\|").replace("`", "'"))
