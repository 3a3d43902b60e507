"""Publishing: a snapshot is complete, equal wherever the lake is, and never changes."""

from __future__ import annotations

import json
import tarfile
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from pipeline.snapshots.manifest import (
    is_published,
    root_hash,
    snapshot_id,
    snapshot_url,
)
from pipeline.snapshots.publish import publish
from schemas.errors import LakeError
from tests.pipeline.snapshots.written import METADATA, content, publish_all, selection
from transforms.corpora import ShardDigest


def test_a_snapshot_is_equal_wherever_the_lake_lies(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "some where" / "two"
    assert publish_all(str(one)).root == publish_all(str(two)).root
    assert content(one / "corpora") == content(two / "corpora")
    assert not any(str(tmp_path).encode() in text for text in content(one / "corpora").values())


def test_the_manifest_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    manifest = publish_all(str(tmp_path))
    files = content(Path(manifest.url))
    listed = {entry["path"]: entry for entry in manifest.document["files"]}
    assert set(files) == {*listed, "manifest.json"}
    for path, entry in listed.items():
        assert entry["bytes"] == len(files[path])
        assert entry["sha256"] == sha256(files[path]).hexdigest()
    assert manifest.root == root_hash(manifest.document)
    latest = json.loads((tmp_path / "corpora/brakes/latest.json").read_bytes())
    assert latest == {"snapshot": manifest.snapshot}
    rows = pq.read_table(f"{manifest.url}/samples.parquet")
    for path, entry in listed.items():
        if "samples" in entry:
            inside = [row for row in rows.to_pylist() if row["shard"] == path]
            assert entry["samples"] == len(inside)
    assert {"offset", "shard", "trigger"} <= set(rows.column_names)
    splits = manifest.document["splits"]
    assert sum(split["samples"] for split in splits.values()) == 60
    assert sum(split["drives"] for split in splits.values()) == 20
    card = files["card.md"].decode()
    assert "| brake | 30 |" in card
    assert "`score > 1 \\| 'x'`" in card, "a stranger's text does not break the table"


def test_loaders_read_the_shards(tmp_path: Path) -> None:
    manifest = publish_all(str(tmp_path))
    rows = pq.read_table(f"{manifest.url}/samples.parquet").to_pylist()
    shards = sorted({row["shard"] for row in rows})
    for shard in shards:
        wanted = [row["event_id"] for row in rows if row["shard"] == shard]
        with tarfile.open(f"{manifest.url}/{shard}") as archive:
            names = archive.getnames()
        assert names == [f"{key}.{end}" for key in wanted for end in ("front.mp4", "json")]
    urls = [f"{manifest.url}/{shard}" for shard in shards]
    found = [sample["__key__"] for sample in webdataset.WebDataset(urls, shardshuffle=False)]
    assert found == [row["event_id"] for row in sorted(rows, key=lambda r: r["shard"])]


def test_a_published_snapshot_never_changes(tmp_path: Path) -> None:
    manifest = publish_all(str(tmp_path))
    before = content(tmp_path / "corpora")
    assert publish_all(str(tmp_path)) == manifest
    assert content(tmp_path / "corpora") == before


def test_shards_must_be_those_of_the_plan(tmp_path: Path) -> None:
    chosen = selection(str(tmp_path))
    snapshot = snapshot_id(chosen.rows, chosen.plan, METADATA)
    with pytest.raises(LakeError, match="0 samples were written"):
        publish(
            str(tmp_path),
            "brakes",
            snapshot,
            plan=chosen.plan.document,
            samples=chosen.rows,
            labels=pa.table({"event_id": []}),
            shards={"train/000099.tar": ShardDigest(1, "", 0)},
            metadata=METADATA,
        )
    assert not is_published(snapshot_url(str(tmp_path), "brakes", snapshot))
