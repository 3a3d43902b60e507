"""Configuration of the jobs: one pydantic model a job, read from TOML, overridden by flags.

A file has one table a job, so one file configures a whole run:

    [mine]
    triggers = ["my-triggers"]
    params = { hard_brake = { on_mps2 = 4.5 } }

    [label]
    models = ["yolox_nano"]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from schemas.errors import UsageError, excerpt
from transforms.addresses import check_bare
from transforms.definitions import choices, mistake
from transforms.isolation import Limits
from transforms.toml import load_toml, quoted
from transforms.triggers.spec import TIMEOUT_S

_MODELS = "a detector; default: yolox_nano, left out where its weights cannot be had"


PROJECT = "fleetmill review"
"""The title of a project of Label Studio."""


ReviewOrder = Literal["random", "uncertainty", "disagreement", "rarity"]
"""By what events come to labellers one before another."""

_PROJECT = "the title of the project; further ones of it are TITLE 2 and so on"


class JobConfig(BaseModel):
    """What the configurations of all jobs share."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Reading(JobConfig):
    """What jobs share that read recordings."""

    input_timeout_s: float = Field(
        default=900.0,
        gt=0,
        le=1_000_000,
        description="an input that takes longer counts as rejected; the next run tries it again",
    )
    input_memory_gb: float = Field(
        default=2.0,
        ge=0,
        le=1_000_000,
        description="an input that needs more memory, in GB, is rejected; 0 for no limit",
    )

    @property
    def limits(self) -> Limits:
        """What one input may take."""
        return Limits(self.input_timeout_s, round(self.input_memory_gb * 1e9))


class IngestConfig(_Reading):
    """What ingest reads, and how."""

    input: tuple[str, ...] = Field(default=(), description="a folder or file of logs")
    format: str | None = Field(default=None, description="read every input as this format")
    dbc: tuple[str, ...] = Field(default=(), description="a CAN database for raw bus frames")
    can_maps: tuple[str, ...] = Field(default=(), description="a folder of CAN map .toml files")
    topic_maps: tuple[str, ...] = Field(default=(), description="a folder of topic map .toml files")
    channels: bool = Field(default=False, description="keep native samples in the table channels")
    follow_links: bool = Field(default=False, description="follow links that leave an input too")


class SweepConfig(_Reading):
    """Which keyframes the sweep looks at, and with which models."""

    fps: float = Field(default=1.0, gt=0, le=1000, description="keyframes a second, at most")
    models: tuple[str, ...] | None = Field(default=None, description=_MODELS)
    models_dir: tuple[str, ...] = Field(default=(), description="a folder of model .toml files")
    privacy: str = Field(
        default="blur", description="the privacy policy, whose exclusions are not decoded"
    )
    policies: tuple[str, ...] = Field(default=(), description="a folder of policy .toml files")


class MineConfig(JobConfig):
    """Which triggers mine the lake."""

    triggers: tuple[str, ...] = Field(default=(), description="a folder of trigger .toml files")
    only: tuple[str, ...] | None = Field(default=None, description="run this trigger alone")
    params: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="trigger to parameter to value"
    )
    trigger_timeout_s: float = Field(
        default=TIMEOUT_S,
        gt=0,
        le=1_000_000,
        description="triggers that take longer on the logs of a task are tried one at a time, and "
        "a log on which one takes longer counts as rejected; the next run tries it again",
    )


class LabelConfig(_Reading):
    """How events are decoded, labelled, blurred and encoded."""

    models: tuple[str, ...] | None = Field(default=None, description=_MODELS)
    models_dir: tuple[str, ...] = Field(default=(), description="a folder of model .toml files")
    fps: float = Field(default=5.0, ge=1, le=120, description="labelled frames a second")
    privacy: str = Field(
        default="blur", description="the privacy policy: what is hidden; none hides nothing"
    )
    policies: tuple[str, ...] = Field(default=(), description="a folder of policy .toml files")
    crf: int = Field(default=25, ge=0, le=51, description="x264 quality, lower is better")


class CorpusConfig(JobConfig):
    """What a corpus selects, and how it is cut."""

    name: str = Field(description="the corpus", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    topology: str = Field(default="dojo-tile", description="the machine to plan for")
    topologies: tuple[str, ...] = Field(default=(), description="a folder of topology .toml files")
    where: str | None = Field(default=None, description="SQL condition over the selection")
    where_timeout_s: float = Field(
        default=30.0, gt=0, le=1_000_000, description="a condition that takes longer is an error"
    )
    payload: Literal["clip", "frames"] = Field(default="clip", description="what samples carry")
    frames_fps: float = Field(default=5.0, ge=0.1, le=120, description="of the payload frames")
    privacy: str = Field(
        default="blur",
        description="take samples made under this policy; none takes those with nothing hidden",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$",
    )
    labels: Literal["auto", "reviewed", "reviewed-over-auto"] = Field(
        default="auto",
        description="whose labels: models', reviewers' (other samples are left out), or reviewers' "
        "where there are answers",
    )
    lead: str | None = Field(
        default=None, description="the reviewer whose answer decides between equal ones"
    )
    val_fraction: float = Field(default=0.1, ge=0, lt=1, description="share of drives for val")
    salt: str = Field(default="fleetmill", description="what splits and orders are drawn with")


class ReviewPushConfig(JobConfig):
    """What labellers get to see, and where it is put."""

    out: str = Field(description="the folder of proxies and tasks, which Label Studio serves")
    address: str | None = Field(
        default=None,
        description="what Label Studio finds a proxy by, before its name; default: local files of "
        "Label Studio, whose document root is the folder that the folder is in",
    )
    privacy: str = Field(
        default="blur",
        description="show clips made under this policy",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$",
    )
    width: int = Field(default=960, ge=64, le=4096, description="of proxies, in pixels, at most")
    label_studio: str | None = Field(
        default=None,
        description="the address of a Label Studio, which gets the tasks; its token is in "
        "LABEL_STUDIO_API_KEY",
    )
    project: str = Field(default=PROJECT, min_length=3, max_length=45, description=_PROJECT)
    project_tasks: int = Field(
        default=10_000, ge=1, le=1_000_000, description="of a project at most; then comes the next"
    )
    layout: Literal["each", "grid"] = Field(
        default="each", description="a task for each camera of an event, or one with all of them"
    )
    order: ReviewOrder = Field(
        default="random",
        description="which events come first; scores of triggers are unbiased only at random",
    )
    quota: tuple[str, ...] = Field(
        default=(), description="events of each trigger at most, or of one: hard_brake=100"
    )
    most: int | None = Field(default=None, ge=0, description="events in review at most")
    control: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="the share of new tasks whose answer is known, to check reviewers",
    )
    lead: str | None = Field(
        default=None, description="the reviewer whose answer is known to be right"
    )
    reviewers: int = Field(
        default=2, ge=2, le=100, description="by how many a shared task is answered"
    )
    shared: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="the share of tasks that several reviewers answer, to see how they agree",
    )

    @property
    def served(self) -> dict[str, Any]:
        """What of it says where tasks are sent to."""
        return self.model_dump(
            include={"label_studio", "project", "project_tasks", "reviewers", "shared"}
        )

    @field_validator("quota")
    @classmethod
    def _check_quota(cls, quota: tuple[str, ...]) -> tuple[str, ...]:
        for text in quota:
            if not re.fullmatch(r"([A-Za-z0-9_]+=)?[0-9]{1,9}", text):
                raise ValueError(f"{excerpt(text)!r}: give N, or TRIGGER=N")
        return quota


class ReviewPullConfig(JobConfig):
    """Which answers are taken."""

    input: str | None = Field(default=None, description="an export of a project, as JSON")
    label_studio: str | None = Field(
        default=None,
        description="the address of a Label Studio, in place of an export; its token is in "
        "LABEL_STUDIO_API_KEY",
    )
    project: str = Field(default=PROJECT, min_length=3, max_length=45, description=_PROJECT)

    @model_validator(mode="after")
    def _check_has_one_source(self) -> Self:
        if (self.input is None) == (self.label_studio is None):
            raise ValueError("give either --input FILE or --label-studio URL")
        return self


class CompactConfig(JobConfig):
    """How long compaction keeps what it replaces."""

    keep_hours: float = Field(
        default=24.0,
        ge=0,
        le=1_000_000,
        description="delete what nothing has needed for this many hours",
    )


SECTIONS: dict[str, type[JobConfig]] = {
    "ingest": IngestConfig,
    "sweep": SweepConfig,
    "mine": MineConfig,
    "label": LabelConfig,
    "corpus": CorpusConfig,
    "review_push": ReviewPushConfig,
    "review_pull": ReviewPullConfig,
    "compact": CompactConfig,
}

C = TypeVar("C", bound=JobConfig)


def read_file(uri: str | None) -> dict[str, dict[str, Any]]:
    """Reads a configuration file into its tables.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown table.
    """
    if uri is None:
        return {}
    tables = load_toml("--config", uri)
    for name, table in tables.items():
        if name not in SECTIONS or not isinstance(table, dict):
            raise UsageError(f"--config {uri}: unknown table [{quoted(name)}]; {choices(SECTIONS)}")
    return tables


def configure(
    model: type[C], tables: Mapping[str, Mapping[str, Any]], flags: Mapping[str, Any]
) -> C:
    """Makes one job's configuration: flags override the file, which overrides the defaults.

    Args:
        model: the job's model.
        tables: what `read_file` returned.
        flags: flag values by key; None, or an empty list, counts as not given.

    Raises:
        UsageError: a key is unknown or a value is not allowed, a secret in a URL too; names both.
    """
    section = next(name for name, other in SECTIONS.items() if other is model)
    given = {key: value for key, value in flags.items() if value is not None and value != []}
    chosen = {**tables.get(section, {}), **given}
    for key, value in chosen.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, str):
                check_bare(f"[{section}] {key} =", each)
    try:
        return model.model_validate(chosen)
    except ValidationError as error:
        raise UsageError(f"[{section}] {mistake(error, model)}") from error
