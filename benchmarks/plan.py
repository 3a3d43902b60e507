"""plan: time to plan ten million samples for an ExaPOD, against a limit of 30 s."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import numpy as np
import pyarrow as pa

from benchmarks import Measure
from pipeline.topologies import load_topology
from pipeline.topologies.planner import plan

SAMPLES = 10_000_000
LIMIT_S = 30.0


def sizes(n: int, seed: int) -> pa.Array:
    """Draws lognormal sizes in bytes, median about 1 MB, rounded up to tar blocks."""
    drawn = np.random.default_rng(seed).lognormal(14, 1, n)
    return pa.array((np.ceil(drawn / 512) * 512).astype(np.int64))


def samples(n: int, seed: int = 0) -> pa.Table:
    """Generates samples, one in ten of them in the validation split."""
    ids = np.char.mod("%020x", np.arange(n) * 7919)
    split = pa.array(["train", "val"]).take(pa.array((np.arange(n) % 10 == 9).astype(np.int8)))
    return pa.table({"event_id": pa.array(ids), "length": sizes(n, seed), "split": split})


def measure() -> Iterator[Measure]:
    """Plans once: at this duration repeats add nothing."""
    table, topology = samples(SAMPLES), load_topology("dojo-exapod")
    start = perf_counter()
    plan(table, topology, "salt")
    taken = perf_counter() - start
    yield Measure(
        "plan",
        taken,
        LIMIT_S,
        "the limit",
        "s",
        f"{SAMPLES:,} samples, {topology.units} units",
        lower_is_better=True,
    )
