"""The job server, started with the command of its manifest."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import (
    beam_job_api_pb2,
    beam_job_api_pb2_grpc,
    beam_runner_api_pb2,
)
from google.protobuf.struct_pb2 import Struct

from tests import fetch
from tests.deploy.shipped import driver, job_server, options
from tests.servers import free_ports, grpc_answers, serving


@pytest.mark.flink
def test_the_job_server_starts_as_it_is_deployed(tmp_path: Path) -> None:
    """It knows the run's options, and reports 0.0.0.0 as its artifact endpoint."""
    lib = fetch.flink_image()
    wanted = options(job_server()["args"])
    names = ("job-port", "artifact-port", "expansion-port")
    ports = dict(zip(names, free_ports(3), strict=True))
    here = {**wanted, **ports, "artifacts-dir": tmp_path / "artifacts"}
    command = [part.replace("/opt/flink/lib", str(lib)) for part in job_server()["command"]]
    arguments = [f"--{name}={value}" for name, value in here.items()]
    answers = grpc_answers(ports["job-port"])
    with (
        serving("job-server", [*command, *arguments], tmp_path, answers) as server,
        grpc.insecure_channel(f"127.0.0.1:{ports['job-port']}") as channel,
    ):
        service = beam_job_api_pb2_grpc.JobServiceStub(channel)
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        known = {o.name for o in service.DescribePipelineOptions(request).options}
        prepared = service.Prepare(
            beam_job_api_pb2.PrepareJobRequest(
                job_name="x", pipeline=beam_runner_api_pb2.Pipeline(), pipeline_options=Struct()
            )
        )
    # Every option of the run is one of the client or of the server; `parallelism` is the server's.
    arguments = driver()["args"]
    run = options(arguments[arguments.index("--") + 1 :])
    assert set(run) <= known | set(PipelineOptions([]).get_all_options())
    assert "parallelism" in known
    # The client would call this address without the run's --artifact_endpoint.
    own = prepared.artifact_staging_endpoint.url
    assert own == f"0.0.0.0:{ports['artifact-port']}"
    assert "Job server now running" in server.log.read_text()
