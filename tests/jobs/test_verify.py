from __future__ import annotations

import shutil
from pathlib import Path

from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def test_it_finds_nothing_wrong_with_a_lake_and_its_corpus(chain: Chain) -> None:
    for url in (chain.lake, chain.lake / "corpora" / "first"):
        done = call("verify", url)
        assert done.code == 0, done.out
        assert "all promises hold" in done.out


def test_a_damaged_shard_is_one_line_and_exit_code_one(chain: Chain, tmp_path: Path) -> None:
    snapshot = Path(chain.ended["corpus"].document["snapshot"]["url"])
    copy = Path(shutil.copytree(snapshot, tmp_path / snapshot.name))
    shard = next(copy.glob("*/*.tar"))
    body = bytearray(shard.read_bytes())
    body[len(body) // 2] ^= 1
    shard.write_bytes(body)
    done = call("verify", copy)
    assert done.code == 1
    assert f"{shard.parent.name}/{shard.name}" in done.out
    document = call("verify", copy, "--json").document
    assert document["kind"] == "snapshot"
    assert document["problems"]
