"""Mine: triggers over the columns of many logs, to the table events.

The ledger says by which triggers a log is mined, so a new trigger mines every log, and one that
has run on all logs mines none. Triggers on `scene` wait until a log is swept.

A trigger that fails on a log, or takes too long, costs the log a reject that names it. The log's
other triggers, and the other logs, are mined all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import MineConfig
from pipeline.graph.execute import Work
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done, joined, stage_digest
from pipeline.lake.locate import Places, locate, rows_of
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import mined_logs
from schemas.errors import DataError, TimeLimitError
from schemas.ids import digest
from schemas.records import Count, Event, Reject
from schemas.tables import TABLES
from schemas.times import NS_PER_S
from transforms.timing import step
from transforms.triggers import Trigger, load_triggers
from transforms.triggers.engine import Miner, ticks
from transforms.triggers.faults import Fault, mine_apart
from transforms.triggers.spec import TIMEOUT_S

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
    """Mines logs. Compiled miners are cached by table and set of triggers.

    A trigger that takes too long on every log that it is tried on is not tried again by the
    worker: it would cost each of its tasks that time.
    """

    triggers: tuple[Trigger, ...]
    timeout_s: float = TIMEOUT_S
    name: str = "mine"
    task: ClassVar[type] = MineTask
    _miners: dict[tuple[str, tuple[str, ...]], Miner] = field(default_factory=dict)
    _slow: dict[str, DataError] = field(default_factory=dict)

    def process(self, task: MineTask) -> Output:
        """Mines the task's logs with its triggers."""
        files = dict(task.files)
        wanted = dict(task.digests)
        logs = rows_of("logs", files["logs"], task.log_ids)
        events: list[Event] = []
        faults: list[Fault] = []
        for table in sorted({t.table for t in self.triggers if t.name in wanted}):
            miner = self._miner(table, wanted)
            rows = (
                ticks(logs)
                if table == "ticks"
                else rows_of(table, files.get(table, ()), task.log_ids, columns=miner.columns)
            )
            if rows.num_rows:
                with step("mine"):
                    found, failed = self._mine(miner, table, rows, logs)
                events += found
                faults += failed
        output = Output(tables={"events": event_rows(events)})
        hits = {event.log_id for event in events}
        output.done = list(_done(task, hits, faults))
        output.rejects = _rejects(logs, faults)
        rejected = {fault.log_id for fault in faults}
        kept = len(hits - rejected)
        output.counts = [
            Count(
                "mine",
                "logs",
                kept=kept,
                filtered=len(task.log_ids) - kept - len(rejected),
                rejected=len(rejected),
            ),
            Count("mine", "events", kept=len(events)),
        ]
        return output

    def _mine(
        self, miner: Miner, table: str, rows: pa.Table, logs: pa.Table
    ) -> tuple[list[Event], list[Fault]]:
        """Mines with all triggers of a table at once, and one at a time if that fails."""
        slow = [t.name for t in miner.triggers if t.name in self._slow]
        try:
            if not slow:
                return miner.mine(rows, logs), []
        except DataError:  # the triggers are tried one by one below
            pass
        rest = [t for t in miner.triggers if t.name not in self._slow]
        events, faults = mine_apart(rest, table, rows, logs, self.timeout_s)
        log_ids = pc.unique(rows["log_id"]).to_pylist()
        for trigger in rest:
            errors = [fault.error for fault in faults if fault.trigger == trigger.name]
            if len(errors) == len(log_ids) and isinstance(errors[-1], TimeLimitError):
                self._slow[trigger.name] = errors[-1]
        faults += [Fault(name, log_id, self._slow[name]) for name in slow for log_id in log_ids]
        return events, faults

    def _miner(self, table: str, wanted: Mapping[str, str]) -> Miner:
        chosen = tuple(t for t in self.triggers if t.table == table and t.name in wanted)
        key = (table, tuple(t.name for t in chosen))
        if key not in self._miners:
            with step("compile"):
                self._miners[key] = Miner(chosen, table, timeout_s=self.timeout_s)
        return self._miners[key]


def _done(task: MineTask, hits: set[str], faults: Sequence[Fault]) -> Iterator[Done]:
    """Yields what is done: a row for all triggers of a log, and one for those that failed on it.

    One row for each trigger would be most of a large lake's ledger. A log of which anything is
    tried again is not done with any trigger that failed on it.
    """
    digests = dict(task.digests)
    whole = joined(digests.values())
    failed: dict[str, list[Fault]] = {}
    for fault in faults:
        failed.setdefault(fault.log_id, []).append(fault)
    for log_id in task.log_ids:
        wrong = failed.get(log_id, [])
        names = {fault.trigger for fault in wrong}
        good = joined(digests[n] for n in digests if n not in names) if names else whole
        if good:
            yield Done(log_id, good, "kept" if log_id in hits else "filtered")
        if wrong and all(fault.error.final for fault in wrong):
            yield Done(log_id, joined(digests[name] for name in names), "rejected")


def _rejects(logs: pa.Table, faults: Sequence[Fault]) -> list[Reject]:
    uris = dict(zip(logs["log_id"].to_pylist(), logs["uri"].to_pylist(), strict=True))
    return [
        Reject.of(fault.error, uri=uris[fault.log_id], stage="mine", subject=fault.log_id)
        for fault in faults
    ]


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
    total = known = rejected = 0
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
            elif any(_ledger_key(trigger, group.sweep) in group.failed for trigger in triggers):
                rejected += group.logs
            else:
                known += group.logs
    places = locate(lake, tables, [log_id for _, batch in batches for log_id in batch])
    return Work(
        stage=MineStage(triggers, config.trigger_timeout_s),
        tasks=[_task(batch, wanted, places) for wanted, batch in batches],
        expected={("mine", "logs"): total},
        known=(Count("mine", "logs", filtered=known, rejected=rejected),),
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
