"""The manifest: names and ids, what is read back, and the pointer to the latest snapshot."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.snapshots.manifest import (
    is_published,
    latest_snapshots,
    make_latest,
    read_manifest,
    root_hash,
    snapshot_id,
    snapshot_url,
    split_totals,
)
from schemas.errors import LakeError, UsageError
from tests.pipeline.snapshots.written import METADATA, publish_all, selection


def test_the_id_follows_what_is_in_it(tmp_path: Path) -> None:
    chosen = selection(str(tmp_path))
    first = snapshot_id(chosen.rows, chosen.plan, METADATA)
    assert snapshot_id(chosen.rows, chosen.plan, {**METADATA, "privacy": ["none"]}) != first
    altered = chosen.rows.set_column(
        chosen.rows.column_names.index("sha256"), "sha256", pa.array(["0" * 64] * 60)
    )
    assert snapshot_id(altered, chosen.plan, METADATA) != first


@pytest.mark.parametrize("name", ["", "../up", "A", "a b", "x" * 65, "a/b"])
def test_a_corpus_name_is_a_folder_name(name: str) -> None:
    with pytest.raises(UsageError, match="corpus' name"):
        snapshot_url("/lake", name, "s")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b'{"format":1}', b'{"format":2}', b"[" * 100_000, b'{"a":NaN}']
)
def test_a_bad_manifest_is_a_lake_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(LakeError, match=r"manifest\.json"):
        read_manifest(str(tmp_path))
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(LakeError, match="not published"):
        read_manifest(str(tmp_path))


def test_split_totals_count_samples_bytes_shards_and_drives() -> None:
    rows = pa.table(
        {
            "event_id": ["a", "b", "c"],
            "length": [1, 2, 4],
            "shard": ["train/0", "train/0", "val/0"],
            "split": ["train", "train", "val"],
            "drive_id": ["x", "y", "z"],
        }
    )
    assert split_totals(rows) == {
        "train": {"samples": 2, "bytes": 3, "shards": 1, "drives": 2},
        "val": {"samples": 1, "bytes": 4, "shards": 1, "drives": 1},
    }
    assert split_totals(rows.drop_columns(["drive_id"]))["val"] == {
        "samples": 1,
        "bytes": 4,
        "shards": 1,
    }


def test_a_manifest_is_read_back(tmp_path: Path) -> None:
    manifest = publish_all(str(tmp_path))
    assert read_manifest(manifest.url) == manifest
    assert is_published(manifest.url)
    assert manifest.url == snapshot_url(str(tmp_path), "brakes", manifest.snapshot)
    edited = {**manifest.document, "topology": "other"}
    assert root_hash(manifest.document) == manifest.root != root_hash(edited)


def test_the_latest_snapshot_is_the_one_pointed_at_and_published(tmp_path: Path) -> None:
    assert latest_snapshots(str(tmp_path)) == {}
    manifest = publish_all(str(tmp_path))
    (tmp_path / "corpora" / "notes.txt").write_text("not a corpus")
    assert latest_snapshots(str(tmp_path)) == {"brakes": manifest.url}
    make_latest(str(tmp_path), "brakes", "0" * 20)
    assert latest_snapshots(str(tmp_path)) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"snapshot": "../.."}', '{"snapshot": 3}'])
def test_a_damaged_pointer_is_a_lake_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "corpora" / "brakes").mkdir(parents=True)
    (tmp_path / "corpora" / "brakes" / "latest.json").write_text(text)
    with pytest.raises(LakeError, match=r"latest\.json"):
        latest_snapshots(str(tmp_path))
