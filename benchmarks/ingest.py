"""ingest: driven seconds ingested per core-second, four TeslaCam cameras with telemetry."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time

from benchmarks import Measure
from pipeline.config import IngestConfig
from pipeline.graph.stage import write_output
from pipeline.lake.tables import Lake
from pipeline.stages.ingest import plan_ingest
from synth.fleet import FleetSpec, write_fleet
from transforms.isolation import Call, Limits, isolated

MINUTES = 20.0


def measure() -> Iterator[Measure]:
    """Ingests a drive: discovery, demuxing, alignment and writing Parquet; the median of three."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = Path(folder) / "fleet"
        write_fleet(FleetSpec(drives=1, minutes=MINUTES, seed=3, video=False), str(fleet), False)
        for front in sorted(fleet.rglob("*-front.mp4")):
            for camera in ("back", "left_repeater", "right_repeater"):
                shutil.copy(front, front.with_name(front.name.replace("-front", f"-{camera}")))
        rates = []
        for repeat in range(3):
            lake = Lake.create(f"{folder}/lake-{repeat}")
            start = _spent_s()
            work = plan_ingest(lake, IngestConfig(input=(str(fleet),)))
            for task in work.tasks:
                write_output(lake, "r", "ingest", task.key, work.stage.process(task))
            rates.append(MINUTES * 60 / (_spent_s() - start))
    yield Measure(
        name="ingest",
        ours=sorted(rates)[1],
        peer=1.0,
        peer_name="real time",
        unit="driven s per core-second",
        detail=f"{MINUTES:g} minutes, 4 cameras, one worker and its child process, one core",
    )


def _spent_s() -> float:
    """Returns the CPU time of this process and of the child process that reads the logs."""
    return process_time() + isolated(Call(process_time, ()), Limits(), "benchmark")
