"""fleetmill list: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from auto_label.models import MODELS
from auto_label.policies import POLICIES
from jobs.options import AsJson, CanMaps, ModelDirs, PolicyDirs, TopicMaps, TopologyDirs, Triggers
from jobs.reporting import Reporter
from pipeline.queries import list_queries, load_query
from pipeline.topologies import TOPOLOGIES
from transforms.can.maps import CAN_MAPS
from transforms.definitions import Definition, Definitions
from transforms.messages.maps import TOPIC_MAPS
from transforms.readers import FORMATS
from transforms.triggers import TRIGGERS


class Kind(StrEnum):
    """What can be listed."""

    FORMATS = "formats"
    TRIGGERS = "triggers"
    MODELS = "models"
    POLICIES = "policies"
    TOPOLOGIES = "topologies"
    CAN_MAPS = "can-maps"
    TOPIC_MAPS = "topic-maps"
    QUERIES = "queries"


def list(  # noqa: A001 - the subcommand's name
    kind: Annotated[Kind, typer.Argument(help=", ".join(Kind))],
    *,
    triggers: Triggers = None,
    models_dir: ModelDirs = None,
    policies: PolicyDirs = None,
    topologies: TopologyDirs = None,
    can_maps: CanMaps = None,
    topic_maps: TopicMaps = None,
    json: AsJson = False,
) -> None:
    """List formats, triggers, models, policies, topologies, maps or named queries.

    Files of yours that are wrong are told on stderr; the others are listed.
    """
    reporter = Reporter(json)

    def survey(
        kind: Definitions[Any], folders: Sequence[str] | None, *keys: str
    ) -> Sequence[dict[str, Any]]:
        found, mistakes = kind.survey(folders or ())
        for mistake in mistakes:
            reporter.note(mistake)
        return [_row(definition, keys) for definition in found]

    listings: dict[Kind, Callable[[], Sequence[dict[str, Any]]]] = {
        Kind.FORMATS: lambda: [
            {"name": name, "description": _first_line(FORMATS.load(name))} for name in FORMATS
        ],
        Kind.TRIGGERS: lambda: survey(TRIGGERS, triggers, "version", "table", "description"),
        Kind.MODELS: lambda: survey(MODELS, models_dir, "family", "licence", "description"),
        Kind.POLICIES: lambda: survey(POLICIES, policies, "cover", "description"),
        Kind.TOPOLOGIES: lambda: survey(TOPOLOGIES, topologies, "units", "unit", "description"),
        Kind.CAN_MAPS: lambda: survey(CAN_MAPS, can_maps, "description"),
        Kind.TOPIC_MAPS: lambda: survey(TOPIC_MAPS, topic_maps, "description"),
        Kind.QUERIES: lambda: [
            {"name": name, "description": load_query(name).splitlines()[0].lstrip("- ")}
            for name in list_queries()
        ],
    }
    rows = listings[kind]()
    columns = tuple(rows[0]) if rows else ("name",)
    reporter.table(kind.value, columns, [tuple(row.values()) for row in rows])
    reporter.document(rows)


def _row(definition: Definition, keys: Sequence[str]) -> dict[str, Any]:
    return {key: getattr(definition, key) for key in ("name", *keys)}


def _first_line(plugin: Any) -> str:
    return str(plugin.__doc__ or "").strip().splitlines()[0]
