"""A run on Spark, within the process of Beam's job server."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from pathlib import Path

import pytest

from tests import fetch
from tests.conftest import ROOT, Fleetmill
from tests.deploy.shipped import service_commands
from tests.servers import free_ports, grpc_answers, serving


def contents(lake: Path) -> dict[str, str]:
    """Returns names and digests of the files that do not depend on the time of the run."""
    tables = {"events", "parts", "logs", "videos", "frames", "signals", "packs", "corpora"}
    return {
        str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(lake.rglob("*"))
        if path.is_file()
        and tables & set(path.relative_to(lake).parts)
        and path.suffix in {".parquet", ".tar"}
    }


@pytest.mark.flink
def test_a_run_on_spark_writes_the_same_bytes(tmp_path: Path, fleetmill: Fleetmill) -> None:
    """All jobs up to a corpus, against a local run."""
    spark = fetch.spark()
    job_port, artifact_port, expansion_port, pool_port = free_ports(4)
    # The page's command, with Spark on this machine.
    (line,) = [line for line in service_commands() if line.startswith("java ")]
    here = {
        "--spark-master-url": "local[2]",
        "--job-port": job_port,
        "--artifact-port": artifact_port,
        "--artifacts-dir": tmp_path / "artifacts",
    }
    server = [
        word if (name := word.partition("=")[0]) not in here else f"{name}={here[name]}"
        for word in shlex.split(
            line.replace("/opt/beam-on-spark", str(spark)).replace("@", f"@{ROOT}/")
        )
    ]
    server.append(f"--expansion-port={expansion_port}")
    python = Path(sys.executable)
    pool = [str(python), "-m", "apache_beam.runners.worker.worker_pool_main"]
    pool.append(f"--service_port={pool_port}")
    # The pool starts `python` by name, and from this source tree.
    env = {"PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    made = fleetmill("synth", tmp_path / "fleet", "--drives", 2, "--minutes", 0.5, "--no-video")
    assert made.code == 0, made.err

    def run(lake: str, *beam: str) -> None:
        corpus = ("--corpus", "c", "--topology", "gpu-8")
        done = fleetmill(
            *("run", "--input", tmp_path / "fleet", "--lake", tmp_path / lake), *corpus, *beam
        )
        assert done.code == 0, done.err
        assert "all promises hold" in fleetmill("verify", tmp_path / lake).out

    with (
        serving("job-server", server, tmp_path, grpc_answers(job_port)),
        serving("pool", pool, tmp_path, grpc_answers(pool_port), **env),
    ):
        run(
            "spark",
            *("--", "--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{job_port}"),
            f"--artifact_endpoint=127.0.0.1:{artifact_port}",
            *("--environment_type=EXTERNAL", f"--environment_config=127.0.0.1:{pool_port}"),
        )
    run("local")
    found = contents(tmp_path / "spark")
    assert [name for name in found if name.startswith("corpora")]
    assert found == contents(tmp_path / "local")
