"""The flags of the subcommands.

A `Flag` sets one key of a job's configuration. Its type, its help, its choices and its default
are those of the key, so they are stated once, in pipeline.config.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config import CorpusConfig, IngestConfig, LabelConfig, MineConfig

MAX_REJECTS = 0.05


LakeUrl = Annotated[
    str, typer.Option("--lake", metavar="URL", help="The lake: a folder or an fsspec URL.")
]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="FILE", help="TOML file with one table per job; flags override it."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
]
MaxRejects = Annotated[
    float,
    typer.Option(
        "--max-reject-fraction",
        metavar="F",
        min=0,
        max=1,
        help="Exit with 3 if more than this fraction of a stage's inputs is rejected.",
    ),
]


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag that sets one key of a job's configuration.

    Args:
        name: the flag, such as `--label-fps`; a name without dashes is a positional argument.
        metavar: stands for the value in the help. Default: the choices, or the type.
        key: the configuration's key. Default: the name, `label_fps`.
        help: default: the description of the key.
        in_run: the flag of `fleetmill run` that sets the same key. Default: this one.
        requests: `fleetmill run` leaves the job out unless this flag is given.
    """

    name: str
    metavar: str | None = None
    key: str = ""
    help: str = ""
    in_run: Flag | None = None
    requests: bool = False

    @property
    def parameter(self) -> str:
        """The name of the command's parameter."""
        return self.name.removeprefix("--").replace("-", "_").lower()

    def value(self, values: Mapping[str, Any]) -> Any:
        """Returns the flag's value among those of a command, None if it was not given."""
        value = values.get(self.parameter)
        return None if value == [] else value

    def field(self, config: type[BaseModel]) -> FieldInfo:
        """Returns the configuration's field that the flag sets."""
        return config.model_fields[self.key or self.parameter]

    def option(
        self, config: type[BaseModel], panel: str | None = None, *, default: bool = True
    ) -> Any:
        """Describes the flag to typer.

        Args:
            config: the job's configuration.
            panel: the heading in the help. None: the general one.
            default: show the default of the key.
        """
        field = self.field(config)
        text = self.help or _sentence(field)
        metavar = self.metavar or _choices(field)
        if not self.name.startswith("--"):
            return typer.Argument(metavar=self.name, help=text, rich_help_panel=panel)
        shown: bool | str = (default and not self.requests and _default(field)) or False
        return typer.Option(
            self.name, metavar=metavar, help=text, show_default=shown, rich_help_panel=panel
        )

    def signature(self, config: type[BaseModel], panel: str | None = None) -> inspect.Parameter:
        """Makes the parameter of a command's function; a flag that is not given is None."""
        kind, option = _type(self.field(config)), self.option(config, panel)
        if not self.name.startswith("--"):
            return required(self.parameter, Annotated[kind, option])
        return optional(self.parameter, Annotated[kind | None, option], None)


def required(name: str, annotation: Any) -> inspect.Parameter:
    """Makes a parameter without a default."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)


def optional(name: str, annotation: Any, default: object) -> inspect.Parameter:
    """Makes a parameter with a default."""
    return required(name, annotation).replace(default=default)


def _kind(field: FieldInfo) -> Any:
    """Returns the field's type without None."""
    if get_origin(field.annotation) in {Union, UnionType}:
        return next(kind for kind in get_args(field.annotation) if kind is not NoneType)
    return field.annotation


def _type(field: FieldInfo) -> Any:
    """Returns the type that typer parses; the model validates the value later.

    >>> _type(LabelConfig.model_fields["models"]), _type(LabelConfig.model_fields["privacy"])
    (list[str], <class 'str'>)
    """
    kind = _kind(field)
    origin = get_origin(kind)
    if origin is tuple:
        return list[get_args(kind)[0]]  # type: ignore[misc]  # known only at run time
    return str if origin is Literal else kind


def _choices(field: FieldInfo) -> str | None:
    kind = _kind(field)
    return f"<{'|'.join(get_args(kind))}>" if get_origin(kind) is Literal else None


def _default(field: FieldInfo) -> str:
    """Returns the default as the help shows it; empty if there is none.

    >>> _default(CorpusConfig.model_fields["topology"]), _default(LabelConfig.model_fields["fps"])
    ('dojo-tile', '5')
    """
    default = None if field.is_required() else field.default
    if isinstance(default, tuple):
        return ", ".join(default)
    if isinstance(default, float):
        return f"{default:g}"
    return default if isinstance(default, str) else ""


def _sentence(field: FieldInfo) -> str:
    """Makes a sentence of a field's description.

    >>> _sentence(MineConfig.model_fields["only"])
    'Run this trigger alone. Repeatable.'
    """
    text = field.description or ""
    repeatable = " Repeatable." if get_origin(_kind(field)) is tuple else ""
    return f"{text[:1].upper()}{text[1:]}.{repeatable}"


INPUT_TIMEOUT = Flag("--input-timeout", "S", key="input_timeout_s")
INPUT_MEMORY = Flag("--input-memory", "GB", key="input_memory_gb")
CAN_MAPS = Flag("--can-maps", "DIR")
TOPIC_MAPS = Flag("--topic-maps", "DIR")
TRIGGERS = Flag("--triggers", "DIR")
TRIGGER_TIMEOUT = Flag("--trigger-timeout", "S", key="trigger_timeout_s")
MODELS = Flag("--models", "NAME")
MODELS_DIR = Flag("--models-dir", "DIR")
POLICIES = Flag("--policies", "DIR")
TOPOLOGY = Flag("--topology", "NAME")
TOPOLOGIES = Flag("--topologies", "DIR")

CanMaps = Annotated[list[str] | None, CAN_MAPS.option(IngestConfig)]
TopicMaps = Annotated[list[str] | None, TOPIC_MAPS.option(IngestConfig)]
Triggers = Annotated[list[str] | None, TRIGGERS.option(MineConfig)]
ModelDirs = Annotated[list[str] | None, MODELS_DIR.option(LabelConfig)]
PolicyDirs = Annotated[list[str] | None, POLICIES.option(LabelConfig)]
TopologyName = Annotated[str, TOPOLOGY.option(CorpusConfig, default=False)]
TopologyDirs = Annotated[list[str] | None, TOPOLOGIES.option(CorpusConfig)]
