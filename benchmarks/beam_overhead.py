"""beam_overhead: label tasks run by Beam's local runner, against a plain Python loop."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count

from benchmarks import Measure, interleaved
from pipeline.config import IngestConfig, LabelConfig, MineConfig
from pipeline.graph.execute import execute
from pipeline.graph.stage import write_output
from pipeline.lake.tables import Lake
from pipeline.stages.ingest import plan_ingest
from pipeline.stages.label import plan_label
from pipeline.stages.mine import plan_mine
from synth.fleet import FleetSpec, write_fleet


def measure() -> Iterator[Measure]:
    """Labels the events of a small fleet both ways."""
    with tempfile.TemporaryDirectory() as folder:
        spec = FleetSpec(drives=4, minutes=1, seed=5, width=160, height=120, cameras=("front",))
        write_fleet(spec, f"{folder}/fleet", False)
        lake = Lake.create(f"{folder}/lake")
        ingest = IngestConfig(input=(f"{folder}/fleet",))
        execute(lake, "ingest", {}, plan_ingest(lake, ingest))
        lake = Lake.open(lake.url)
        execute(lake, "mine", {}, plan_mine(lake, MineConfig()))
        lake = Lake.open(lake.url)
        turn = count()
        config = LabelConfig(models=())
        seconds = interleaved([partial(_beam, lake, config, turn), partial(_loop, lake, config)], 3)
    yield Measure(
        name="beam_overhead",
        ours=1 / seconds[0],
        peer=1 / seconds[1],
        peer_name="a plain loop",
        unit="label runs/s",
        detail="FnApiRunner, threads, start-up and commit included; the loop commits nothing",
    )


def _beam(lake: Lake, config: LabelConfig, turn: Iterator[int]) -> None:
    # A new name each time, because a committed run is not repeated.
    execute(lake, f"label-{next(turn)}", {}, plan_label(lake, config))


def _loop(lake: Lake, config: LabelConfig) -> None:
    work = plan_label(lake, config)
    work.stage.open()
    for task in work.tasks:
        write_output(lake, "r", "label", task.key, work.stage.process(task))
