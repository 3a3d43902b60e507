"""assemble_cat: throughput of assembling a shard from packs, against `cat` of the same bytes.

Ours copies samples in another order than the packs hold them, and checks every hash and key.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import Measure, interleaved
from pipeline.snapshots.assembly import Range, assemble_shard
from transforms.corpora.pack import PackWriter

SAMPLES = 256
MEAN_BYTES = 2 << 20
PACKS = 8


def write_packs(lake: Path) -> list[Range]:
    """Writes packs of random samples; returns the samples' byte ranges, shuffled."""
    dice = np.random.default_rng(0)
    ranges: list[Range] = []
    (lake / "packs").mkdir()
    for number in range(PACKS):
        uri = f"packs/{number}.tar"
        with (lake / uri).open("wb") as out:
            pack = PackWriter(out)
            for k in range(SAMPLES // PACKS):
                body = dice.bytes(int(dice.integers(MEAN_BYTES // 2, MEAN_BYTES * 3 // 2)))
                key = f"{number}-{k}"
                place = pack.add(key, {"front.mp4": body, "json": b"{}"})
                ranges.append((uri, place.offset, place.length, place.sha256, key))
            pack.close()
    return [ranges[k] for k in dice.permutation(len(ranges))]


def measure() -> Iterator[Measure]:
    """Copies the same bytes both ways, from a warm page cache."""

    def concatenate(lake: Path, packs: list[str]) -> None:
        with (lake / "cat.tar").open("wb") as out:
            subprocess.run(["cat", *packs], stdout=out, check=True)

    yield compare("assemble_cat", "cat", concatenate)


def compare(
    name: str, peer_name: str, peer: Callable[[Path, list[str]], object], note: str = ""
) -> Measure:
    """Times `assemble_shard` and a peer that reads the same packs.

    Args:
        name: of the measure.
        peer_name: what the peer is called.
        peer: makes one shard in a folder from the paths of the packs.
        note: appended to the detail.
    """
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder)
        ranges = write_packs(lake)
        packs = [str(pack) for pack in sorted((lake / "packs").iterdir())]
        ours, theirs = interleaved(
            [
                lambda: assemble_shard(str(lake), str(lake / "ours.tar"), ranges),
                lambda: peer(lake, packs),
            ]
        )
    size = sum(length for _, _, length, *_ in ranges)
    return Measure(
        name,
        size / ours / 1e6,
        size / theirs / 1e6,
        peer_name,
        "MB/s",
        f"{size / 1e6:.0f} MB in {SAMPLES} samples of {PACKS} packs{note}",
    )
