"""`fleetmill verify`: recomputes the hashes, counts and references of a corpus or a lake.

With `--repair` it first removes what two runs did twice.
"""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import AsJson
from jobs.reporting import Reporter
from pipeline.lake.repair import repair as remove_twins
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify as check


def verify(
    url: Annotated[str, typer.Argument(metavar="URL", help="A lake, a corpus or a snapshot.")],
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="First remove the later twin of rows that two runs of an older version added; "
            "do it before the lake is compacted.",
        ),
    ] = False,
    json: AsJson = False,
) -> None:
    """Recompute everything that a corpus or a lake promises.

    Checks every hash, count and reference. Prints one line per problem; the exit code is 1 if
    there is any.

        fleetmill verify L/corpora/first
        fleetmill verify --repair L
    """
    reporter = Reporter(json)
    removed = remove_twins(Lake.open(url)) if repair else {}
    for table, rows in removed.items():
        reporter.text(f"repaired {table}: removed {rows:,} rows that were there twice")
    if repair and not removed:
        reporter.text("nothing to repair: no run did what another had done")
    report = check(url)
    for problem in report.problems:
        reporter.text(problem)
    looked_at = ", ".join(f"{number:,} {what}" for what, number in report.checked.items())
    outcome = "all promises hold" if report.ok else f"{len(report.problems)} problems"
    reporter.text(f"{report.kind} {url}: {looked_at}: {outcome}")
    reporter.document(
        {
            "url": url,
            "kind": report.kind,
            "checked": dict(report.checked),
            "problems": [*report.problems],
            "removed": removed,
        }
    )
    raise typer.Exit(0 if report.ok else 1)
