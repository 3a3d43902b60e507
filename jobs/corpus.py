"""fleetmill corpus: samples to an immutable snapshot of shards."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import (
    AsJson,
    ConfigFile,
    LakeUrl,
    MaxRejects,
    Payload,
    TopologyDirs,
    TopologyName,
    ValFraction,
    Where,
)
from jobs.reporting import Reporter, exit_code, job_documents, show_jobs
from jobs.results import show_snapshot, snapshot_document
from jobs.steps import corpus_steps
from pipeline.config import CorpusConfig, configure, read_file


def corpus(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The corpus.")],
    *,
    lake: LakeUrl,
    topology: TopologyName = None,
    topologies: TopologyDirs = None,
    where: Where = None,
    payload: Payload = None,
    val_fraction: ValFraction = None,
    max_reject_fraction: MaxRejects = 0.05,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Build an immutable snapshot of shards for a training machine.

    The same samples, split and machine give the same bytes and the same root hash.

        fleetmill corpus brakes --lake L --topology dojo-tray --where "trigger = 'hard_brake'"
    """
    reporter = Reporter(json)
    flags = {
        "name": name,
        "topology": topology,
        "topologies": topologies,
        "where": where,
        "payload": payload,
        "val_fraction": val_fraction,
    }
    settings = configure(CorpusConfig, read_file(config), flags)
    reports = corpus_steps(reporter, lake, settings)
    snapshot = snapshot_document(reports[-1])
    show_jobs(reporter, reports)
    show_snapshot(reporter, snapshot)
    reporter.document({"jobs": job_documents(reports), "snapshot": snapshot})
    raise typer.Exit(exit_code(reporter, reports, max_reject_fraction))
