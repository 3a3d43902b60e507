"""fleetmill run: every job of the pipeline, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from auto_label.models import load_models
from jobs.options import (
    AsJson,
    Channels,
    ConfigFile,
    Dbc,
    Format,
    Inputs,
    InputTimeout,
    LabelFps,
    LakeUrl,
    MaxRejects,
    ModelDirs,
    Models,
    Payload,
    Privacy,
    TopologyDirs,
    TopologyName,
    Triggers,
    ValFraction,
    Where,
)
from jobs.reporting import Reporter, exit_code, job_documents, show_jobs
from jobs.results import show_events, show_snapshot, snapshot_document
from jobs.steps import corpus_steps, step
from pipeline.config import (
    CorpusConfig,
    IngestConfig,
    LabelConfig,
    MineConfig,
    SweepConfig,
    configure,
    read_file,
)
from pipeline.graph.balance import JobReport
from pipeline.lake.tables import Lake
from pipeline.stages.ingest import plan_ingest
from pipeline.stages.label import plan_label
from pipeline.stages.mine import plan_mine
from pipeline.stages.sweep import plan_sweep
from pipeline.topologies import load_topology
from schemas.errors import UsageError
from transforms.triggers import load_triggers


def run(
    *,
    lake: LakeUrl,
    input: Inputs = None,  # noqa: A002 - the flag is --input
    format: Format = None,  # noqa: A002 - the flag is --format
    dbc: Dbc = None,
    channels: Channels = None,
    input_timeout: InputTimeout = None,
    sweep_fps: Annotated[
        float | None,
        typer.Option("--sweep-fps", metavar="F", help="Sweep keyframes too, F a second."),
    ] = None,
    triggers: Triggers = None,
    models: Models = None,
    models_dir: ModelDirs = None,
    label_fps: LabelFps = None,
    privacy: Privacy = None,
    corpus: Annotated[
        str | None, typer.Option("--corpus", metavar="NAME", help="Build this corpus at the end.")
    ] = None,
    topology: TopologyName = None,
    topologies: TopologyDirs = None,
    where: Where = None,
    payload: Payload = None,
    val_fraction: ValFraction = None,
    max_reject_fraction: MaxRejects = 0.05,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Ingest, sweep, mine, label and build a corpus in one go.

    Every job skips what a former run is done with. Stop it at any time and run the same
    command again: it ends in the same bytes.

        fleetmill run --input drives --lake L --corpus first --topology dojo-tray
    """
    reporter = Reporter(json)
    flags = {
        "input": input,
        "format": format,
        "dbc": dbc,
        "channels": channels,
        "input_timeout": input_timeout,
        "sweep_fps": sweep_fps,
        "triggers": triggers,
        "models": models,
        "models_dir": models_dir,
        "label_fps": label_fps,
        "privacy": privacy,
        "corpus": corpus,
        "topology": topology,
        "topologies": topologies,
        "where": where,
        "payload": payload,
        "val_fraction": val_fraction,
    }
    reports, snapshot = run_jobs(reporter, lake, read_file(config), flags)
    show_jobs(reporter, reports)
    events = show_events(reporter, Lake.open(lake))
    if snapshot is not None:
        show_snapshot(reporter, snapshot)
    reporter.document({"jobs": job_documents(reports), "events": events, "snapshot": snapshot})
    raise typer.Exit(exit_code(reporter, reports, max_reject_fraction))


def run_jobs(
    reporter: Reporter,
    lake: str,
    tables: Mapping[str, Mapping[str, Any]],
    flags: Mapping[str, Any],
) -> tuple[list[JobReport], dict[str, Any] | None]:
    """Runs the jobs of a lake one after the other.

    Args:
        reporter: where progress goes.
        lake: the lake's URL.
        tables: the configuration file.
        flags: those of `run`, by name; what is absent or None was not given.

    Returns:
        A report a job, and the snapshot if a corpus was asked for.

    Raises:
        FleetError: the configuration is wrong, or a job failed. Keys, values and names are
            checked before the first job starts.
    """

    def taken(*names: str, **renamed: str) -> dict[str, Any]:
        own = {name: flags.get(name) for name in names}
        return own | {key: flags.get(flag) for key, flag in renamed.items()}

    timeout = taken(input_timeout_s="input_timeout")
    ingest_flags = taken("input", "format", "dbc", "channels") | timeout
    ingest = configure(IngestConfig, tables, ingest_flags)
    sweep_flags = taken("models", "models_dir", fps="sweep_fps") | timeout
    sweep = configure(SweepConfig, tables, sweep_flags)
    mine = configure(MineConfig, tables, taken("triggers"))
    label_flags = taken("models", "models_dir", "privacy", fps="label_fps") | timeout
    label = configure(LabelConfig, tables, label_flags)
    corpus_flags = taken(
        "topology", "topologies", "where", "payload", "val_fraction", name="corpus"
    )
    named = flags.get("corpus") is not None or "name" in tables.get("corpus", {})
    corpus = configure(CorpusConfig, tables, corpus_flags) if named else None
    if corpus is None and any(value is not None for value in corpus_flags.values()):
        raise UsageError("--topology, --where, --payload and --val-fraction need --corpus NAME")
    load_triggers(mine.triggers, only=mine.only, params=mine.params)
    load_models(label.models, label.models_dir)
    if corpus is not None:
        load_topology(corpus.topology, corpus.topologies)
    reports = [step(reporter, lake, "ingest", ingest, plan_ingest, create=True)]
    if flags.get("sweep_fps") is not None or "sweep" in tables:
        reports.append(step(reporter, lake, "sweep", sweep, plan_sweep))
    reports.append(step(reporter, lake, "mine", mine, plan_mine))
    reports.append(step(reporter, lake, "label", label, plan_label))
    if corpus is None:
        return reports, None
    reports.extend(corpus_steps(reporter, lake, corpus))
    return reports, snapshot_document(reports[-1])
