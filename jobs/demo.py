"""fleetmill demo: a synthetic fleet through everything."""

from __future__ import annotations

from typing import Annotated, Any

import pyarrow as pa
import typer

from jobs.options import AsJson
from jobs.reporting import Reporter, exit_code, job_documents, show_jobs
from jobs.results import show_snapshot
from jobs.run import run_jobs
from pipeline.lake.tables import Lake
from synth.fleet import FleetSpec, write_fleet
from transforms.parquet import read
from transforms.triggers.score import score_events

DRIVES = 4
MINUTES = 1.25
EVENTS_PER_MINUTE = 4.0
QUESTION = "SELECT trigger, count(*) FROM events GROUP BY 1"


def demo(
    *,
    root: Annotated[
        str, typer.Option("--root", metavar="DIR", help="Where the fleet and the lake go.")
    ] = "demo-lake",
    json: AsJson = False,
) -> None:
    """Run a small synthetic fleet through everything.

    Makes a fleet with known events, ingests, sweeps, mines, labels and blurs it, builds a
    corpus for a Dojo tray, and prints what was found beside the truth. Run it again and
    there is nothing new.
    """
    reporter = Reporter(json)
    fleet, lake = f"{root}/fleet", f"{root}/lake"
    spec = FleetSpec(
        drives=DRIVES,
        minutes=MINUTES,
        seed=7,
        width=480,
        height=360,
        cameras=("front",),
        events_per_minute=EVENTS_PER_MINUTE,
    )
    synthetic = write_fleet(spec, fleet, True, reporter.note)
    flags = {
        "input": [fleet],
        "sweep_fps": 0.5,
        "label_fps": 2.0,
        "corpus": "demo",
        "topology": "dojo-tray",
        "val_fraction": 0.25,
    }
    reports, snapshot = run_jobs(reporter, lake, {}, flags)
    assert snapshot is not None
    show_jobs(reporter, reports)
    found = _beside_truth(reporter, Lake.open(lake), f"{fleet}/truth/events.parquet")
    show_snapshot(reporter, snapshot)
    next_commands = (
        f'fleetmill query --lake {lake} "{QUESTION}"',
        f"fleetmill verify {lake}/corpora/demo",
        f"fleetmill plan {lake}/corpora/demo --topology gpu-8",
    )
    reporter.text("Try next (in .venv/bin after make demo):")
    for command in next_commands:
        reporter.text(f"  {command}")
    reporter.document(
        {
            "jobs": job_documents(reports),
            "triggers": found,
            "snapshot": snapshot,
            "logs": [*synthetic.logs],
            "next": [*next_commands],
        }
    )
    raise typer.Exit(exit_code(reporter, reports, 0.05))


def _beside_truth(reporter: Reporter, lake: Lake, truth_uri: str) -> list[dict[str, Any]]:
    truth = read(truth_uri)
    names = lake.read("logs", columns=["log_id", "name"])
    events = lake.read("events").join(names, "log_id")
    events = events.append_column("log_name", events["name"]).drop_columns(["name"])
    rows = score_events(events, truth)
    columns = ("trigger", "in truth", "found", "matched", "precision", "recall")
    reporter.table("events beside the truth", columns, [_cells(row) for row in rows])
    reporter.text("cut_in needs the distance to the vehicle ahead, which TeslaCam does not log,")
    reporter.text("vru_near a detector's weights.")
    reporter.text()
    others = pa.array(sorted(set(events["trigger"].to_pylist()) - {r.trigger for r in rows}))
    counts = {name: events["trigger"].to_pylist().count(name) for name in others.to_pylist()}
    reporter.table("other triggers", ("trigger", "events"), sorted(counts.items()))
    return [dict(zip(columns, _cells(row), strict=True)) for row in rows]


def _cells(row: Any) -> tuple[Any, ...]:
    return (row.trigger, row.truth, row.found, row.matched, row.precision, row.recall)
