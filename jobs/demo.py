"""`fleetmill demo`: a synthetic fleet through every job."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from jobs.job import run_jobs
from jobs.options import MAX_REJECTS, AsJson
from jobs.reporting import Reporter, exit_code, job_documents, show_jobs, show_time
from jobs.results import snapshot_result
from jobs.run import configure_jobs
from pipeline.lake.tables import Lake
from synth.fleet import FleetSpec, write_fleet
from transforms.parquet import read
from transforms.triggers.score import Score, score_events

FLEET = FleetSpec(
    drives=4,
    minutes=1.25,
    seed=7,
    width=480,
    height=360,
    cameras=("front",),
    events_per_minute=4.0,
)
FLAGS = {
    "sweep_fps": 0.5,
    "label_fps": 2.0,
    "corpus": "demo",
    "topology": "dojo-tray",
    "val_fraction": 0.25,
}
QUESTION = "SELECT trigger, count(*) FROM events GROUP BY 1"


def demo(
    *,
    root: Annotated[
        str, typer.Option("--root", metavar="DIR", help="The folder of the fleet and the lake.")
    ] = "demo-lake",
    json: AsJson = False,
) -> None:
    """Run a small synthetic fleet through everything.

    Makes a fleet with known events, ingests, sweeps, mines, labels and blurs it, builds a
    corpus for a Dojo tray, and prints the events that were found beside those that are known.
    Run it again and there is nothing new.
    """
    reporter = Reporter(json)
    fleet, url = f"{root}/fleet", f"{root}/lake"
    synthetic = write_fleet(FLEET, fleet, True, reporter.note)
    lake, reports = run_jobs(reporter, url, configure_jobs({}, {**FLAGS, "input": [fleet]}))
    show_jobs(reporter, reports)
    found = _beside_truth(reporter, lake, f"{fleet}/truth/events.parquet")
    snapshot = snapshot_result(reporter, lake, reports)
    show_time(reporter, reports)
    next_commands = (
        f'fleetmill query --lake {url} "{QUESTION}"',
        f"fleetmill verify {url}/corpora/demo",
        f"fleetmill plan {url}/corpora/demo --topology gpu-8",
    )
    reporter.text("Try next (in .venv/bin after make demo):")
    for command in next_commands:
        reporter.text(f"  {command}")
    reporter.document(
        {
            "jobs": job_documents(reports),
            "triggers": found,
            **snapshot,
            "logs": [*synthetic.logs],
            "next": [*next_commands],
        }
    )
    raise typer.Exit(exit_code(reporter, reports, MAX_REJECTS))


def _beside_truth(reporter: Reporter, lake: Lake, truth_uri: str) -> list[dict[str, Any]]:
    """Prints and returns how the events in the lake match the known ones, by trigger."""
    truth = read(truth_uri)
    names = lake.read("logs", columns=["log_id", "name"])
    events = lake.read("events").join(names, "log_id")
    events = events.append_column("log_name", events["name"]).drop_columns(["name"])
    scores = score_events(events, truth)
    columns = ("trigger", "in truth", "found", "matched", "precision", "recall")
    rows = [_cells(score) for score in scores]
    reporter.table("events beside the truth", columns, rows)
    reporter.text("cut_in needs the distance to the vehicle ahead, which TeslaCam does not log,")
    reporter.text("vru_near a detector's weights.")
    reporter.text()
    scored = {score.trigger for score in scores}
    counts = Counter(name for name in events["trigger"].to_pylist() if name not in scored)
    reporter.table("other triggers", ("trigger", "events"), sorted(counts.items()))
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _cells(row: Score) -> tuple[Any, ...]:
    return (row.trigger, row.truth, row.found, row.matched, row.precision, row.recall)
