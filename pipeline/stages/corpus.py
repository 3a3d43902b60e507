"""Corpus: publishes the samples that a SELECT over the lake chooses, as an immutable snapshot.

Nothing is decoded: a shard is the concatenation of byte ranges of packs. The driver selects
and plans, workers assemble shards, and the last step writes the tables and, last, the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import CorpusConfig
from pipeline.graph.execute import Work
from pipeline.graph.stage import Output, Stage, TaskResult
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import Limits, query, read_rows
from pipeline.snapshots.assembly import assemble_shard
from pipeline.snapshots.manifest import is_published, make_latest, snapshot_id, snapshot_url
from pipeline.snapshots.publish import publish
from pipeline.topologies import load_topology
from pipeline.topologies.planner import Plan, plan, split_of
from schemas.errors import UsageError
from schemas.ids import canonical, digest
from schemas.records import Count
from transforms.corpora import ShardDigest
from transforms.parquet import encode, read, read_files
from transforms.storage import get, put
from transforms.timing import step

_LATEST = """
WITH commits AS (
    -- The order in which runs were committed: each that labels raises the ledger's version.
    SELECT run_id, [v.version FOR v IN versions IF v."table" = 'ledger'][1] AS number FROM runs
), labelled AS (
    SELECT samples.event_id, arg_max(samples.spec_digest, commits.number) AS spec_digest
    FROM samples
    JOIN ledger ON ledger.subject = samples.event_id
        AND ledger.stage_digest = samples.spec_digest AND ledger.stage = 'label'
    JOIN commits USING (run_id)
    WHERE samples.privacy = '{privacy}'
    GROUP BY ALL
), selection AS (
    SELECT events.*, logs.vehicle_id, logs.platform, logs.format, logs.name AS log_name,
           samples.payload, samples.cameras, samples.privacy, samples.spec_digest,
           samples.duration_ns, samples.pack_uri, samples."offset", samples.length,
           samples.sha256
    FROM events
    JOIN labelled USING (event_id)
    JOIN samples USING (event_id, spec_digest, log_id, drive_id)
    JOIN logs USING (log_id, drive_id)
)
"""
"""Of each event the sample that was labelled last, of those with the privacy asked for."""


_RANGES, _SAMPLES, _PLAN = "ranges.parquet", "samples.parquet", "plan.json"
"""The files that hold a selection until it is published."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The samples of a corpus, in the order of its shards.

    `samples` is the published table, `ranges` the shards' byte ranges of packs (not published),
    `offered` the number of samples before the condition was applied.
    """

    samples: pa.Table
    ranges: pa.Table
    plan: Plan
    snapshot: str
    offered: int


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to assemble: its name, and the file that lists the ranges of all shards."""

    key: str
    name: str
    ranges: str


@dataclass(slots=True)
class CorpusStage(Stage):
    """Assembles shards into the snapshot's folder."""

    lake_url: str
    folder: str
    name: str = "corpus"
    task: ClassVar[type] = ShardTask

    def process(self, task: ShardTask) -> Output:
        """Copies one shard's byte ranges out of packs."""
        rows = read_files([task.ranges], filter=pc.field("shard") == task.name)
        ranges = [
            (row["pack_uri"], row["offset"], row["length"], row["sha256"], row["event_id"])
            for row in rows.to_pylist()
        ]
        uri = f"{self.folder}/{task.name}"
        with step("assemble"):
            shard = assemble_shard(self.lake_url, uri, ranges)
        return Output(
            blobs={uri.removeprefix(f"{self.lake_url}/"): shard.bytes},
            detail={
                "shard": task.name,
                "bytes": shard.bytes,
                "sha256": shard.sha256,
                "samples": shard.samples,
            },
        )


@dataclass(frozen=True, slots=True)
class Publish:
    """The last step: publishes the snapshot, then records the run.

    `scratch` is the folder in which the selection was stored, which may be too large to be sent
    to a worker.
    """

    lake: Lake
    config: CorpusConfig
    run: RunRow
    snapshot: str
    scratch: str

    def __call__(self, results: Iterable[TaskResult]) -> bool:
        """Publishes the assembled shards; without any, only makes the snapshot the latest one."""
        shards = {
            result.detail["shard"]: ShardDigest(
                result.detail["bytes"], result.detail["sha256"], result.detail["samples"]
            )
            for result in results
        }
        if not shards:
            make_latest(self.lake.url, self.config.name, self.snapshot)
            return False
        samples = read(f"{self.scratch}/{_SAMPLES}")
        publish(
            self.lake.url,
            self.config.name,
            self.snapshot,
            plan=json.loads(get(f"{self.scratch}/{_PLAN}")),
            samples=samples,
            labels=_labels(self.lake, samples),
            shards=shards,
            metadata=_metadata(self.config, samples),
        )
        return commit(self.lake, self.run, new_at=self.lake.number)


def _metadata(config: CorpusConfig, samples: pa.Table) -> dict[str, Any]:
    return {
        "where": config.where,
        "payload": config.payload,
        "val_fraction": config.val_fraction,
        "salt": config.salt,
        "privacy": sorted(set(samples["privacy"].to_pylist())),
        "specs": sorted(set(samples["spec_digest"].to_pylist())),
    }


def select(lake: Lake, config: CorpusConfig) -> Selection:
    """Selects, splits and plans: a pure function of the lake's versions and the configuration.

    Raises:
        UsageError: the condition is not SQL over the selection, nothing matches it, or the
            topology is unknown.
        FleetError: the condition takes too long, or too much memory.
    """
    topology = load_topology(config.topology, config.topologies)
    latest = _LATEST.format(privacy=config.privacy)
    offered = read_rows(lake, "\n".join([latest, "SELECT * FROM selection"]))
    offered = offered.filter(pc.equal(offered["payload"], config.payload))
    if config.where is None:
        chosen = offered
    else:
        # On a line of its own, so that a comment at its end does not hide the bracket.
        lines = [latest, "SELECT event_id FROM selection WHERE (", config.where, ")"]
        limits = Limits(config.where_timeout_s, what="--where", longer="--where-timeout", larger="")
        try:
            matching = query(lake, "\n".join(lines), limits)
        except UsageError as error:
            raise UsageError(f"--where: {error}") from error
        wanted = pc.is_in(offered["event_id"], value_set=pc.unique(matching["event_id"]))
        chosen = offered.filter(wanted)
    if not chosen.num_rows:
        raise UsageError(
            f"corpus {config.name!r}: no sample to choose from with --privacy {config.privacy}"
            if not offered.num_rows
            else f"--where {config.where!r} selects none of {offered.num_rows} samples; "
            "its columns are those of events, and vehicle_id, platform, format, log_name, "
            "payload, cameras, privacy, duration_ns"
        )
    chosen = chosen.sort_by("event_id")
    splits = [
        split_of(drive_id, config.val_fraction, config.salt)
        for drive_id in chosen["drive_id"].to_pylist()
    ]
    chosen = chosen.append_column("split", pa.array(splits, pa.string()))
    planned = plan(chosen, topology, config.salt)
    placed = planned.placements.drop_columns(["row"])
    chosen = chosen.take(planned.placements["row"])
    ranges = chosen.select(["pack_uri", "offset", "length", "sha256", "event_id"])
    ranges = ranges.append_column("shard", placed["shard"])
    samples = placed
    for name in chosen.column_names:
        if name not in {*placed.column_names, "pack_uri"}:
            samples = samples.append_column(name, chosen[name])
    return Selection(
        samples=samples,
        ranges=ranges,
        plan=planned,
        snapshot=snapshot_id(samples, planned, _metadata(config, samples)),
        offered=offered.num_rows,
    )


def _labels(lake: Lake, samples: pa.Table) -> pa.Table:
    """Returns the boxes of the snapshot's samples, each with the shard of its sample."""
    events = samples["event_id"].to_pylist()
    boxes = lake.read("boxes", filter=pc.field("event_id").isin(events))
    shards = dict(zip(events, samples["shard"].to_pylist(), strict=True))
    specs = dict(zip(events, samples["spec_digest"].to_pylist(), strict=True))
    owners = boxes["event_id"].to_pylist()
    current = [
        specs[event_id] == spec
        for event_id, spec in zip(owners, boxes["spec_digest"].to_pylist(), strict=True)
    ]
    placed = pa.array([shards[event_id] for event_id in owners], pa.string())
    return boxes.append_column("shard", placed).filter(pa.array(current, pa.bool_()))


def plan_corpus(lake: Lake, config: CorpusConfig) -> Work:
    """Selects and plans; there are no tasks if the snapshot is published already.

    Raises:
        UsageError: see `select`.
    """
    selection = select(lake, config)
    folder = snapshot_url(lake.url, config.name, selection.snapshot)
    kept = selection.samples.num_rows
    count = Count("corpus", "samples", kept=kept, filtered=selection.offered - kept)
    tasks: list[ShardTask] = []
    scratch = f"{lake.url}/work/{selection.snapshot}"
    if not is_published(folder):
        put(f"{scratch}/{_RANGES}", encode(selection.ranges))
        put(f"{scratch}/{_SAMPLES}", encode(selection.samples))
        put(f"{scratch}/{_PLAN}", canonical(dict(selection.plan.document)))
        tasks = [
            ShardTask(digest("shard", selection.snapshot, name), name, f"{scratch}/{_RANGES}")
            for name in sorted(set(selection.samples["shard"].to_pylist()))
        ]
    return Work(
        stage=CorpusStage(lake.url, folder),
        tasks=tasks,
        expected={("corpus", "samples"): selection.offered},
        known=(count,),
        notes=selection.plan.warnings,
        finish=lambda run: Publish(lake, config, run, selection.snapshot, scratch),
        detail={"snapshot": selection.snapshot, "folder": folder},
        scratch=(scratch,) if tasks else (),
    )
