"""Small snapshots for the tests of publishing, verifying and the catalog."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.snapshots.assembly import Range, assemble_shard
from pipeline.snapshots.manifest import Manifest, snapshot_id, snapshot_url
from pipeline.snapshots.publish import publish
from pipeline.topologies import load_topology
from pipeline.topologies.planner import Plan, plan, split_of
from schemas.ids import digest
from transforms.corpora.pack import END_OF_ARCHIVE, tar_members
from transforms.storage import put

TRAY = load_topology("dojo-tray").replace(shard_target_bytes=20_000)
METADATA: Mapping[str, Any] = {"where": "score > 1 | `x`", "privacy": ["blur"], "salt": "s"}


@dataclass(frozen=True, slots=True)
class Selected:
    """What a corpus job has in hand before it publishes."""

    plan: Plan
    rows: pa.Table
    ranges: Mapping[str, tuple[Range, ...]]


def selection(lake: str, n: int = 60) -> Selected:
    """Writes packs of small samples, and plans them."""
    dice = np.random.default_rng(1)
    records: list[dict[str, Any]] = []
    for pack in range(4):
        content = b""
        for k in range(pack * n // 4, (pack + 1) * n // 4):
            event = digest("event", k)
            body = dice.bytes(int(dice.integers(1, 4000)))
            sample = tar_members(event, {"json": b"{}", "front.mp4": body})
            drive = f"drive-{k // 3}"
            records.append(
                {
                    "event_id": event,
                    "drive_id": drive,
                    "split": split_of(drive, 0.3, "s"),
                    "trigger": "honk" if k % 2 else "brake",
                    "privacy": "blur",
                    "pack_uri": f"packs/{pack}.tar",
                    "source": len(content),
                    "length": len(sample),
                    "sha256": sha256(sample).hexdigest(),
                }
            )
            content += sample
        put(f"{lake}/packs/{pack}.tar", content + END_OF_ARCHIVE)
    chosen = pa.Table.from_pylist(records)
    planned = plan(chosen, TRAY, "s")
    rows = chosen.drop_columns(["split", "length"]).take(planned.placements["row"])
    ranges: dict[str, tuple[Range, ...]] = {}
    for row, place in zip(rows.to_pylist(), planned.placements.to_pylist(), strict=True):
        piece = (row["pack_uri"], row["source"], place["length"], row["sha256"], row["event_id"])
        ranges[place["shard"]] = (*ranges.get(place["shard"], ()), piece)
    for name in ("split", "shard", "position", "offset", "length"):
        rows = rows.append_column(name, planned.placements[name])
    return Selected(planned, rows.drop_columns(["pack_uri", "source"]), ranges)


def publish_all(lake: str, n: int = 60) -> Manifest:
    """Assembles and publishes a whole snapshot."""
    chosen = selection(lake, n)
    snapshot = snapshot_id(chosen.rows, chosen.plan, METADATA)
    url = snapshot_url(lake, "brakes", snapshot)
    shards = {
        name: assemble_shard(lake, f"{url}/{name}", ranges)
        for name, ranges in chosen.ranges.items()
    }
    labels = pa.table({"event_id": chosen.rows["event_id"], "class": ["car"] * n})
    return publish(
        lake,
        "brakes",
        snapshot,
        plan=chosen.plan.document,
        samples=chosen.rows,
        labels=labels,
        shards=shards,
        metadata=METADATA,
    )


def content(folder: Path) -> dict[str, bytes]:
    """Reads every file under a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def members_of(snapshot: Path) -> dict[str, bytes]:
    """Returns every file of every shard, as tarfile reads them."""
    files: dict[str, bytes] = {}
    for path in sorted(snapshot.glob("*/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                files[member.name] = content.read()
    return files
