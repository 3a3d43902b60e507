"""Writes a whole fleet, and the truth about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from synth import WRITERS
from synth import truth as happened
from synth.recorded import simulate
from synth.spec import FleetSpec

__all__ = ["FleetReport", "FleetSpec", "write_fleet"]


@dataclass(frozen=True, slots=True)
class FleetReport:
    """What was written: logs by name, files, events by type, and where the truth lies."""

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
        out: path or URL of the folder, as fsspec opens it; made if absent.
        truth: write OUT/truth/*.parquet as well (see synth.truth).
        progress: told a line after each drive.

    Raises:
        UsageError: the format is unknown.
    """
    write = WRITERS.load(spec.format)
    fs, root = fsspec.core.url_to_fs(out)
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
            events = happened.events(drive, written.log_name, written.extra)
            kinds.update(events.column("type").to_pylist())
            tables.add("events", events)
            if truth:
                tables.add("boxes", happened.boxes(drive, written.log_name, written.boxes))
                tables.add("ego", happened.ego(drive, written.log_name))
                tables.add("signals", happened.signals(drive, written.log_name))
            if progress:
                progress(f"{index + 1} of {spec.drives} drives: {written.log_name}")
    where = str(fs.unstrip_protocol(f"{root}/truth")) if "://" in out else f"{root}/truth"
    return FleetReport(tuple(logs), files, dict(sorted(kinds.items())), where if truth else None)


class _TruthFiles:
    """The Parquet files of the truth, open while drives are added: one row group a drive."""

    def __init__(self, fs: fsspec.AbstractFileSystem, folder: str, wanted: bool) -> None:
        self._writers: dict[str, pq.ParquetWriter] = {}
        if wanted:
            fs.makedirs(folder, exist_ok=True)
            for name, schema in happened.TABLES.items():
                self._writers[name] = pq.ParquetWriter(
                    f"{folder}/{name}.parquet", schema, filesystem=fs, compression="zstd"
                )

    def __enter__(self) -> _TruthFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def add(self, name: str, table: pa.Table) -> None:
        """Adds a drive's rows to a table, if the truth is wanted."""
        if self._writers and table.num_rows:
            self._writers[name].write_table(table)
