"""`fleetmill plan`: plans a published snapshot for another machine."""

from __future__ import annotations

from typing import Annotated

import pyarrow as pa
import typer

from jobs.options import AsJson, TopologyDirs, TopologyName
from jobs.reporting import Reporter
from jobs.results import balance, show_balance
from pipeline.snapshots.manifest import is_published, latest_snapshot
from pipeline.topologies import load_topology
from pipeline.topologies.planner import replan
from schemas.errors import LakeError, UsageError, one_line
from schemas.ids import canonical
from transforms.parquet import read
from transforms.storage import check_own, normal, put


def plan(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="The folder of a corpus or of a snapshot.")
    ],
    *,
    topology: TopologyName,
    topologies: TopologyDirs = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", help="The plan file.", show_default="plan-TOPOLOGY.json"
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Plan a published snapshot again for another machine.

    Writes one plan file and no shard: units get other ranges of the shards that are there.

        fleetmill plan L/corpora/first --topology gpu-8
    """
    reporter = Reporter(json)
    machine = load_topology(topology, topologies or ())
    snapshot = snapshot_folder(corpus)
    samples = f"{snapshot}/samples.parquet"
    try:
        check_own(samples)
        document = replan(read(samples), machine)
    except (pa.ArrowException, OSError) as error:
        raise LakeError(
            f"{samples} cannot be read: {one_line(error)}; `fleetmill verify` lists what is damaged"
        ) from error
    target = out or f"plan-{machine.name}.json"
    put(normal(target), canonical(document))
    reporter.text(f"plan  {target}")
    reporter.text()
    summary = balance(document)
    show_balance(reporter, summary)
    reporter.document({"plan": target, "snapshot": snapshot, **summary})


def snapshot_folder(corpus: str) -> str:
    """Returns the URL of a snapshot, given its own or that of its corpus (the latest one).

    Raises:
        UsageError: the URL is neither a snapshot nor a corpus.
        LakeError: what the corpus points to cannot be told.
    """
    url = normal(corpus)
    if is_published(url):
        return url
    if latest := latest_snapshot(url):
        return latest
    raise UsageError(
        f"{corpus!r} is neither a snapshot (no manifest.json) nor a corpus (no latest.json); "
        "corpora are in LAKE/corpora/NAME"
    )
