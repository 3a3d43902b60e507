"""Writes a fleet of synthetic drives, and its ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from synth import WRITERS
from synth import truth as ground_truth
from synth.recorded import simulate
from synth.spec import FleetSpec
from transforms.addresses import check_bare
from transforms.storage import filesystem

__all__ = ["FleetReport", "FleetSpec", "write_fleet"]


@dataclass(frozen=True, slots=True)
class FleetReport:
    """What was written: names of logs, number of files, events by type, folder of the truth."""

    logs: tuple[str, ...]
    files: int
    events: dict[str, int]
    truth: str | None


def write_fleet(
    spec: FleetSpec, out: str, truth: bool, progress: Callable[[str], None] | None = None
) -> FleetReport:
    """Writes a fleet to a folder.

    Args:
        spec: the fleet.
        out: path or URL of the folder, opened with fsspec; created if absent.
        truth: also write OUT/truth/*.parquet (see synth.truth).
        progress: called with a line of text after each drive.

    Raises:
        UsageError: the format is unknown.
    """
    write = WRITERS.load(spec.format)
    check_bare("folder", out)
    fs, root = filesystem(out)
    root = root.rstrip("/")
    fs.makedirs(root, exist_ok=True)
    logs: list[str] = []
    files = 0
    kinds: Counter[str] = Counter()
    with _TruthFiles(fs, f"{root}/truth", truth) as tables:
        for index in range(spec.drives):
            drive = simulate(spec, index)
            written = write(spec, drive, fs, root)
            logs.append(written.log_name)
            files += written.files
            events = ground_truth.events(drive, written.log_name, written.extra)
            kinds.update(events.column("type").to_pylist())
            tables.add("events", events)
            if truth:
                tables.add("boxes", ground_truth.boxes(drive, written.log_name, written.boxes))
                tables.add("ego", ground_truth.ego(drive, written.log_name))
                tables.add("signals", ground_truth.signals(drive, written.log_name))
            if progress:
                progress(f"{index + 1} of {spec.drives} drives: {written.log_name}")
    where = str(fs.unstrip_protocol(f"{root}/truth")) if "://" in out else f"{root}/truth"
    return FleetReport(tuple(logs), files, dict(sorted(kinds.items())), where if truth else None)


class _TruthFiles:
    """The Parquet files of the truth: one row group per drive."""

    def __init__(self, fs: fsspec.AbstractFileSystem, folder: str, wanted: bool) -> None:
        self._writers: dict[str, pq.ParquetWriter] = {}
        if wanted:
            fs.makedirs(folder, exist_ok=True)
            for name, schema in ground_truth.TABLES.items():
                self._writers[name] = pq.ParquetWriter(
                    f"{folder}/{name}.parquet", schema, filesystem=fs, compression="zstd"
                )

    def __enter__(self) -> _TruthFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def add(self, name: str, table: pa.Table) -> None:
        """Appends the rows of a drive to a table, if the truth is written."""
        if self._writers and table.num_rows:
            self._writers[name].write_table(table)
