"""assemble_shardwriter: shards put together from packs, against webdataset's ShardWriter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from webdataset import ShardWriter, WebDataset

from benchmarks import Measure, interleaved
from benchmarks.assemble_cat import write_packs
from pipeline.snapshots.assembly import assemble_shard


def measure() -> Iterator[Measure]:
    """Makes one shard of the same samples both ways, from packs in a warm page cache."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder)
        ranges = write_packs(lake)
        packs = [str(pack) for pack in sorted((lake / "packs").iterdir())]

        def peer() -> None:
            with ShardWriter(str(lake / "peer-%06d.tar"), maxsize=1e12, verbose=0) as out:
                for sample in WebDataset(packs, shardshuffle=False):
                    out.write(sample)

        ours, theirs = interleaved(
            [lambda: assemble_shard(str(lake), str(lake / "ours.tar"), ranges), peer]
        )
        size = sum(length for _, _, length, _ in ranges)
        yield Measure(
            "assemble_shardwriter",
            size / ours / 1e6,
            size / theirs / 1e6,
            "webdataset ShardWriter",
            "MB/s",
            f"{len(ranges)} samples, {size / 1e6:.0f} MB from packs; ours in another order, "
            "every sample hashed",
        )
