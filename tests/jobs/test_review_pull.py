"""`fleetmill review pull`: what it needs; answers come back in test_review_push."""

from __future__ import annotations

from pathlib import Path

from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def test_a_missing_export_is_bad_usage(chain: Chain, tmp_path: Path) -> None:
    done = call("review", "pull", "--lake", chain.lake, "--input", tmp_path / "none.json")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert "export the project as JSON" in line


def test_answers_have_one_source(chain: Chain) -> None:
    done = call("review", "pull", "--lake", chain.lake)
    assert done.code == 2
    assert "either --input FILE or --label-studio URL" in done.err
