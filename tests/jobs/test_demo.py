from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import demo
from pipeline.lake.tables import Lake
from tests.jobs.inprocess import call


def test_it_ends_with_a_corpus_and_commands_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fleet is smaller, and everything else as `make demo` runs it."""
    monkeypatch.setattr(
        demo, "FLEET", replace(demo.FLEET, drives=2, minutes=0.1, width=64, height=48)
    )
    done = call("demo", "--root", tmp_path / "d", "--json")
    assert done.code == 0, done.err
    document = done.document
    assert [job["job"] for job in document["jobs"]] == [
        "ingest",
        "sweep",
        "mine",
        "label",
        "corpus",
    ]
    assert len(document["logs"]) == 2
    events = Lake.open(str(tmp_path / "d" / "lake")).read("events")["trigger"].to_pylist()
    assert {row["trigger"]: row["found"] for row in document["triggers"]} == {
        row["trigger"]: events.count(row["trigger"]) for row in document["triggers"]
    }
    monkeypatch.chdir(tmp_path)
    for line in document["next"]:
        program, *arguments = shlex.split(line)
        assert program == "fleetmill"
        again = call(*arguments)
        assert again.code == 0, again.err
    tables = call("demo", "--root", tmp_path / "d").out
    assert "events beside the truth" in tables
    assert "where the time went" not in tables, "there was nothing new"
    assert document["snapshot"]["root"] in tables
