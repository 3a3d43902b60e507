"""Declares `fleetmill compact`: merges small files, and deletes what nothing needs any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from jobs.job import Job, StageRun, Values, command, run_command
from jobs.options import Flag, optional
from jobs.reporting import Reporter
from pipeline.config import CompactConfig, read_file
from pipeline.graph.balance import JobReport
from pipeline.lake.tables import Lake
from pipeline.lake.vacuum import checkpoint, vacuum
from pipeline.stages.compact import CompactTask, plan_compact
from schemas.tables import TABLES

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be merged and deleted.")
]


def _clean_up(reporter: Reporter, lake: Lake, reports: Sequence[JobReport]) -> dict[str, Any]:
    """Deletes what nothing needs any more, once the merged files are committed."""
    deleted = vacuum(lake, reports[-1].detail["keep_hours"])
    checkpoint(lake)
    return _shown(reporter, lake, deleted, "deleted")


def _shown(reporter: Reporter, lake: Lake, deleted: Sequence[str], verb: str) -> dict[str, Any]:
    files = {table: len(lake.files(table)) for table in TABLES}
    folders = dict(sorted(Counter(path.partition("/")[0] for path in deleted).items()))
    reporter.table("files of the tables", ("table", "files"), list(files.items()))
    reporter.text(f"{verb} {len(deleted)} files that nothing needs any more")
    for folder, number in folders.items():
        reporter.text(f"  {folder}  {number}")
    return {"files": files, "deleted": list(deleted)}


COMPACT = Job(
    name="compact",
    help="""Merge small files of the lake, and delete what nothing needs any more.

    Queries answer the same, during and after it. Jobs and readers may run meanwhile: files
    that are replaced, and what killed runs left, are deleted --keep hours later. Run it once
    a day on a lake that grows every hour.

        fleetmill compact --lake L --dry-run
    """,
    config=CompactConfig,
    flags=(Flag("--keep", "HOURS", key="keep_hours"),),
    stages=(StageRun("compact", plan_compact),),
    show=_clean_up,
)


def _call(reporter: Reporter, values: Values) -> None:
    config = COMPACT.configure(read_file(values["config"]), COMPACT.flags, values)
    if not values["dry_run"]:
        run_command(reporter, values, [(COMPACT, config)], {})
    lake = Lake.open(values["lake"])
    merged: Counter[str] = Counter()
    for task in plan_compact(lake, config).tasks:
        assert isinstance(task, CompactTask)
        merged[task.table] += task.counted
    reporter.table("files to merge", ("table", "files"), list(merged.items()))
    deleted = vacuum(lake, config.keep_hours, dry_run=True)
    shown = _shown(reporter, lake, deleted, "would delete")
    reporter.document({"merge": dict(merged), **shown})


compact = command(
    COMPACT.name,
    COMPACT.help,
    [
        *(flag.signature(COMPACT.config) for flag in COMPACT.flags),
        optional("dry_run", DryRun, False),
    ],
    _call,
)
