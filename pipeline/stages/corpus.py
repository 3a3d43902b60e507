"""Corpus: publishes the samples that a SELECT over the lake chooses, as an immutable snapshot.

Nothing is decoded: a shard is the concatenation of byte ranges of packs, some for each sample.
The driver selects and plans, workers assemble shards, and the last step writes the tables and,
last, the manifest.
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
from pipeline.graph.journal import scratch_url
from pipeline.graph.stage import Output, Stage, TaskResult
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import Limits, query, read_rows
from pipeline.snapshots.assembly import assemble_shard
from pipeline.snapshots.manifest import (
    PARTS_TYPE,
    is_published,
    make_latest,
    sample_hash,
    snapshot_id,
    snapshot_url,
)
from pipeline.snapshots.publish import publish
from pipeline.stages.render import with_reviewed
from pipeline.stages.selection import latest_samples
from pipeline.topologies import load_topology
from pipeline.topologies.planner import Plan, plan, split_of
from schemas.errors import UsageError
from schemas.ids import canonical, digest
from schemas.records import Count
from transforms.corpora import ShardDigest
from transforms.parquet import encode, read, read_files
from transforms.storage import get, put
from transforms.timing import step

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
    said = {
        "where": config.where,
        "payload": config.payload,
        "val_fraction": config.val_fraction,
        "salt": config.salt,
        "privacy": sorted(set(samples["privacy"].to_pylist())),
        "specs": _specs(samples),
    }
    # Snapshots of models' labels are those of before there were others.
    return said if config.labels == "auto" else said | {"labels": config.labels}


def _specs(samples: pa.Table) -> dict[str, list[str]]:
    """Lists the digests of what the parts were made with, by part."""
    found: dict[str, set[str]] = {}
    for row in samples["parts"].to_pylist():
        for part in row:
            found.setdefault(part["part"], set()).add(part["spec_digest"])
    return {part: sorted(found[part]) for part in sorted(found)}


def select(lake: Lake, config: CorpusConfig) -> Selection:
    """Selects, splits and plans: a pure function of the lake's versions and the configuration.

    Raises:
        UsageError: the condition is not SQL over the selection, nothing matches it, or the
            topology is unknown.
        FleetError: the condition takes too long, or too much memory.
    """
    topology = load_topology(config.topology, config.topologies)
    latest = latest_samples(config.privacy, config.payload, config.frames_fps)
    offered = read_rows(lake, "\n".join([latest, "SELECT * FROM selection"]))
    labelled = offered if config.labels == "auto" else with_reviewed(lake, offered, config)
    if config.where is None:
        chosen = labelled
    else:
        # On a line of its own, so that a comment at its end does not hide the bracket.
        lines = [latest, "SELECT event_id FROM selection WHERE (", config.where, ")"]
        limits = Limits(config.where_timeout_s, what="--where", longer="--where-timeout", larger="")
        try:
            matching = query(lake, "\n".join(lines), limits)
        except UsageError as error:
            raise UsageError(f"--where: {error}") from error
        wanted = pc.is_in(labelled["event_id"], value_set=pc.unique(matching["event_id"]))
        chosen = labelled.filter(wanted)
    if not chosen.num_rows:
        raise UsageError(
            f"corpus {config.name!r}: no sample to choose from with --privacy {config.privacy}"
            if not offered.num_rows
            else f"--where {config.where!r} selects none of {offered.num_rows} samples; "
            "its columns are those of events, and vehicle_id, platform, format, log_name, "
            "payload, cameras, privacy, duration_ns"
        )
    chosen = _sizes(chosen.sort_by("event_id"))
    splits = [
        split_of(drive_id, config.val_fraction, config.salt)
        for drive_id in chosen["drive_id"].to_pylist()
    ]
    chosen = chosen.append_column("split", pa.array(splits, pa.string()))
    planned = plan(chosen, topology, config.salt)
    placed = planned.placements.drop_columns(["row"])
    chosen = chosen.take(planned.placements["row"])
    ranges = _ranges(chosen, placed["shard"])
    chosen = _described(chosen)
    samples = placed
    for name in chosen.column_names:
        if name not in placed.column_names:
            samples = samples.append_column(name, chosen[name])
    return Selection(
        samples=samples,
        ranges=ranges,
        plan=planned,
        snapshot=snapshot_id(samples, planned, _metadata(config, samples)),
        offered=offered.num_rows,
    )


def _ranges(chosen: pa.Table, shards: pa.ChunkedArray) -> pa.Table:
    """Returns a row for each part of the samples: its byte range, event and shard."""
    rows = chosen.combine_chunks()
    of = pc.list_parent_indices(rows["parts"])
    parts = pc.list_flatten(rows["parts"])
    columns = ("pack_uri", "offset", "length", "sha256")
    table = pa.table({name: pc.struct_field(parts, name) for name in columns})
    table = table.append_column("event_id", rows["event_id"].take(of))
    return table.append_column("shard", shards.combine_chunks().take(of))


def _described(chosen: pa.Table) -> pa.Table:
    """Replaces the parts' places in packs, which are the lake's alone, by what a sample is."""
    fields = ("part", "spec_digest", "length", "sha256")
    parts = [[{f: part[f] for f in fields} for part in row] for row in chosen["parts"].to_pylist()]
    at = chosen.column_names.index("parts")
    return chosen.set_column(at, "parts", pa.array(parts, PARTS_TYPE))


def _sizes(chosen: pa.Table) -> pa.Table:
    """Adds the length of each sample, and a digest of its parts."""
    rows = chosen["parts"].to_pylist()
    length = [sum(part["length"] for part in row) for row in rows]
    hashed = [sample_hash([part["sha256"] for part in row]) for row in rows]
    chosen = chosen.append_column("length", pa.array(length, pa.int64()))
    return chosen.append_column("sha256", pa.array(hashed, pa.string()))


def _labels(lake: Lake, samples: pa.Table) -> pa.Table:
    """Returns the boxes of the snapshot's samples, each with the shard of its sample."""
    events = samples["event_id"].to_pylist()
    boxes = lake.read("boxes", filter=pc.field("event_id").isin(events))
    shards = dict(zip(events, samples["shard"].to_pylist(), strict=True))
    specs = dict(zip(events, samples["label_digest"].to_pylist(), strict=True))
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
    scratch = scratch_url(lake.url, config.model_dump(mode="json"), selection.snapshot)
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
