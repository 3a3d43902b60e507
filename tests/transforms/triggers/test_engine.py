"""The miner: windows, gaps, missing values, cameras, and independence of batches."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from schemas.errors import TimeLimitError, TriggerError, UsageError
from schemas.ids import digest
from schemas.times import NS_PER_S, ns
from transforms.triggers import engine, expressions, load_triggers
from transforms.triggers.engine import Miner
from transforms.triggers.spec import Trigger
from transforms.triggers.sql import Query

FAST = Trigger(
    name="fast",
    version=3,
    description="a test's",
    table="signals",
    when="speed_mps > 20",
    score="speed_mps",
    for_s=0,
    merge_s=0,
    pre_s=1,
    post_s=2,
)


def _rows(speeds: Sequence[float | None]) -> pa.Table:
    return pa.table(
        {
            "log_id": pa.array(["log"] * len(speeds), pa.string()),
            "t_ns": np.arange(len(speeds), dtype=np.int64) * 20_000_000,
            "speed_mps": pa.array(speeds, pa.float64()),
        }
    )


def _logs(duration_s: float, *ids: str) -> pa.Table:
    return pa.table(
        {
            "log_id": ids,
            "drive_id": [f"d{i}" for i in ids],
            "duration_ns": [ns(duration_s)] * len(ids),
        }
    )


def _fleet(logs: int) -> tuple[pa.Table, pa.Table]:
    """Makes logs in which most triggers find something, with nulls and gaps."""
    tables = []
    n = 6000
    for k in range(logs):
        rng = np.random.default_rng(k)
        speed = np.clip(np.cumsum(rng.normal(0, 0.3, n)) + 10, 0, None)
        holes = rng.random(n) < 0.01
        tables.append(
            pa.table(
                {
                    "log_id": [f"log-{k}"] * n,
                    "t_ns": np.arange(n) * 20_000_000,
                    "speed_mps": pa.array(speed, mask=holes),
                    "accel_x_mps2": np.convolve(rng.normal(0, 12, n), np.ones(20) / 20, "same"),
                    "accel_y_mps2": np.convolve(rng.normal(0, 12, n), np.ones(20) / 20, "same"),
                    "yaw_rate_radps": np.convolve(rng.normal(0, 2, n), np.ones(80) / 80, "same"),
                    "heading_rad": np.cumsum(rng.normal(0, 0.01, n)),
                    "engaged": rng.random(n) < 0.99,
                }
            ).filter(pa.array(rng.random(n) > 0.001))
        )
    return pa.concat_tables(tables), _logs(120, *(f"log-{k}" for k in range(logs)))


def test_an_event() -> None:
    """Window, anchor, score, id and evidence of one island."""
    speeds = [10.0] * 100 + [25.0, 30.0, 30.0, 22.0] + [10.0] * 100
    (event,) = Miner([FAST], "signals").mine(_rows(speeds), _logs(4.08, "log"))
    assert (event.start_ns, event.anchor_ns, event.end_ns) == (ns(1.0), ns(2.02), ns(4.06))
    assert (event.score, event.trigger, event.trigger_version) == (30.0, "fast", 3)
    assert (event.log_id, event.drive_id) == ("log", "dlog")
    assert event.event_id == digest("event", "log", "fast", 3, FAST.params_digest, ns(2.0))
    assert event.evidence == '{"end_ns":2060000000,"peak":30.0,"start_ns":2000000000}'


def test_windows_are_clipped_to_the_log() -> None:
    """Events at both ends stay within [0, duration)."""
    speeds = [25.0] + [10.0] * 200 + [25.0]
    first, last = Miner([FAST], "signals").mine(_rows(speeds), _logs(4.04, "log"))
    assert (first.start_ns, first.anchor_ns, first.end_ns) == (0, 0, ns(2.0))
    assert (last.start_ns, last.anchor_ns, last.end_ns) == (ns(3.02), ns(4.02), ns(4.04))


def test_unknown_is_off() -> None:
    """Null and NaN neither start an island nor extend one, although `until` never holds."""
    speeds = [10.0, 25.0, 15.0, 15.0, None, 15.0, float("nan"), 15.0]
    held = FAST.replace(until="speed_mps < 12")
    (event,) = Miner([held], "signals").mine(_rows(speeds), _logs(1, "log"))
    evidence = json.loads(event.evidence)
    assert (evidence["start_ns"], evidence["end_ns"]) == (20_000_000, 60_000_000)


@pytest.mark.parametrize(("gap_steps", "events"), [(5, 1), (6, 2)])
def test_a_gap_breaks_an_island(gap_steps: int, events: int) -> None:
    """Rows more than five grid steps apart are separate islands, unless merged."""
    table = pa.table(
        {"log_id": ["log"] * 2, "t_ns": [0, gap_steps * 20_000_000], "speed_mps": [25.0, 25.0]}
    )
    assert len(Miner([FAST], "signals").mine(table, _logs(1, "log"))) == events
    merged = FAST.replace(merge_s=1.0)
    assert len(Miner([merged], "signals").mine(table, _logs(1, "log"))) == 1


def test_batches_and_order_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """All logs at once, shuffled, each alone, and in other blocks: the same events."""
    miner = Miner(load_triggers(), "signals")
    table, logs = _fleet(4)
    events = miner.mine(table, logs)
    assert len({event.trigger for event in events}) >= 5
    assert len({event.event_id for event in events}) == len(events)
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    assert miner.mine(shuffled, logs) == events
    alone = [
        event
        for log_id in logs["log_id"].to_pylist()
        for event in miner.mine(table.filter(pc.equal(table["log_id"], log_id)), logs)
    ]
    assert alone == events
    monkeypatch.setattr(engine, "BLOCK_ROWS", 1)
    assert miner.mine(table, logs) == events


def test_triggers_are_independent() -> None:
    """Each trigger alone finds the same events as together with the others."""
    table, logs = _fleet(2)
    triggers = load_triggers()
    together = Miner(triggers, "signals").mine(table, logs)
    alone = [e for t in triggers for e in Miner([t], "signals").mine(table, logs)]
    assert sorted(alone, key=lambda e: e.event_id) == sorted(together, key=lambda e: e.event_id)


def test_reads_only_what_it_needs() -> None:
    """`columns` are sufficient; other columns may be absent or present."""
    miner = Miner([FAST.replace(when="speed_mps > 11")], "signals")
    assert miner.columns == ("log_id", "t_ns", "speed_mps")
    table, logs = _fleet(1)
    assert miner.mine(table.select(miner.columns), logs) == miner.mine(table, logs) != []
    assert miner.mine(table.select(["log_id", "t_ns"]), logs) == []


def test_scene_is_by_camera() -> None:
    """Two cameras at the same instants are two series, named in the evidence."""
    t_ns = np.repeat(np.arange(10) * NS_PER_S, 2)
    table = pa.table(
        {
            "log_id": ["log"] * 20,
            "camera": ["front", "back"] * 10,
            "t_ns": t_ns,
            "brightness": [100.0, 100.0] * 4 + [9.0, 5.0, 8.0, 100.0] + [100.0, 100.0] * 4,
            "sharpness": [1.0] * 20,
            "source": ["x"] * 20,
            "source_version": ["1"] * 20,
        }
    )
    dim = FAST.replace(name="dim", table="scene", when="brightness < 10", score="-brightness")
    events = Miner([dim], "scene").mine(table, _logs(10, "log"))
    facts = sorted((json.loads(e.evidence)["camera"], e.anchor_ns, e.score) for e in events)
    assert facts == [("back", 4 * NS_PER_S, -5.0), ("front", 5 * NS_PER_S, -8.0)]
    assert len({e.event_id for e in events}) == 2


def test_nothing_to_do() -> None:
    """Without triggers of the table, or without rows, there are no events."""
    assert Miner([FAST], "annotations").mine(_rows([25.0]), _logs(1, "log")) == []
    assert Miner([FAST], "signals").mine(_rows([]), _logs(1, "log")) == []


def test_refusals() -> None:
    """An unknown table, a cast that fails on a value, a row of an unknown log."""
    with pytest.raises(UsageError, match="signals, joints, scene, annotations, ticks"):
        Miner([FAST], "frames")
    table = _rows([25.0]).append_column("gear", pa.array(["drive"]))
    with pytest.raises(TriggerError, match=r"'fast': .*'drive' to INT32[^\n]*$"):
        Miner([FAST.replace(when="gear::INTEGER > 1")], "signals").mine(table, _logs(1, "log"))
    with pytest.raises(ValueError, match="'log'"):
        Miner([FAST], "signals").mine(_rows([25.0]), _logs(1, "other"))
    huge = FAST.replace(when="length(repeat('x', 1000000000 + (speed_mps * 1e9)::BIGINT)) > 1")
    with pytest.raises(UsageError, match="fast"):
        Miner([huge], "signals").mine(_rows([25.0]), _logs(1, "log"))


def test_a_trigger_without_end_is_interrupted() -> None:
    table, logs = _fleet(2)
    endless = FAST.replace(
        when="list_sum(list_sort(list_transform(range(1000), lambda v: sin(v * speed_mps)))) > 9"
    )
    miner = Miner([FAST, endless], "signals", timeout_s=0.5)
    began = time.perf_counter()
    with pytest.raises(TimeLimitError, match=r"0\.5 s.*--trigger-timeout"):
        miner.mine(pa.concat_tables([table] * 10), logs)
    assert time.perf_counter() - began < 5
    small = table.slice(0, 10)
    assert miner.mine(small, logs) == Miner([FAST, endless], "signals").mine(small, logs)


def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows of all rows are in memory at once."""
    monkeypatch.setattr(expressions, "MEMORY", 30_000_000)
    table, logs = _fleet(1)
    windows = " AND ".join(f"rank() OVER (ORDER BY speed_mps * {k}) > 0" for k in range(20))
    with pytest.raises(TriggerError, match=r"'fast'.*Out of Memory"):
        Miner([FAST.replace(when=windows)], "signals").mine(pa.concat_tables([table] * 20), logs)


def test_blocks_are_smaller_where_triggers_compute_much(monkeypatch: pytest.MonkeyPatch) -> None:
    table, logs = _fleet(4)
    sizes: list[int] = []
    real = Query.run

    def spy(self: Query, rows: pa.Table, *rest: Any) -> pa.Table:
        sizes.append(rows.num_rows)
        return real(self, rows, *rest)

    monkeypatch.setattr(Query, "run", spy)
    whole = Miner([FAST], "signals").mine(table, logs)
    assert len(sizes) == 1
    monkeypatch.setattr(engine, "BLOCK_BYTES", 1000)
    assert Miner([FAST], "signals").mine(table, logs) == whole
    assert len(sizes) == 1 + 4


def test_triggers_are_checked_without_rows() -> None:
    engine.check_triggers(load_triggers())
    with pytest.raises(UsageError, match="trigger 'fast', when: unknown column 'speed'"):
        engine.check_triggers([FAST.replace(when="speed > 1")])
