"""`fleetmill verify`: recomputes the hashes, counts and references of a corpus or a lake."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import AsJson
from jobs.reporting import Reporter
from pipeline.lake.verify import verify as check


def verify(
    url: Annotated[str, typer.Argument(metavar="URL", help="A lake, a corpus or a snapshot.")],
    *,
    json: AsJson = False,
) -> None:
    """Recompute everything that a corpus or a lake promises.

    Checks every hash, count and reference. Prints one line per problem; the exit code is 1 if
    there is any.

        fleetmill verify L/corpora/first
    """
    reporter = Reporter(json)
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
        }
    )
    raise typer.Exit(0 if report.ok else 1)
