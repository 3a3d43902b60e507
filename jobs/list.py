"""fleetmill list: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from auto_label.models import list_models
from jobs.options import AsJson, ModelDirs, TopologyDirs, Triggers
from jobs.reporting import Reporter
from pipeline.queries import list_queries, load_query
from pipeline.topologies import list_topologies, load_topology
from transforms.readers import FORMATS
from transforms.triggers import load_triggers


class Kind(StrEnum):
    """What can be listed."""

    FORMATS = "formats"
    TRIGGERS = "triggers"
    MODELS = "models"
    TOPOLOGIES = "topologies"
    QUERIES = "queries"


def list(  # noqa: A001 - the subcommand's name
    kind: Annotated[Kind, typer.Argument(help="formats, triggers, models, topologies, queries")],
    *,
    triggers: Triggers = None,
    models_dir: ModelDirs = None,
    topologies: TopologyDirs = None,
    json: AsJson = False,
) -> None:
    """List formats, triggers, models, topologies or named queries."""
    listings: dict[Kind, Callable[[], Any]] = {
        Kind.FORMATS: lambda: [
            {"name": name, "description": _first_line(FORMATS.load(name))} for name in FORMATS
        ],
        Kind.TRIGGERS: lambda: [
            {"name": t.name, "version": t.version, "table": t.table, "description": t.description}
            for t in load_triggers(triggers or ())
        ],
        Kind.MODELS: lambda: [
            {"name": m.name, "family": m.family, "licence": m.licence}
            for m in list_models(models_dir or ())
        ],
        Kind.TOPOLOGIES: lambda: [
            {"name": t.name, "units": t.units, "unit": t.unit, "description": t.description}
            for t in (load_topology(n, topologies or ()) for n in list_topologies(topologies or ()))
        ],
        Kind.QUERIES: lambda: [
            {"name": name, "description": load_query(name).splitlines()[0].lstrip("- ")}
            for name in list_queries()
        ],
    }
    rows = listings[kind]()
    reporter = Reporter(json)
    columns = tuple(rows[0]) if rows else ("name",)
    reporter.table(kind.value, columns, [tuple(row.values()) for row in rows])
    reporter.document(rows)


def _first_line(plugin: Any) -> str:
    return str(plugin.__doc__ or "").strip().splitlines()[0]
