"""Mine: triggers over the columns of many logs, to the table events.

The ledger has an entry for each log and trigger, so a new trigger mines every log, and one that
has run on all logs mines none. Triggers on `scene` wait until a log is swept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import pyarrow as pa

from pipeline.config import MineConfig
from pipeline.graph.execute import Work
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done, done_subjects, stage_digest
from pipeline.lake.locate import Places, locate, rows_of
from pipeline.lake.tables import Lake
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


@dataclass(frozen=True, slots=True)
class MineTask:
    """Logs, the triggers that have not run on them, and the files of their rows.

    `digests` are the stage digests for the ledger, by trigger; all logs of a task share them.
    """

    key: str
    log_ids: tuple[str, ...]
    digests: tuple[tuple[str, str], ...]
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
        hits = {(event.log_id, event.trigger) for event in events}
        hit_logs = {event.log_id for event in events}
        output = Output(tables={"events": event_rows(events)})
        output.done = [
            Done(log_id, key, "kept" if (log_id, trigger) in hits else "filtered")
            for log_id in task.log_ids
            for trigger, key in task.digests
        ]
        kept = len(hit_logs)
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
    tables = sorted({t.table for t in triggers} - {"ticks"})
    places: dict[str, Places] = {table: locate(lake, table) for table in ["logs", *tables]}
    done = done_subjects(lake, "mine")
    swept = dict(done_subjects(lake, "sweep").keys())
    logs = lake.read("logs", columns=["log_id", "drive_id", "duration_ns"]).sort_by(
        [("drive_id", "ascending"), ("log_id", "ascending")]
    )
    groups: dict[tuple[tuple[str, str], ...], list[tuple[str, int]]] = {}
    known = 0
    for log_id, duration_ns in zip(
        logs["log_id"].to_pylist(), logs["duration_ns"].to_pylist(), strict=True
    ):
        wanted = tuple(
            (trigger.name, key)
            for trigger in triggers
            if (key := _ledger_key(trigger, log_id, swept)) is not None
            and (log_id, key) not in done
        )
        if wanted:
            groups.setdefault(wanted, []).append((log_id, duration_ns))
        else:
            known += 1
    tasks = [
        _task(batch, wanted, places)
        for wanted, members in groups.items()
        for batch in _batches(members)
    ]
    return Work(
        stage=MineStage(triggers),
        tasks=tasks,
        expected={("mine", "logs"): logs.num_rows},
        known=(Count("mine", "logs", filtered=known),),
    )


def _ledger_key(trigger: Trigger, log_id: str, swept: Mapping[str, str]) -> str | None:
    """Returns the stage digest of a trigger on a log; None if the log is not swept yet."""
    identity = [VERSION, trigger.name, trigger.version, trigger.params_digest]
    if trigger.table != "scene":
        return stage_digest(trigger=identity)
    return stage_digest(trigger=identity, sweep=swept[log_id]) if log_id in swept else None


def _batches(members: Sequence[tuple[str, int]]) -> Iterable[tuple[str, ...]]:
    batch: list[str] = []
    total_ns = 0
    for log_id, duration_ns in members:
        if batch and (len(batch) == TASK_LOGS or total_ns + duration_ns > TASK_NS):
            yield tuple(batch)
            batch, total_ns = [], 0
        batch.append(log_id)
        total_ns += duration_ns
    if batch:
        yield tuple(batch)


def _task(
    log_ids: tuple[str, ...], wanted: tuple[tuple[str, str], ...], places: Mapping[str, Places]
) -> MineTask:
    files = tuple(
        (table, tuple(sorted({f for log_id in log_ids for f in found.get(log_id, ())})))
        for table, found in places.items()
    )
    return MineTask(digest("mine", log_ids, wanted), log_ids, wanted, files)
