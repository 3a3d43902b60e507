"""The Dockerfiles: their sources exist, versions agree, and their steps work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests import fetch
from tests.conftest import ROOT
from tests.deploy.shipped import FLINK, documents
from tests.dockerfile import instructions
from tests.pages import fences
from tests.weights import with_detector

IMAGES = {fetch.DEPLOY / "Dockerfile": ROOT, FLINK / "Dockerfile": FLINK}
"""Every Dockerfile and its build context."""

KNOWN = {"FROM", "ARG", "COPY", "RUN", "ENV", "WORKDIR"}


def bases(dockerfile: Path) -> list[str]:
    """Returns the base images."""
    return [value.split()[0] for name, value in instructions(dockerfile) if name == "FROM"]


def properties(pom: Path) -> dict[str, str]:
    """Returns the properties of a Maven file."""
    space = "{http://maven.apache.org/POM/4.0.0}"
    found = ET.parse(pom).find(f"{space}properties")  # noqa: S314 - our own file
    assert found is not None
    return {child.tag.removeprefix(space): child.text or "" for child in found}


@pytest.mark.parametrize("dockerfile", IMAGES, ids=str)
def test_sources_of_an_image_exist(dockerfile: Path) -> None:
    built = instructions(dockerfile)
    assert {name for name, _ in built} <= KNOWN
    for name, value in built:
        if name != "COPY":
            continue
        words = value.split()
        stage = [word.removeprefix("--from=") for word in words if word.startswith("--from=")]
        if stage:
            stages = [v.split()[2] for n, v in built if n == "FROM" and " AS " in v]
            assert stage[0] in stages
            continue
        for source in words[:-1]:
            # These two are made by the page's commands, which the test below runs.
            if source not in {"dist/*.whl", "models/"}:
                assert (IMAGES[dockerfile] / source).is_file(), source


def test_the_build_context_is_what_the_image_copies() -> None:
    lines = (fetch.DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    seen = {line[1:] for line in lines if line.startswith("!")}
    copied = [v.split()[0] for n, v in instructions(fetch.DEPLOY / "Dockerfile") if n == "COPY"]
    assert seen == {source.split("/")[0] for source in copied}


def test_versions_agree_everywhere() -> None:
    """Those of Beam, Python, Java and Flink."""
    (worker,) = bases(fetch.DEPLOY / "Dockerfile")
    python, beam = re.fullmatch(r"apache/beam_python(.+)_sdk:(.+)", worker).groups()  # type: ignore[union-attr]
    assert f"apache-beam=={beam}" in (ROOT / "constraints.txt").read_text().splitlines()
    assert f'python_version = "{python}"' in (ROOT / "pyproject.toml").read_text()
    version, java = re.fullmatch(r"flink:(.+)-(java\d+)", bases(FLINK / "Dockerfile")[-1]).groups()  # type: ignore[union-attr]
    line = properties(FLINK / "pom.xml")["flink.line"]
    assert version.rpartition(".")[0] == line
    assert fetch.FLINK.endswith(f"=={version}")
    (cluster,) = [d for _, d in documents() if d["kind"] == "FlinkDeployment"]
    assert cluster["spec"]["flinkVersion"] == f"v{line.replace('.', '_')}"
    assert bases(FLINK / "Dockerfile")[0].endswith(java.removeprefix("java"))
    flink, spark = properties(FLINK / "pom.xml"), properties(fetch.DEPLOY / "spark" / "pom.xml")
    for name in ("beam.runner.version", "beam.job.service.version"):
        assert flink[name] == spark[name]


@pytest.mark.slow
def test_the_steps_of_the_worker_image_work(tmp_path: Path, data: Path) -> None:
    """Runs the page's packaging and the Dockerfile's steps in an empty environment.

    It starts without the packages of Beam's base image.
    """
    source, image = tmp_path / "source", tmp_path / "image"
    fetch.copy_source(source)
    subprocess.run([sys.executable, "-m", "venv", image], check=True)
    shutil.copytree(with_detector(data), source / "models")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(line: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", line], cwd=source, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    (packaging,) = [
        f.body for f in fences(ROOT / "docs" / "deploy.md") if "build --wheel" in f.body
    ]
    run(packaging)
    env["PATH"] = f"{image / 'bin'}:{env['PATH']}"
    for name, value in instructions(fetch.DEPLOY / "Dockerfile"):
        here = value.replace("/opt/fleetmill", str(tmp_path / "opt"))
        if name == "RUN":
            run(here)
        elif name == "COPY":
            *sources, target = here.split()
            # Docker copies the content of a folder, cp the folder itself.
            inside = " ".join(f"{s}." if s.endswith("/") else s for s in sources)
            run(f"mkdir -p {target} && cp -r {inside} {target}")
        elif name in {"ENV", "ARG"}:
            key, _, given = here.partition("=")
            env[key] = given.strip('"')
    assert "yolox_nano" in run("fleetmill list models")
    assert run(
        "python -c 'import s3fs, gcsfs, adlfs, apache_beam; print(apache_beam.__file__)'"
    ).startswith(str(image))
    weights = tmp_path / "opt" / "models" / "yolox_nano" / "yolox_nano.onnx"
    weights.write_bytes(b"other")
    check = [v for n, v in instructions(fetch.DEPLOY / "Dockerfile") if n == "RUN"][-1]
    with pytest.raises(AssertionError, match="SHA-256"):
        run(check)
    # It is larger than a gigabyte, and pytest would keep it.
    shutil.rmtree(image)


@pytest.mark.flink
def test_the_steps_of_the_flink_image_work() -> None:
    """Its class path holds one version of Flink and only Flink's logging library."""
    names = sorted(jar.name for jar in fetch.flink_image().iterdir())
    assert "fleetmill-job-server.jar" in names
    assert [name for name in names if name.startswith("beam-runners-flink")]
    assert not [name for name in names if name.startswith("slf4j")]
    version = fetch.FLINK.partition("==")[2]
    assert all(version in name for name in names if name.startswith("flink-"))
