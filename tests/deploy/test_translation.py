"""Pipelines as Beam translates them for runners, without running them."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.runners.portability.portable_runner import PortableRunner

from jobs.cli import split_arguments
from pipeline.graph.runner import pipeline_options
from tests import fetch
from tests.conftest import environment
from tests.deploy.dataflow_request import PAGES, build_job
from tests.deploy.shipped import driver, service_commands

STEPS = ["list", "work", "commit"]


def translated(arguments: Sequence[str], pages: Sequence[str] = PAGES) -> api.Pipeline:
    """Translates the graph as `PortableRunner` does for a job server."""
    root = beam.Pipeline("DirectRunner")
    build_job(root, pages)
    made = PortableRunner.get_proto_pipeline(root, pipeline_options(arguments))
    assert isinstance(made, api.Pipeline)
    return made


def page_options(runner: str) -> list[list[str]]:
    """Returns what follows `--` in the page's commands for a runner."""
    found = [split_arguments(shlex.split(line))[1] for line in service_commands()]
    return [beam for beam in found if f"--runner={runner}" in beam]


@pytest.fixture(scope="module")
def deployed() -> api.Pipeline:
    """The graph as translated with the options of the manifests."""
    return translated(split_arguments(driver()["args"])[1])


def test_steps_have_the_names_that_a_runner_shows(deployed: api.Pipeline) -> None:
    """They are those of the page."""
    (root,) = deployed.root_transform_ids
    steps = deployed.components.transforms[root].subtransforms
    names = [deployed.components.transforms[step].unique_name for step in steps]
    assert sorted(names) == sorted(f"mine: {step}" for step in STEPS)


def test_every_step_of_ours_runs_in_the_worker_pool(deployed: api.Pipeline) -> None:
    """There is one environment, the external one at the run's address."""
    ((_, where),) = deployed.components.environments.items()
    assert where.urn == "beam:env:external:v1"
    payload = api.ExternalPayload.FromString(where.payload)
    assert payload.endpoint.url == "localhost:50000"
    code = [t for t in deployed.components.transforms.values() if t.spec.urn.endswith("pardo:v1")]
    assert len(code) >= 4
    assert {transform.environment_id for transform in code} == set(deployed.components.environments)


def test_nothing_has_to_be_staged(deployed: api.Pipeline) -> None:
    """The one artifact is a list of packages for the log, which workers do not need."""
    (where,) = deployed.components.environments.values()
    roles = [
        api.ArtifactStagingToRolePayload.FromString(artifact.role_payload).staged_name
        for artifact in where.dependencies
    ]
    assert roles == ["submission_environment_dependencies.txt"]


def test_keys_are_the_same_bytes_on_every_worker(deployed: api.Pipeline) -> None:
    """Keys of a group-by have deterministic coders, and everything is bounded."""
    components = deployed.components
    context = PipelineContext(components)
    grouped = [t for t in components.transforms.values() if t.spec.urn.endswith("group_by_key:v1")]
    assert len(grouped) == 3
    for transform in grouped:
        (source,) = transform.inputs.values()
        coder = context.coders.get_by_id(components.pcollections[source].coder_id)
        assert coder.key_coder().is_deterministic()
    bounded = {p.is_bounded for p in components.pcollections.values()}
    assert bounded == {api.IsBounded.BOUNDED}


def test_edges_carry_plain_values(deployed: api.Pipeline) -> None:
    """Places and keys have coders of Beam's: nothing is pickled on an edge."""

    def urns(coder: str) -> set[str]:
        found = deployed.components.coders[coder]
        return {found.spec.urn}.union(*map(urns, found.component_coder_ids))

    by_name = {t.unique_name: t for t in deployed.components.transforms.values()}
    for step in STEPS:
        for made in by_name[f"mine: {step}"].outputs.values():
            kinds = urns(deployed.components.pcollections[made].coder_id)
            assert not [urn for urn in kinds if "pickled" in urn]


def test_a_million_tasks_fit_a_request() -> None:
    """A graph names pages of tasks, so it grows slowly with the tasks."""
    arguments = split_arguments(driver()["args"])[1]
    few = len(translated(arguments).SerializeToString())
    pages = [f"{number:06d}.todo" for number in range(1_000_000 // 200)]
    assert len(translated(arguments, pages).SerializeToString()) < few + 200_000


def test_spark_gets_the_same_graph(deployed: api.Pipeline) -> None:
    """The page's command for Spark differs in nothing but addresses."""
    (arguments,) = page_options("PortableRunner")
    other = translated(arguments)

    def shape(pipeline: api.Pipeline) -> list[tuple[str, str]]:
        found = pipeline.components.transforms.values()
        return sorted((t.unique_name, t.spec.urn) for t in found)

    assert shape(other) == shape(deployed)


@pytest.mark.slow
def test_dataflow_would_get_what_the_page_says() -> None:
    """Compares the request that Beam's Dataflow runner builds with the page's options.

    The request is not sent, so it is not known whether the service accepts it.
    """
    python = fetch.dataflow()
    on_page = page_options("DataflowRunner")
    assert len(on_page) == 2

    def request(arguments: list[str]) -> dict[str, Any]:
        script = Path(__file__).with_name("dataflow_request.py")
        done = subprocess.run(
            [str(python), str(script), *arguments],
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    cpu, gpu = map(request, on_page)
    for made, arguments in zip((cpu, gpu), on_page, strict=True):
        given = PipelineOptions(arguments).get_all_options()
        assert made["image"] == given["sdk_container_image"]
        assert made["machine_type"] == given["machine_type"]
        assert made["threads"] == given["number_of_worker_harness_threads"]
        assert made["max_workers"] == given["max_num_workers"]
        assert made["account"] == given["service_account_email"]
        assert "no_use_multiple_sdk_containers" in made["experiments"]
        assert sorted(made["steps"]) == sorted(f"mine: {step}" for step in STEPS)
        assert made["packages"] == []
    assert cpu["service_options"] == []
    (accelerator,) = gpu["service_options"]
    assert accelerator.startswith("worker_accelerator=type:nvidia-tesla-t4;count:1;")
    assert gpu["machine_type"].startswith("n1-")
