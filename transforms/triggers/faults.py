"""Which trigger fails on which log: found by trying them one at a time.

All triggers of a table are one SELECT, so that one that fails, or does not end, fails for all
of them and for every log. The others are mined all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError, TimeLimitError
from schemas.records import Event
from transforms.triggers.engine import Miner
from transforms.triggers.spec import Trigger

SLOW_LOGS = 2
"""A trigger that does not end on this many logs in turn is not tried on the others of a task."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A trigger that failed on a log, and how."""

    trigger: str
    log_id: str
    error: DataError


def mine_apart(
    triggers: Sequence[Trigger], table: str, rows: pa.Table, logs: pa.Table, timeout_s: float
) -> tuple[list[Event], list[Fault]]:
    """Mines with one trigger at a time, and where it fails one log at a time.

    Args:
        triggers: the triggers of the table.
        table: the table's name.
        rows: its rows.
        logs: rows of `logs`.
        timeout_s: limit of time for each attempt.

    Returns:
        The events, and the pairs of trigger and log that failed.
    """
    events: list[Event] = []
    faults: list[Fault] = []
    for trigger in triggers:
        miner = Miner([trigger], table, timeout_s=timeout_s)
        try:
            events += miner.mine(rows, logs)
        except DataError as error:
            for outcome in _log_by_log(miner, trigger.name, rows, logs, error):
                if isinstance(outcome, Fault):
                    faults.append(outcome)
                else:
                    events += outcome
    return events, faults


def _log_by_log(
    miner: Miner, trigger: str, rows: pa.Table, logs: pa.Table, failure: DataError
) -> Iterator[Fault | list[Event]]:
    """Yields the events of each log, or what is wrong with it."""
    ids = sorted(pc.unique(rows["log_id"]).to_pylist())
    slow = 0
    for log_id in ids:
        if len(ids) == 1 or slow == SLOW_LOGS:
            yield Fault(trigger, log_id, failure)
            continue
        try:
            yield miner.mine(rows.filter(pc.equal(rows["log_id"], log_id)), logs)
        except DataError as error:
            failure = error
            slow += isinstance(error, TimeLimitError)
            yield Fault(trigger, log_id, error)
