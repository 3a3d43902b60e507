"""assemble_cat: shards put together from packs, every sample checked, against `cat`."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import Measure, interleaved
from pipeline.snapshots.assembly import Range, assemble_shard
from transforms.corpora.pack import PackWriter

SAMPLES = 256
MEAN_BYTES = 2 << 20
PACKS = 8


def write_packs(lake: Path) -> list[Range]:
    """Writes packs of random samples and lists their ranges, shuffled."""
    dice = np.random.default_rng(0)
    ranges: list[Range] = []
    (lake / "packs").mkdir()
    for number in range(PACKS):
        uri = f"packs/{number}.tar"
        with (lake / uri).open("wb") as out:
            pack = PackWriter(out)
            for k in range(SAMPLES // PACKS):
                body = dice.bytes(int(dice.integers(MEAN_BYTES // 2, MEAN_BYTES * 3 // 2)))
                place = pack.add(f"{number}-{k}", {"front.mp4": body, "json": b"{}"})
                ranges.append((uri, place.offset, place.length, place.sha256))
            pack.close()
    return [ranges[k] for k in dice.permutation(len(ranges))]


def measure() -> Iterator[Measure]:
    """Copies the same bytes both ways, from a warm page cache."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder)
        ranges = write_packs(lake)
        packs = [str(pack) for pack in sorted((lake / "packs").iterdir())]

        def concatenate() -> None:
            with (lake / "cat.tar").open("wb") as out:
                subprocess.run(["cat", *packs], stdout=out, check=True)

        ours, cat = interleaved(
            [lambda: assemble_shard(str(lake), str(lake / "ours.tar"), ranges), concatenate]
        )
        size = sum(length for _, _, length, _ in ranges)
        yield Measure(
            "assemble_cat",
            size / ours / 1e6,
            size / cat / 1e6,
            "cat",
            "MB/s",
            f"{size / 1e6:.0f} MB in {SAMPLES} samples of {PACKS} packs",
        )
