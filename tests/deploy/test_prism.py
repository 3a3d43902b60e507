"""A run on Beam's Prism, built at the version of the Python SDK."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import fetch
from tests.conftest import Fleetmill, Tell


@pytest.mark.server
@pytest.mark.skipif(shutil.which("go") is None, reason="Prism is built with Go")
def test_a_run_on_prism_writes_the_same_bytes(
    tmp_path: Path, fleetmill: Fleetmill, tell: Tell
) -> None:
    """With the page's options, against the local default."""
    prism = fetch.prism()
    made = fleetmill("synth", tmp_path / "fleet", "--drives", 2, "--minutes", 0.5, "--no-video")
    assert made.code == 0, made.err

    def run(lake: str, *beam: object) -> dict[str, object]:
        corpus = ("--corpus", "c", "--topology", "gpu-8", "--json")
        done = fleetmill(
            *("run", "--input", tmp_path / "fleet", "--lake", tmp_path / lake), *corpus, *beam
        )
        assert done.code == 0, done.err
        assert "all promises hold" in fleetmill("verify", tmp_path / lake).out
        counted = {
            f"{job['job']}: {name}": value
            for job in done.document["jobs"]
            for name, value in job["metrics"].items()
            if not name.endswith("_ms")
        }
        seconds = sum(job["seconds"] for job in done.document["jobs"])
        tell(f"{lake}: {seconds:.1f} s for {len(done.document['jobs'])} jobs")
        return {"root": done.document["snapshot"]["root"], **counted}

    local = run("local")
    assert run("prism", "--", "--runner=PrismRunner", f"--prism_location={prism}") == local
