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


def own(folder: Path, name: str, when: str) -> Path:
    """Writes a trigger over signals."""
    folder.mkdir(exist_ok=True)
    times = "".join(f"{key} = 1.0\n" for key in ("for_s", "merge_s", "pre_s", "post_s"))
    (folder / f"{name}.toml").write_text(
        f'name = "{name}"\nversion = 1\ndescription = "a test\'s"\ntable = "signals"\n'
        f'when = "{when}"\nscore = "1"\n{times.replace("for_s = 1.0", "for_s = 0.0")}'
    )
    return folder


def test_a_trigger_that_is_refused_is_told_before_the_lake_is_opened(tmp_path: Path) -> None:
    folder = own(tmp_path / "own", "bomb", "levenshtein(repeat(log_id, 2000), log_id) > 1")
    done = call("mine", "--lake", tmp_path / "none", "--triggers", folder)
    assert done.code == 2
    assert done.err.startswith("fleetmill: trigger 'bomb', when: function 'levenshtein' is not")
    assert done.err.count("\n") == 1


def test_a_trigger_that_fails_is_named_and_the_others_are_mined(
    chain: Chain, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    assert call("ingest", "--input", chain.fleet, "--lake", lake).code == 0
    folder = own(tmp_path / "own", "casts", "(gear || 'x')::INTEGER > 1")
    done = call("mine", "--lake", lake, "--triggers", folder)
    assert done.code == 3
    assert "mine: triggers failed 2 times, see the table rejects; the first: trigger 'casts'" in (
        done.err
    )
    assert "Traceback" not in done.err + done.out
    again = call("mine", "--lake", lake, "--triggers", folder, "--json")
    assert again.code == 3
    whole = chain.ended["mine"].document["events"]
    assert again.document["events"] == {
        name: count for name, count in whole.items() if name not in {"vru_near", "dark_scene"}
    }
    assert call("verify", lake).code == 0
