from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.lake.tables import Lake
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def test_events_are_counted_by_trigger(chain: Chain) -> None:
    triggers = Lake.open(str(chain.lake)).read("events")["trigger"].to_pylist()
    assert triggers
    assert chain.ended["mine"].document["events"] == dict(sorted(Counter(triggers).items()))


def test_only_runs_the_named_triggers(chain: Chain, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    assert call("ingest", "--input", chain.fleet, "--lake", lake).code == 0
    named = ("--only", "uniform_sample", "--only", "hard_brake")
    events = call("mine", "--lake", lake, *named, "--json").document["events"]
    assert set(events) <= {"uniform_sample", "hard_brake"}
    whole = chain.ended["mine"].document["events"]
    assert events == {name: whole[name] for name in events}
    assert events["uniform_sample"] > 0


def test_an_unknown_trigger_is_refused_before_the_lake_is_opened(tmp_path: Path) -> None:
    done = call("mine", "--lake", tmp_path / "none", "--only", "hard_brakx")
    assert done.code == 2
    assert 'trigger "hard_brakx": unknown' in done.err
    assert "hard_brake," in done.err
