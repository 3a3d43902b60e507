"""Assembling: a shard is the bytes of its ranges and an end of archive, or an error."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import fsspec
import pytest

from pipeline.snapshots.assembly import assemble_shard
from schemas.errors import LakeError
from schemas.ids import digest
from tests.pipeline.snapshots.written import content, selection
from transforms.corpora import ShardDigest
from transforms.corpora.pack import END_OF_ARCHIVE


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
            for uri, offset, length, *_ in ranges
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


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("forge", ["another's bytes", "no sample"])
def test_a_range_with_the_right_hash_of_the_wrong_bytes_makes_no_shard(
    tmp_path: Path, remote: bool, forge: str
) -> None:
    chosen = selection(str(tmp_path))
    one, two, *rest = (piece for pieces in chosen.ranges.values() for piece in pieces)
    uri, offset, length, hashed, key = two
    if forge == "no sample":
        offset, length = offset + 512, length - 512
        body = (tmp_path / uri).read_bytes()[offset : offset + length]
        hashed = sha256(body).hexdigest()
    forged = (uri, offset, length, hashed, one[4] if forge != "no sample" else key)
    lake = _memory(tmp_path) if remote else str(tmp_path)
    with pytest.raises(LakeError, match=r"is that of|no tar header"):
        assemble_shard(lake, str(tmp_path / "out" / "shard.tar"), [forged, *rest])
    assert list((tmp_path / "out").glob("*")) == []


@pytest.mark.parametrize(
    "uri",
    ["/etc/passwd", "packs/../../a.tar", "packs/a/b.tar", "http://127.0.0.1:9/a.tar", "packs/.tar",
     "packs/a.tar\0", "file:///etc/passwd", "", "packs/a.tar/../b.tar"],
)  # fmt: skip
def test_a_pack_outside_the_packs_of_the_lake_is_never_opened(tmp_path: Path, uri: str) -> None:
    with pytest.raises(LakeError, match="must be packs/<name>"):
        assemble_shard(str(tmp_path), str(tmp_path / "shard.tar"), [(uri, 0, 1, "", "")])
    assert not (tmp_path / "shard.tar").exists()


def test_a_pack_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    (tmp_path / "secret").write_bytes(b"x" * 1024)
    (tmp_path / "packs" / "a.tar").symlink_to(tmp_path / "secret")
    with pytest.raises(LakeError, match="is a link"):
        assemble_shard(str(tmp_path), str(tmp_path / "s.tar"), [("packs/a.tar", 0, 1024, "", "")])
