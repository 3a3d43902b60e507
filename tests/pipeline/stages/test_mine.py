"""Mining: each trigger runs once on each log."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa

from pipeline.config import MineConfig, SweepConfig
from pipeline.lake.ledger import parted
from pipeline.lake.verify import verify
from pipeline.stages.mine import MineStage, MineTask, event_rows, plan_mine
from pipeline.stages.sweep import plan_sweep
from schemas.records import Event
from schemas.tables import TABLES
from tests.pipeline.stages.conftest import Small
from transforms.triggers import load_triggers

MOVES = """
name = "moves"
version = {version}
description = "drives at all"
table = "signals"
when = "speed_mps > $slow_mps"
score = "speed_mps"
for_s = 0.1
merge_s = 600.0
pre_s = 1.0
post_s = 1.0
[params]
slow_mps = 0.5
"""


def with_moves(folder: Path, version: int = 1) -> MineConfig:
    folder.mkdir(exist_ok=True)
    (folder / "moves.toml").write_text(MOVES.format(version=version))
    return MineConfig(triggers=(str(folder),))


def test_a_new_trigger_runs_on_every_log_alone(mined: Small, tmp_path: Path) -> None:
    before = mined.rows("events")
    config = with_moves(tmp_path / "own")
    (task,) = plan_mine(mined.lake(), config).tasks
    assert [name for name, _ in task.digests] == ["moves"]  # type: ignore[attr-defined]
    report = mined.run(plan_mine, config)
    assert [(c.of, c.kept) for c in report.counts] == [("logs", 2), ("events", 2)]
    events = mined.rows("events")
    assert [event for event in events if event["trigger"] != "moves"] == before
    assert not plan_mine(mined.lake(), config).tasks


def test_a_new_version_or_parameter_mines_again(mined: Small, tmp_path: Path) -> None:
    mined.run(plan_mine, with_moves(tmp_path / "own"))
    later = with_moves(tmp_path / "own", version=2)
    assert len(plan_mine(mined.lake(), later).tasks) == 1
    other = MineConfig(triggers=later.triggers, params={"moves": {"slow_mps": 1.0}})
    assert len(plan_mine(mined.lake(), other).tasks) == 1


def test_the_ledger_says_by_which_triggers_a_log_is_mined(mined: Small) -> None:
    hits = {event["log_id"] for event in mined.rows("events")}
    rows = [row for row in mined.rows("ledger") if row["stage"] == "mine"]
    assert {row["subject"]: row["outcome"] for row in rows} == {
        row["log_id"]: "kept" if row["log_id"] in hits else "filtered" for row in mined.rows("logs")
    }
    assert hits
    triggers = [t for t in load_triggers() if t.table != "scene"]
    assert {len(parted(row["stage_digest"])) for row in rows} == {len(triggers)}


def test_a_trigger_that_changes_is_mined_alone(mined: Small) -> None:
    """Old lakes have a row of the ledger for each trigger, which is a set of one."""
    config = MineConfig(params={"hard_brake": {"on_mps2": 3.5}})
    (task,) = plan_mine(mined.lake(), config).tasks
    assert [name for name, _ in task.digests] == ["hard_brake"]  # type: ignore[attr-defined]
    mined.run(plan_mine, config)
    assert not plan_mine(mined.lake(), config).tasks
    assert not plan_mine(mined.lake(), MineConfig()).tasks


def test_triggers_on_scene_wait_for_the_sweep(mined: Small) -> None:
    assert not plan_mine(mined.lake(), MineConfig()).tasks
    mined.run(plan_sweep, SweepConfig(fps=1.0, models=()))
    (task,) = plan_mine(mined.lake(), MineConfig()).tasks
    waiting = {name for name, _ in task.digests}  # type: ignore[attr-defined]
    assert waiting == {t.name for t in load_triggers() if t.table == "scene"}


def test_a_stage_gives_the_same_events_task_by_task(mined: Small) -> None:
    """A plain loop over the planned tasks against the rows that the job wrote."""
    expected = mined.rows("events")
    stage = MineStage(load_triggers())
    config = MineConfig()
    found = pa.concat_tables(
        [stage.process(task).tables["events"] for task in unmined(mined, config)]
    )
    order = [(name, "ascending") for name in TABLES["events"].order]
    assert found.sort_by(order).to_pylist() == expected


def unmined(small: Small, config: MineConfig) -> list[MineTask]:
    """Plans the tasks as if the ledger were empty."""
    lake = small.lake()
    lake._versions = {**lake.versions, "ledger": 0}
    planned = plan_mine(lake, config).tasks
    return [task for task in planned if isinstance(task, MineTask)]


def test_rows_of_no_events_are_an_empty_table() -> None:
    assert event_rows([]).schema == TABLES["events"].schema
    event = Event("e", "l", "d", "t", 1, "p", 0, 1, 2, 0.5, "{}")
    assert event_rows([event]).to_pylist()[0]["event_id"] == "e"


def own_triggers(folder: Path, **when: str) -> MineConfig:
    """Writes triggers over signals: name to condition."""
    folder.mkdir(exist_ok=True)
    for name, condition in when.items():
        text = MOVES.format(version=1).replace('"moves"', f'"{name}"')
        (folder / f"{name}.toml").write_text(text.replace("speed_mps > $slow_mps", condition))
    names = tuple(str(folder / f"{name}.toml") for name in when)
    return MineConfig(triggers=(str(folder),), only=names, trigger_timeout_s=2.0)


FAILS_ON = "CASE WHEN log_id = '{log}' THEN (gear || 'x')::INTEGER = 1 ELSE false END"


def test_a_trigger_that_fails_on_a_log_costs_this_pair_alone(mined: Small, tmp_path: Path) -> None:
    bad, good = sorted(log["log_id"] for log in mined.rows("logs"))
    conditions = {"bad": FAILS_ON.format(log=bad), "moves": "speed_mps > 0.5"}
    config = own_triggers(tmp_path / "own", **conditions)
    report = mined.run(plan_mine, config)
    (logs, events) = report.counts
    assert (logs.kept, logs.filtered, logs.rejected, events.kept) == (1, 0, 1, 2)
    (reject,) = mined.rows("rejects")
    uris = {log["log_id"]: log["uri"] for log in mined.rows("logs")}
    assert (reject["subject"], reject["uri"]) == (bad, uris[bad])
    assert (reject["stage"], reject["reason"]) == ("mine", "trigger")
    assert "trigger 'bad'" in reject["detail"]
    found = [event for event in mined.rows("events") if event["trigger"] == "moves"]
    assert sorted(event["log_id"] for event in found) == [bad, good]
    assert verify(mined.url).problems == ()

    again = plan_mine(mined.lake(), config)
    assert not again.tasks
    assert [(c.filtered, c.rejected) for c in again.known] == [(1, 1)]
    cured = own_triggers(tmp_path / "own", bad="speed_mps > 9999", moves="speed_mps > 0.5")
    assert plan_mine(mined.lake(), cured).tasks
    report = mined.run(plan_mine, cured)
    assert [(c.of, c.rejected) for c in report.counts] == [("logs", 0), ("events", 0)]


SLOW = "list_sum(list_sort(list_transform(range(1000), lambda v: sin(v * t_ns)))) > 9"


def test_a_trigger_that_takes_too_long_is_tried_again(mined: Small, tmp_path: Path) -> None:
    config = own_triggers(tmp_path / "own", slow=SLOW, moves="speed_mps > 0.5")
    config = config.model_copy(update={"trigger_timeout_s": 0.05})
    tasks = [task for task in plan_mine(mined.lake(), config).tasks if isinstance(task, MineTask)]
    stage = plan_mine(mined.lake(), config).stage
    for task in tasks * 2:
        output = stage.process(task)
        assert {(r.reason, r.final) for r in output.rejects} == {("timeout", False)}
        assert all("trigger 'slow'" in r.detail for r in output.rejects)
        assert all("--trigger-timeout" in r.detail for r in output.rejects)
        assert [(d.outcome, "+" in d.stage_digest) for d in output.done] == [("kept", False)] * 2
        began = time.perf_counter()
    assert time.perf_counter() - began < 1  # the second task did not try it
    report = mined.run(plan_mine, config)
    assert "2 inputs" in "".join(report.notes)
    assert mined.rows("rejects") == []
    left = [task for task in plan_mine(mined.lake(), config).tasks if isinstance(task, MineTask)]
    assert [name for task in left for name, _ in task.digests] == ["slow"]
    assert verify(mined.url).problems == ()
