"""balance: the largest unit of a plan over the mean unit, in bytes, against a limit of 1.005.

The worst of several plans counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import Measure
from benchmarks.plan import samples
from pipeline.topologies import load_topology
from pipeline.topologies.planner import plan, replan

LIMIT = 1.005
SEEDS = 5


def measure() -> Iterator[Measure]:
    """Plans samples of lognormal sizes, 50 per unit and split, and replans them for 8 GPUs."""
    pod, gpus = load_topology("dojo-exapod"), load_topology("gpu-8")
    worst = 0.0
    for seed in range(SEEDS):
        planned = plan(samples(10 * 50 * pod.units, seed), pod, "salt")
        documents: tuple[Any, Any] = (planned.document, replan(planned.placements, gpus))
        for document in documents:
            worst = max(worst, *(split["imbalance"] for split in document["splits"].values()))
    yield Measure(
        "balance",
        worst,
        LIMIT,
        "the limit",
        "worst unit over mean",
        f"{SEEDS} draws of {10 * 50 * pod.units:,} samples, planned and replanned",
        lower_is_better=True,
    )
