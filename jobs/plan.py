"""`fleetmill plan`: plans a published snapshot for another machine."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer

from jobs.options import AsJson, TopologyDirs, TopologyName
from jobs.reporting import Reporter
from jobs.results import balance, show_balance
from pipeline.topologies import load_topology
from pipeline.topologies.planner import replan
from schemas.errors import UsageError
from schemas.ids import canonical
from transforms.parquet import read
from transforms.storage import get, names, normal, put


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
    document = replan(read(f"{snapshot}/samples.parquet"), machine)
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
    """
    url = normal(corpus)
    inside = names(url)
    if "manifest.json" in inside:
        return url
    if "latest.json" in inside:
        return f"{url}/{json_format.loads(get(f'{url}/latest.json'))['snapshot']}"
    raise UsageError(
        f"{corpus!r} is neither a snapshot (no manifest.json) nor a corpus (no latest.json); "
        "corpora are in LAKE/corpora/NAME"
    )
