"""replan_lake: time and memory to plan each job on a large lake, against 2 s and 1 GB.

FLEETMILL_BENCH_LOGS sets the number of logs, 1,000,000 by default: with three events each, thirty
triggers, everything done, and compacted. Each job is planned with nothing new, and with 100 new
logs, in a process of its own, whose start-up does not count. A lake of 1,000 logs is measured
beside it. The files of `signals`, `frames` and `videos` are only listed, in the numbers that such
a lake has: planning opens none of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label.specs import Due
from benchmarks import Measure
from pipeline.config import IngestConfig, LabelConfig, MineConfig, SweepConfig
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.ledger import joined
from pipeline.lake.tables import COMPACTED, Lake
from pipeline.stages.label import LabelStage, plan_label
from pipeline.stages.mine import MineTask, plan_mine
from schemas.ids import ID_CHARS, digest
from schemas.records import AddFile, Count
from schemas.tables import TABLES
from transforms.readers.discover import discover

LOGS = int(os.environ.get("FLEETMILL_BENCH_LOGS", "1000000"))
SMALL = 1_000
NEW = 100
INPUTS = 1_000
EVENTS_A_LOG = 3
TRIGGERS = 30
LOGS_A_FILE = 60
"""Of a large file of signals or frames: 32 MB, at about half a MB for five minutes."""

TASK_LOGS = 16
FILE_ROWS = 500_000
REPEATS = 3
LIMIT_S = 2.0
LIMIT_MB = 1_000.0

_TRIGGER = """
name = "{name}"
version = 1
description = "One of many."
table = "signals"
when = "speed_mps > $least_mps"
score = "speed_mps"
for_s = 1.0
merge_s = 1.0
pre_s = 1.0
post_s = 1.0
[params]
least_mps = {least}
"""

_PLAN = """
import json, sys, time
from pathlib import Path
from pipeline.config import IngestConfig, LabelConfig, MineConfig, SweepConfig
from pipeline.lake.tables import Lake
from pipeline.stages.ingest import plan_ingest
from pipeline.stages.label import plan_label
from pipeline.stages.mine import plan_mine
from pipeline.stages.sweep import plan_sweep
import duckdb, pyarrow.dataset, auto_label.models.yolox
url, job, config = sys.argv[1:]
plan, model = {
    "ingest": (plan_ingest, IngestConfig), "sweep": (plan_sweep, SweepConfig),
    "mine": (plan_mine, MineConfig), "label": (plan_label, LabelConfig),
}[job]
start = time.perf_counter()
work = plan(Lake.open(url), model.model_validate_json(config))
seconds = time.perf_counter() - start
# Not getrusage: its peak is the parent's where that is higher.
status = Path("/proc/self/status").read_text()
peak_mb = int(status.partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps([seconds, peak_mb, len(work.tasks)]))
"""


def measure() -> Iterator[Measure]:
    """Plans on a large and a small lake, with nothing new and with new logs."""
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for logs in (SMALL, LOGS):
            lake = _Made(Path(folder), logs)
            for state in ("nothing new", f"{NEW} new logs"):
                if state != "nothing new":
                    lake.grow()
                for job in ("ingest", "sweep", "mine", "label"):
                    runs = [lake.plan(job, state != "nothing new") for _ in range(REPEATS)]
                    found.setdefault(f"{job}, {state}", {})[f"{logs:,}"] = [
                        median(seconds for seconds, _ in runs),
                        max(peak for _, peak in runs),
                    ]
    large = f"{LOGS:,}"
    for name, position, limit, unit, digits in (
        ("replan_lake", 0, LIMIT_S, "s", 2),
        ("replan_lake_memory", 1, LIMIT_MB, "MB", 0),
    ):
        detail = "; ".join(
            f"{what}: "
            + ", ".join(
                f"{row[position]:.{digits}f} {unit} of {logs}" for logs, row in rows.items()
            )
            for what, rows in found.items()
        )
        worst = max(rows[large][position] for rows in found.values())
        yield Measure(name, worst, limit, "the limit", unit, detail, lower_is_better=True)


class _Made:
    """A lake of many logs on which every job is done, and its inputs."""

    def __init__(self, folder: Path, logs: int) -> None:
        self._inputs = folder / f"inputs-{logs}"
        self._inputs.mkdir()
        self._triggers = folder / "triggers"
        self._triggers.mkdir(exist_ok=True)
        for number in range(TRIGGERS):
            name = f"bench_{number}"
            text = _TRIGGER.format(name=name, least=number)
            (self._triggers / f"{name}.toml").write_text(text)
        self._lake = Lake.create(str(folder / f"lake-{logs}"))
        self._digests = self._stage_digests(folder / f"probe-{logs}")
        known = self._add_inputs(0, INPUTS)
        drawn = _ids(logs - len(known), seed=logs)
        self._commit("made", pa.concat_arrays([pa.array(known), drawn]), done=True)

    def grow(self) -> None:
        """Adds logs that are ingested and no more, and inputs that are not ingested."""
        self._commit("new", _ids(NEW, seed=1), done=False)
        self._add_inputs(INPUTS, NEW)

    def plan(self, job: str, grown: bool) -> tuple[float, float]:
        """Plans a job in a new process; returns seconds, and the peak of its memory in MB."""
        command = [sys.executable, "-c", _PLAN, self._lake.url, job, self._config(job)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, peak, tasks = json.loads(done.stdout)
        if bool(tasks) != grown:
            raise RuntimeError(f"{job}: planned {tasks} tasks on {self._lake.url}")
        return seconds, peak

    def _config(self, job: str) -> str:
        configs = {
            "ingest": IngestConfig(input=(str(self._inputs),), format="video"),
            "sweep": SweepConfig(models=()),
            "mine": self._mine(),
            "label": LabelConfig(models=()),
        }
        return configs[job].model_dump_json()

    def _mine(self) -> MineConfig:
        names = tuple(path.stem for path in self._triggers.glob("*.toml"))
        return MineConfig(triggers=(str(self._triggers),), only=names)

    def _stage_digests(self, url: Path) -> Mapping[str, str]:
        """Plans on a lake of one log, to learn under which digests the stages are done."""
        probe = Lake.create(str(url))
        _commit(probe, "probe", {"logs": _log_rows(pa.array(["a"]))})
        (task,) = plan_mine(probe, self._mine()).tasks
        label = plan_label(probe, LabelConfig(models=())).stage
        assert isinstance(task, MineTask)
        assert isinstance(label, LabelStage)
        mined = joined(key for _, key in task.digests)
        labelled = joined(Due.whole(label.spec, label.pixels).digests)
        return {"ingest": "i", "sweep": "s", "mine": mined, "label": labelled}

    def _add_inputs(self, first: int, number: int) -> list[str]:
        """Adds files that discovery takes for videos; returns the ids of all logs."""
        for k in range(first, first + number):
            (self._inputs / f"{k:06d}.mp4").write_bytes(b"%d" % k)
        found = discover([str(self._inputs)], "video").logs
        self._listings = {log.log_id: log.listing for log in found}
        return list(self._listings)

    def _commit(self, stem: str, log_ids: pa.Array, *, done: bool) -> None:
        """Commits logs with their events, and the ledger of what is done to them."""
        log_ids = log_ids.take(pc.sort_indices(log_ids))
        n = len(log_ids)
        event_ids = _ids(n * EVENTS_A_LOG, seed=n + 7)
        of_event = log_ids.take(pa.array(np.repeat(np.arange(n), EVENTS_A_LOG)))
        tasks = [digest(stem, k) for k in range(n // TASK_LOGS + 1)]
        task = pa.array(tasks).take(pa.array(np.arange(n) // TASK_LOGS))
        ledger = [_ledger("ingest", log_ids, self._digests["ingest"], task)]
        if done:
            listed = list(self._listings)
            of_listed = pa.repeat(pa.scalar("t"), len(listed))
            listing = pa.array([self._listings[log_id] for log_id in listed])
            rows = _ledger("discover", listing, "", of_listed)
            at = rows.column_names.index("stage_digest")
            ledger.append(rows.set_column(at, "stage_digest", pa.array(listed)))
            ledger += [_ledger(s, log_ids, self._digests[s], task) for s in ("sweep", "mine")]
            of_events = pa.repeat(pa.scalar("t"), len(event_ids))
            ledger.append(_ledger("label", event_ids, self._digests["label"], of_events))
        rows_by_table = {
            "logs": _log_rows(log_ids),
            "events": _event_rows(event_ids, of_event),
            "ledger": pa.concat_tables(ledger),
        }
        listed_files = [
            add
            for table in ("videos", "frames", "signals")
            for add in _listed(table, log_ids, tasks, large=done)
        ]
        _commit(self._lake, stem, rows_by_table, listed_files)


def _commit(
    lake: Lake, stem: str, rows: Mapping[str, pa.Table], listed: Sequence[AddFile] = ()
) -> None:
    adds = list(listed)
    for table, all_rows in rows.items():
        ordered = TABLES[table].conform(all_rows)
        for first in range(0, ordered.num_rows, FILE_ROWS):
            name = f"{COMPACTED}-all-{stem}{first}"
            adds += lake.write(table, ordered.slice(first, FILE_ROWS), name)
    commit(lake, RunRow(stem, "ingest", "d", "{}", 1, (Count("ingest", "logs", 1),)), adds)


def _listed(
    table: str, log_ids: pa.Array, tasks: Sequence[str], *, large: bool
) -> Iterator[AddFile]:
    """Lists files that are not there: large ones of a range of logs, or one for each task."""
    if not large:
        for task in tasks:
            yield AddFile(table, f"{task}-{'0' * ID_CHARS}.parquet", 1 << 20, 1000, "")
        return
    for first in range(0, len(log_ids), LOGS_A_FILE):
        last = min(first + LOGS_A_FILE, len(log_ids)) - 1
        stats: dict[str, Any] = {"numRecords": 1000, "nullCount": {"log_id": 0}}
        stats |= {"minValues": {"log_id": log_ids[first].as_py()}}
        stats |= {"maxValues": {"log_id": log_ids[last].as_py()}}
        name = f"{COMPACTED}-all-{first:012d}-{'0' * ID_CHARS}.parquet"
        yield AddFile(table, name, 32 << 20, 1000, json.dumps(stats))


def _ids(n: int, seed: int) -> pa.Array:
    text = np.random.default_rng(seed).bytes(n * ID_CHARS // 2).hex()
    return pa.array([text[k : k + ID_CHARS] for k in range(0, n * ID_CHARS, ID_CHARS)], pa.string())


def _rows(table: str, n: int, columns: Mapping[str, pa.Array]) -> pa.Table:
    """Makes rows with some columns given, and the others all alike."""
    schema = TABLES[table].schema
    alike = {
        field.name: pa.repeat(
            pa.scalar([], field.type) if pa.types.is_list(field.type) else pa.scalar(1), n
        )
        for field in schema
        if not field.nullable and field.name not in columns
    }
    return pa.table({**alike, **columns})


def _log_rows(log_ids: pa.Array) -> pa.Table:
    drives = pc.utf8_slice_codeunits(log_ids, 0, 6)
    return _rows("logs", len(log_ids), {"log_id": log_ids, "drive_id": drives})


def _event_rows(event_ids: pa.Array, log_ids: pa.Array) -> pa.Table:
    n = len(event_ids)
    triggers = pa.array([f"bench_{k}" for k in range(TRIGGERS)])
    start = pa.array(np.arange(n) * 1_000_000_000)
    return _rows(
        "events",
        n,
        {
            "event_id": event_ids,
            "log_id": log_ids,
            "drive_id": pc.utf8_slice_codeunits(log_ids, 0, 6),
            "trigger": triggers.take(pa.array(np.arange(n) % TRIGGERS)),
            "start_ns": start,
            "anchor_ns": pc.add(start, 2_000_000_000),
            "end_ns": pc.add(start, 4_000_000_000),
            "evidence": pa.repeat(pa.scalar('{"speed_mps": 12.5}'), n),
        },
    )


def _ledger(stage: str, subjects: pa.Array, stage_digest: str, task: pa.Array) -> pa.Table:
    n = len(subjects)
    alike = {"stage": stage, "stage_digest": stage_digest, "outcome": "kept", "run_id": "r"}
    columns = {name: pa.repeat(pa.scalar(value), n) for name, value in alike.items()}
    return _rows("ledger", n, {**columns, "subject": subjects, "task": task})
