from __future__ import annotations

from typing import Any, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from jobs.job import command
from jobs.options import Flag, optional, required
from jobs.reporting import Reporter
from pipeline.config import JobConfig


class Config(JobConfig):
    """One key of every type."""

    name: str = Field(description="what it is called")
    rate: float = Field(default=2.5, description="how often")
    mode: Literal["fast", "slow"] = Field(default="slow", description="how")
    folders: tuple[str, ...] = Field(default=(), description="a folder")
    only: tuple[str, ...] | None = Field(default=None, description="this alone")
    where: str | None = Field(default=None, description="a condition")
    whole: bool = Field(default=False, description="all of it")


FLAGS = (
    Flag("NAME"),
    Flag("--some-rate", "F", key="rate"),
    Flag("--mode"),
    Flag("--folders", "DIR"),
    Flag("--only", "NAME", help="Another text."),
    Flag("--where", "SQL"),
    Flag("--whole"),
)


def parsed(*arguments: str) -> tuple[Any, dict[str, Any]]:
    """Runs a command with the flags; how it ended, and the values of its parameters."""
    seen: dict[str, Any] = {}

    def call(_: Reporter, values: Any) -> None:
        seen.update(values)

    app = typer.Typer(add_completion=False)
    app.command()(command("c", "Help.", [flag.signature(Config) for flag in FLAGS], call))
    done = CliRunner(env={"COLUMNS": "120"}).invoke(app, ["--lake", "L", *arguments])
    return done, seen


def test_values_have_the_type_of_their_key() -> None:
    lists = ("--folders", "a", "--folders", "b", "--only", "x")
    _, values = parsed("n", "--some-rate", "3", "--mode", "fast", *lists, "--where", "1", "--whole")
    own = {flag.key or flag.parameter: flag.value(values) for flag in FLAGS}
    assert own == {
        "name": "n",
        "rate": 3.0,
        "mode": "fast",
        "folders": ["a", "b"],
        "only": ["x"],
        "where": "1",
        "whole": True,
    }
    assert Config.model_validate(own).folders == ("a", "b")


def test_a_flag_that_is_not_given_is_none() -> None:
    _, values = parsed("n")
    assert {flag.value(values) for flag in FLAGS} == {"n", None}


def test_the_model_refuses_choices_so_that_the_message_names_the_key() -> None:
    done, values = parsed("n", "--mode", "sideways")
    assert done.exit_code == 0
    assert values["mode"] == "sideways"


def test_help_choices_and_default_are_those_of_the_key() -> None:
    done, _ = parsed("--help")
    lines = [" ".join(line.strip("│ *").split()) for line in done.output.splitlines()]
    assert "NAME <str> What it is called. [required]" in lines
    assert "--some-rate F How often. [default: (2.5)]" in lines
    assert "--mode <fast|slow> How. [default: (slow)]" in lines
    assert "--folders DIR A folder. Repeatable." in lines
    assert "--only NAME Another text." in lines
    assert "--whole <bool> All of it." in lines


def test_a_flag_of_an_unknown_key_fails_where_it_is_declared() -> None:
    with pytest.raises(KeyError, match="nothing"):
        Flag("--nothing").signature(Config)


def test_a_parameter_is_required_or_has_its_default() -> None:
    assert required("a", str).default is required("a", str).empty
    assert optional("a", str, "d").default == "d"
