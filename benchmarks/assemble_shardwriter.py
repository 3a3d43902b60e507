"""assemble_shardwriter: throughput of assembling a shard, against webdataset's ShardWriter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from webdataset import ShardWriter, WebDataset

from benchmarks import Measure
from benchmarks.assemble_cat import compare


def measure() -> Iterator[Measure]:
    """Makes one shard of the same samples both ways, from packs in a warm page cache."""

    def rewrite(lake: Path, packs: list[str]) -> None:
        with ShardWriter(str(lake / "peer-%06d.tar"), maxsize=1e12, verbose=0) as out:
            for sample in WebDataset(packs, shardshuffle=False):
                out.write(sample)

    yield compare(
        "assemble_shardwriter",
        "webdataset ShardWriter",
        rewrite,
        "; ours in another order, every sample hashed",
    )
