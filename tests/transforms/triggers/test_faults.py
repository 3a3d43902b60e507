"""Which trigger fails on which log, and that nothing else is lost."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest

from schemas.errors import TimeLimitError, TriggerError
from schemas.records import Event
from tests.transforms.triggers.test_engine import FAST, _logs
from transforms.triggers.engine import Miner
from transforms.triggers.faults import SLOW_LOGS, mine_apart
from transforms.triggers.spec import Trigger

LOGS = [f"log-{k}" for k in range(5)]
GEARS = FAST.replace(name="gears", when="gear::INTEGER > 2")
SLOW = FAST.replace(
    name="slow",
    when="list_sum(list_sort(list_transform(range(1000), lambda v: sin(v * speed_mps)))) > 9",
)


def rows(log_ids: list[str], n: int, gears: dict[str, str] | None = None) -> pa.Table:
    """Makes n rows of each log; `gears` are those of some logs, the others have "3"."""
    return pa.concat_tables(
        pa.table(
            {
                "log_id": [log_id] * n,
                "t_ns": np.arange(n) * 20_000_000,
                "speed_mps": np.linspace(15, 25, n),
                "gear": [(gears or {}).get(log_id, "3")] * n,
            }
        )
        for log_id in log_ids
    )


def by_trigger(events: list[Event], trigger: Trigger) -> list[Event]:
    return [event for event in events if event.trigger == trigger.name]


def test_the_log_on_which_a_trigger_fails_is_named_and_all_else_is_mined() -> None:
    table, logs = rows(LOGS, 50, {"log-3": "drive"}), _logs(60, *LOGS)
    with pytest.raises(TriggerError, match=r"a trigger of fast, gears: .*'drive'"):
        Miner([FAST, GEARS], "signals").mine(table, logs)
    events, faults = mine_apart([FAST, GEARS], "signals", table, logs, 60)
    assert by_trigger(events, FAST) == Miner([FAST], "signals").mine(table, logs)
    assert [event.log_id for event in by_trigger(events, GEARS)] == [
        log_id for log_id in LOGS if log_id != "log-3"
    ]
    (fault,) = faults
    assert (fault.trigger, fault.log_id) == ("gears", "log-3")
    assert isinstance(fault.error, TriggerError)
    assert "trigger 'gears'" in str(fault.error)
    assert "'drive'" in str(fault.error)
    assert "\n" not in str(fault.error)


def test_a_trigger_that_takes_too_long_for_all_logs_may_do_for_each() -> None:
    """The limit is on an attempt, and a log is one at last."""
    ids = [f"log-{k}" for k in range(8)]
    table, logs = rows(ids, 500), _logs(600, *ids)
    miner = Miner([SLOW], "signals", timeout_s=60)
    began = time.perf_counter()
    miner.mine(rows(ids[:1], 500), logs)
    limit = 4 * (time.perf_counter() - began)
    with pytest.raises(TimeLimitError, match=r"trigger 'slow'.*--trigger-timeout"):
        Miner([SLOW], "signals", timeout_s=limit).mine(pa.concat_tables([table] * 2), logs)
    _, faults = mine_apart([SLOW], "signals", table, logs, limit)
    assert faults == []


def test_a_trigger_that_does_not_end_costs_a_bounded_time() -> None:
    table, logs = rows(LOGS, 50_000), _logs(1000, *LOGS)
    began = time.perf_counter()
    events, faults = mine_apart([FAST, SLOW], "signals", table, logs, 0.3)
    assert time.perf_counter() - began < 10
    assert len(by_trigger(events, FAST)) == len(LOGS)
    assert [(fault.trigger, fault.log_id) for fault in faults] == [("slow", log) for log in LOGS]
    assert all(isinstance(fault.error, TimeLimitError) for fault in faults)
    assert len({id(fault.error) for fault in faults}) == SLOW_LOGS


def test_one_log_is_not_tried_twice() -> None:
    table = rows(LOGS[:1], 5, {"log-0": "drive"})
    events, faults = mine_apart([GEARS], "signals", table, _logs(60, *LOGS), 60)
    assert events == []
    assert [fault.log_id for fault in faults] == ["log-0"]
