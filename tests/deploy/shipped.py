"""Reads the manifests of `deploy/` and the page about it, and checks their commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer
import yaml
from apache_beam.options.pipeline_options import PipelineOptions

from jobs.cli import COMMANDS, split_arguments
from tests.conftest import ROOT
from tests.fetch import DEPLOY
from tests.pages import fences

FLINK = DEPLOY / "flink"

# The oldest version that the page names, and the newest with published schemas.
KUBERNETES = ("1.29", "1.37")


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every Kubernetes object of the manifests with the name of its file."""
    for path in sorted(FLINK.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            yield path.name, document


def the(kind: str) -> dict[str, Any]:
    """Returns the one object of a kind."""
    (found,) = [document for _, document in documents() if document["kind"] == kind]
    return found


def task_manager_pod() -> dict[str, Any]:
    """Returns the template of the TaskManagers' pods as a pod."""
    template = the("FlinkDeployment")["spec"]["taskManager"]["podTemplate"]
    return {"metadata": {}, **json.loads(json.dumps(template))}


def worker_pool() -> dict[str, Any]:
    """Returns the sidecar of the Python workers."""
    (pool,) = task_manager_pod()["spec"]["initContainers"]
    assert isinstance(pool, dict)
    return pool


def job_server() -> dict[str, Any]:
    """Returns the container of the job server."""
    (container,) = the("Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def driver() -> dict[str, Any]:
    """Returns the container of the run."""
    (container,) = the("Job")["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def service_commands() -> list[str]:
    """Returns the page's commands that need a service: those in `shell` blocks."""
    return [
        " ".join(line.split())
        for fence in fences(ROOT / "docs" / "deploy.md")
        if fence.language == "shell"
        for line in fence.body.replace("\\\n", " ").splitlines()
    ]


def options(arguments: list[str]) -> dict[str, str]:
    """Reads `--name=value` arguments.

    >>> options(["--job-port=8099"])
    {'job-port': '8099'}
    """
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments)


def check_command(arguments: list[str]) -> None:
    """Parses `fleetmill ARGUMENTS…` as the command and Beam do, without running it.

    Raises:
        typer.exceptions.TyperException: the command does not have a flag or a value.
        ValueError: Beam does not know an option.
    """
    ours, beam = split_arguments(arguments)
    app = typer.Typer(add_completion=False)
    app.command(ours[0])(COMMANDS.load(ours[0]))
    typer.main.get_command(app).make_context(ours[0], ours[1:])
    known = PipelineOptions(beam).get_all_options()
    for flag in beam:
        if not flag.startswith("--") or flag[2:].split("=", 1)[0] not in known:
            raise ValueError(f"Beam knows no {flag}")
