from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa

from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from schemas.ids import digest
from schemas.records import Count
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


def test_repair_says_what_it_removed_and_verifies(chain: Chain, tmp_path: Path) -> None:
    lake = Lake.open(str(shutil.copytree(chain.lake, tmp_path / "lake")))
    assert "nothing to repair" in call("verify", "--repair", lake.url).out
    rows = lake.read("ledger")
    at = rows.column_names.index("run_id")
    twin = RunRow("twin", "mine", digest("{}"), "{}", 1, (Count("mine", "logs", 1),))
    ids = pa.array(["twin"] * rows.num_rows)
    twins = rows.set_column(at, rows.schema.field(at), ids)
    commit(lake, twin, lake.write("ledger", twins, "twin"))
    assert call("verify", lake.url).code == 1
    done = call("verify", "--repair", lake.url)
    assert done.code == 0, done.out
    assert f"repaired ledger: removed {rows.num_rows} rows" in done.out
    assert "all promises hold" in done.out
