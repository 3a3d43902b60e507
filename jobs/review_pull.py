"""Declares `fleetmill review pull`: what labellers answered, of a server or of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.job import Job, StageRun
from jobs.options import Flag
from jobs.reporting import Reporter
from jobs.review_push import SERVER, check_server
from pipeline.config import ReviewPullConfig
from pipeline.graph.balance import JobReport
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import read_rows
from pipeline.stages.review_pull import plan_review_pull


def _pull_result(reporter: Reporter, lake: Lake, _: Sequence[JobReport]) -> dict[str, Any]:
    """Prints and returns the number of answers in the lake by verdict."""
    sql = "SELECT coalesce(verdict, 'none') AS v, count(*) AS n FROM verdicts GROUP BY 1 ORDER BY 1"
    rows = read_rows(lake, sql)
    found: Mapping[str, int] = dict(zip(rows["v"].to_pylist(), rows["n"].to_pylist(), strict=True))
    reporter.table("answers in the lake", ("verdict", "answers"), list(found.items()))
    return {"verdicts": dict(found)}


PULL = Job(
    name="review_pull",
    help="""Take the answers of labellers into the table `verdicts`.

    They are from a Label Studio, or from FILE, an export of a project as JSON. Each state of an
    annotation is a row; one that is there is not taken again, and nothing of the labels is
    changed.

        fleetmill review pull --lake L --input export.json
    """,
    config=ReviewPullConfig,
    flags=(Flag("--input", "FILE"), *SERVER),
    check=check_server,
    stages=(StageRun("review_pull", plan_review_pull, watched=True),),
    show=_pull_result,
)
review_pull = PULL.command()
