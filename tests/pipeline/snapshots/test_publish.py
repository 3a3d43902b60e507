"""Publishing: shards are the packs' bytes, a snapshot is whole, equal anywhere, and final."""

from __future__ import annotations

import json
import tarfile
from hashlib import sha256
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from pipeline.snapshots.publish import (
    assemble_shard,
    is_published,
    publish,
    read_manifest,
    root_hash,
    snapshot_id,
    snapshot_url,
)
from schemas.errors import LakeError, UsageError
from schemas.ids import digest
from tests.pipeline.snapshots.written import METADATA, content, publish_all, selection
from transforms.corpora import ShardDigest
from transforms.corpora.pack import END_OF_ARCHIVE


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
            plan=chosen.plan,
            samples=chosen.rows,
            labels=pa.table({"event_id": []}),
            shards={"train/000099.tar": ShardDigest(1, "", 0)},
            metadata=METADATA,
        )
    assert not is_published(snapshot_url(str(tmp_path), "brakes", snapshot))


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


def _memory(lake: Path) -> str:
    fs = fsspec.filesystem("memory")
    root = f"memory://{digest(str(lake))}"
    for path, body in content(lake / "packs").items():
        fs.pipe_file(f"{root}/packs/{path}", body)
    return root


@pytest.mark.parametrize("remote", [False, True])
def test_a_shard_is_the_ranges_and_an_end(tmp_path: Path, remote: bool) -> None:
    chosen = selection(str(tmp_path))
    lake = _memory(tmp_path) if remote else str(tmp_path)
    every = tuple(piece for pieces in chosen.ranges.values() for piece in pieces)
    in_order = tuple(sorted(every))  # neighbours, which are read in one piece
    for ranges in (every, in_order, every[:1], ()):
        wanted = b"".join(
            (tmp_path / uri).read_bytes()[offset : offset + length]
            for uri, offset, length, _ in ranges
        )
        made = assemble_shard(lake, str(tmp_path / "out.tar"), ranges)
        written = (tmp_path / "out.tar").read_bytes()
        assert written == wanted + END_OF_ARCHIVE
        hashed = sha256(written).hexdigest()
        assert made == ShardDigest(len(written), hashed, len(ranges))


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_pack_makes_no_shard(tmp_path: Path, remote: bool, damage: str) -> None:
    chosen = selection(str(tmp_path))
    pack = tmp_path / "packs" / "2.tar"
    body = bytearray(pack.read_bytes())
    if damage == "flip":
        body[700] ^= 1
    pack.write_bytes(body[: {"cut": 900, "empty": 0}.get(damage, len(body))])
    if damage == "gone":
        pack.unlink()
    lake = _memory(tmp_path) if remote else str(tmp_path)
    every = [piece for pieces in chosen.ranges.values() for piece in pieces]
    with pytest.raises(LakeError, match=r"packs/2\.tar|packs from"):
        assemble_shard(lake, str(tmp_path / "out" / "shard.tar"), every)
    assert list((tmp_path / "out").glob("*")) == [], "nothing is left behind"


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
