"""Mine: triggers over the columns of many logs, to the table events.

The ledger says by which triggers a log is mined, so a new trigger mines every log, and one that
has run on all logs mines none. Triggers on `scene` wait until a log is swept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import pyarrow as pa

from pipeline.config import MineConfig
from pipeline.graph.execute import Work
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done, joined, stage_digest
from pipeline.lake.locate import Places, locate, rows_of
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import mined_logs
from schemas.ids import digest
from schemas.records import Count, Event
from schemas.tables import TABLES
from schemas.times import NS_PER_S
from transforms.timing import step
from transforms.triggers import Trigger, load_triggers
from transforms.triggers.engine import Miner, ticks

VERSION = 1
"""Version; raised when the same rows and triggers give different events."""

TASK_NS = 7200 * NS_PER_S
TASK_LOGS = 120
"""Limits of a task: two driven hours of signals are about 60 MB."""


Wanted = tuple[tuple[str, str], ...]
"""Triggers to run, each with its stage digest."""


@dataclass(frozen=True, slots=True)
class MineTask:
    """Logs, the triggers that have not run on them, and the files of their rows.

    `digests` are the stage digests for the ledger, by trigger; all logs of a task share them.
    """

    key: str
    log_ids: tuple[str, ...]
    digests: Wanted
    files: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(slots=True)
class MineStage(Stage):
    """Mines logs. Compiled miners are cached by table and set of triggers."""

    triggers: tuple[Trigger, ...]
    name: str = "mine"
    task: ClassVar[type] = MineTask
    _miners: dict[tuple[str, tuple[str, ...]], Miner] = field(default_factory=dict)

    def process(self, task: MineTask) -> Output:
        """Mines the task's logs with its triggers."""
        files = dict(task.files)
        wanted = dict(task.digests)
        logs = rows_of("logs", files["logs"], task.log_ids)
        events: list[Event] = []
        for table in sorted({t.table for t in self.triggers if t.name in wanted}):
            miner = self._miner(table, wanted)
            rows = (
                ticks(logs)
                if table == "ticks"
                else rows_of(table, files.get(table, ()), task.log_ids, columns=miner.columns)
            )
            if rows.num_rows:
                with step("mine"):
                    events.extend(miner.mine(rows, logs))
        hits = {event.log_id for event in events}
        output = Output(tables={"events": event_rows(events)})
        # One row for all triggers: a row for each would be most of a large lake's ledger.
        key = joined(wanted.values())
        output.done = [
            Done(log_id, key, "kept" if log_id in hits else "filtered") for log_id in task.log_ids
        ]
        kept = len(hits)
        output.counts = [
            Count("mine", "logs", kept=kept, filtered=len(task.log_ids) - kept),
            Count("mine", "events", kept=len(events)),
        ]
        return output

    def _miner(self, table: str, wanted: Mapping[str, str]) -> Miner:
        chosen = tuple(t for t in self.triggers if t.table == table and t.name in wanted)
        key = (table, tuple(t.name for t in chosen))
        if key not in self._miners:
            with step("compile"):
                self._miners[key] = Miner(chosen, table)
        return self._miners[key]


def event_rows(events: Iterable[Event]) -> pa.Table:
    """Builds the rows of `events`."""
    return pa.Table.from_pylist([asdict(e) for e in events], schema=TABLES["events"].schema)


def plan_mine(lake: Lake, config: MineConfig) -> Work:
    """Pairs every log with the triggers that have not run on it.

    Raises:
        UsageError: a trigger is unknown or its file is wrong.
    """
    triggers = load_triggers(config.triggers, only=config.only, params=config.params)
    tables = ["logs", *sorted({t.table for t in triggers} - {"ticks"})]
    batches: list[tuple[Wanted, tuple[str, ...]]] = []
    total = known = 0
    with mined_logs(lake) as groups:
        for group in groups:
            total += group.logs
            wanted = tuple(
                (trigger.name, key)
                for trigger in triggers
                if (key := _ledger_key(trigger, group.sweep)) is not None and key not in group.done
            )
            if wanted:
                batches += [(wanted, batch) for batch in _batches(group.rows())]
            else:
                known += group.logs
    places = locate(lake, tables, [log_id for _, batch in batches for log_id in batch])
    return Work(
        stage=MineStage(triggers),
        tasks=[_task(batch, wanted, places) for wanted, batch in batches],
        expected={("mine", "logs"): total},
        known=(Count("mine", "logs", filtered=known),),
    )


def _ledger_key(trigger: Trigger, sweep: str | None) -> str | None:
    """Returns the stage digest of a trigger on a log, given that of its sweep.

    It is None if the trigger must wait for the sweep.
    """
    identity = [VERSION, trigger.name, trigger.version, trigger.params_digest]
    if trigger.table != "scene":
        return stage_digest(trigger=identity)
    return stage_digest(trigger=identity, sweep=sweep) if sweep is not None else None


def _batches(logs: Iterable[tuple[str, str, int]]) -> Iterator[tuple[str, ...]]:
    batch: list[str] = []
    total_ns = 0
    for log_id, _, duration_ns in logs:
        if batch and (len(batch) == TASK_LOGS or total_ns + duration_ns > TASK_NS):
            yield tuple(batch)
            batch, total_ns = [], 0
        batch.append(log_id)
        total_ns += duration_ns
    if batch:
        yield tuple(batch)


def _task(log_ids: tuple[str, ...], wanted: Wanted, places: Mapping[str, Places]) -> MineTask:
    files = tuple(
        (table, tuple(sorted({f for log_id in log_ids for f in found.get(log_id, ())})))
        for table, found in places.items()
    )
    return MineTask(digest("mine", log_ids, wanted), log_ids, wanted, files)
