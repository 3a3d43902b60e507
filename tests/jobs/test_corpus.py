from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


@pytest.fixture(scope="module")
def lake(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the lake, to build other corpora in."""
    return Path(shutil.copytree(chain.lake, tmp_path_factory.mktemp("corpora") / "lake"))


def test_the_snapshot_is_what_its_manifest_says(chain: Chain) -> None:
    snapshot = chain.ended["corpus"].document["snapshot"]
    manifest = json.loads((Path(snapshot["url"]) / "manifest.json").read_text())
    assert snapshot["root"] == manifest["root"]
    assert snapshot["topology"] == "dojo-tray"
    samples = sum(split["samples"] for split in snapshot["splits"].values())
    (job,) = chain.ended["corpus"].document["jobs"]
    assert [line["kept"] for line in job["counts"] if line["of"] == "samples"] == [samples]


def test_the_condition_selects(lake: Path) -> None:
    where = ("--where", "trigger = 'uniform_sample'")
    done = call("corpus", "uniform", "--lake", lake, *where, "--json")
    assert done.code == 0, done.err
    chosen = sum(split["samples"] for split in done.document["snapshot"]["splits"].values())
    sql = "SELECT count(*) AS n FROM events WHERE trigger = 'uniform_sample'"
    assert call("query", "--lake", lake, sql, "--json").document == [{"n": chosen}]


def test_frames_are_repacked_first(lake: Path) -> None:
    done = call("corpus", "stills", "--lake", lake, "--payload", "frames", "--json")
    assert done.code == 0, done.err
    repack, corpus = done.document["jobs"]
    assert (repack["job"], corpus["job"]) == ("repack", "corpus")
    assert repack["counts"][0]["kept"] > 0
    assert [job["job"] for job in call(
        "corpus", "clips", "--lake", lake, "--json"
    ).document["jobs"]] == ["corpus"]  # fmt: skip
