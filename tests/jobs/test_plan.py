from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.plan import snapshot_folder
from schemas.errors import UsageError
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def test_a_plan_for_another_machine_touches_no_shard(chain: Chain, tmp_path: Path) -> None:
    """One file is written; every one of its units reads equally many samples."""
    out = tmp_path / "eight.json"
    corpus = chain.lake / "corpora" / "first"
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    done = call("plan", corpus, "--topology", "gpu-8", "--out", out, "--json")
    assert done.code == 0, done.err
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before
    plan = json.loads(out.read_text())
    for name, split in plan["splits"].items():
        assert len(split["units"]) == 8
        assert {sum(r[2] for r in unit) for unit in split["units"]} == {split["samples_per_unit"]}
        assert done.document["splits"][name]["samples_per_unit"] == split["samples_per_unit"]


def test_a_corpus_means_its_latest_snapshot(chain: Chain, tmp_path: Path) -> None:
    url = chain.ended["corpus"].document["snapshot"]["url"]
    assert snapshot_folder(str(chain.lake / "corpora" / "first")) == url
    assert snapshot_folder(url) == url
    with pytest.raises(UsageError, match="neither a snapshot"):
        snapshot_folder(str(tmp_path))
