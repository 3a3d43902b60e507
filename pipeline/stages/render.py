"""Render: label parts in which the answers of reviewers lie over what models said.

No picture is read: a label part is made anew of the one that is there and of the answers that
stand, and the clip stays as it is. `corpus --labels` says whether it takes these parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from auto_label.review.overlay import (
    label_rows,
    part_digest,
    reviewed_digest,
    reviewed_document,
)
from auto_label.review.resolve import drawn, standing
from pipeline.config import CorpusConfig
from pipeline.graph.execute import Work
from pipeline.graph.journal import scratch_url
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done, joined
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import read_rows
from pipeline.snapshots.assembly import pack_url
from pipeline.stages.selection import latest_samples
from schemas.errors import UsageError
from schemas.ids import canonical, digest
from schemas.records import Count
from schemas.tables import TABLES
from transforms.corpora.pack import PackWriter, read_sample
from transforms.corpora.webdataset import rounded
from transforms.parquet import encode, read_files
from transforms.storage import get, put, replacing

STAGE = "render"
_LABELS = "labels"


@dataclass(frozen=True, slots=True)
class RenderTask:
    """An event: its label part as a row of a sample's parts, and the file of all answers."""

    key: str
    event_id: str
    log_id: str
    drive_id: str
    duration_ns: int
    pack_uri: str
    offset: int
    length: int
    digest: str
    answers: str


@dataclass(slots=True)
class RenderStage(Stage):
    """Makes reviewed label parts, in packs of their own."""

    lake_url: str
    name: str = STAGE
    task: ClassVar[type] = RenderTask

    def process(self, task: RenderTask) -> Output:
        """Makes the reviewed label part of one event."""
        source = pack_url(self.lake_url, task.pack_uri)
        part = read_sample(get(source, task.offset, task.offset + task.length))
        answers = read_files([task.answers], filter=pc.field("event_id") == task.event_id)
        document = rounded(reviewed_document(json.loads(part["json"]), answers.to_pylist()))
        assert isinstance(document, dict)
        pack_uri = f"packs/{task.key}.tar"
        with replacing(f"{self.lake_url}/{pack_uri}") as out:
            pack = PackWriter(out)
            place = pack.add(task.event_id, {"json": canonical(document)})
            pack.close()
            size = out.tell()
        row = {
            "event_id": task.event_id,
            "log_id": task.log_id,
            "drive_id": task.drive_id,
            "part": _LABELS,
            "spec_digest": part_digest(task.digest),
            "source_digest": task.digest,
            "pack_uri": pack_uri,
            "offset": place.offset,
            "length": place.length,
            "sha256": place.sha256,
            "duration_ns": task.duration_ns,
            "cameras": [],
            "privacy": None,
        }
        parts = pa.Table.from_pylist([row], schema=TABLES["parts"].schema)
        digests = joined((task.digest, part_digest(task.digest)))
        return Output(
            tables={**label_rows(task.event_id, document), "parts": parts},
            blobs={pack_uri: size},
            done=[Done(task.event_id, digests, "kept")],
            counts=[Count(self.name, "events", kept=1)],
        )


def plan_render(lake: Lake, config: CorpusConfig) -> Work:
    """Finds the events with answers whose label parts are not made of these answers."""
    start = latest_samples(config.privacy, config.payload, config.frames_fps)
    rows = read_rows(lake, "\n".join([start, "SELECT * FROM selection"])).to_pylist()
    answers = _answers(lake, config)
    wanted = _digests(answers, {row["event_id"]: row["label_digest"] for row in rows})
    made = lake.scan("ledger", ["subject", "stage_digest"], pc.field("stage") == STAGE)
    done = set(zip(*(made[name].to_pylist() for name in made.column_names), strict=True))
    due = [
        row
        for row in rows
        if (found := wanted.get(row["event_id"]))
        and (row["event_id"], joined((found, part_digest(found)))) not in done
    ]
    made_of = sorted(wanted[row["event_id"]] for row in due)
    scratch = scratch_url(lake.url, config.model_dump(mode="json"), made_of)
    if due:
        put(f"{scratch}/answers.parquet", encode(answers))
    return Work(
        stage=RenderStage(lake.url),
        tasks=list(_tasks(due, wanted, f"{scratch}/answers.parquet")),
        expected={(STAGE, "events"): len(wanted)},
        known=(Count(STAGE, "events", filtered=len(wanted) - len(due)),),
        scratch=(scratch,) if due else (),
    )


def _answers(lake: Lake, config: CorpusConfig) -> pa.Table:
    """Returns the answers that stand."""
    return standing(drawn(lake.read("verdicts")), config.lead)


def _digests(answers: pa.Table, labels: Mapping[str, str]) -> dict[str, str]:
    """Returns the digest of the reviewed labels by event, of those that have labels and answers."""
    names = ["event_id", "camera", "annotation", "updated_unix_ns"]
    by_event: dict[str, list[dict[str, Any]]] = {}
    for row in answers.select(names).to_pylist():
        by_event.setdefault(row["event_id"], []).append(row)
    return {
        event_id: reviewed_digest(labels[event_id], own)
        for event_id, own in by_event.items()
        if event_id in labels
    }


def _tasks(
    due: Sequence[Mapping[str, Any]], wanted: Mapping[str, str], answers: str
) -> Iterator[RenderTask]:
    for row in sorted(due, key=lambda row: str(row["event_id"])):
        # A whole sample, of a lake before format 3, has no label part.
        for part in row["parts"]:
            if part["part"] == _LABELS:
                found = wanted[row["event_id"]]
                yield RenderTask(
                    digest("render", row["event_id"], found),
                    row["event_id"],
                    row["log_id"],
                    row["drive_id"],
                    row["duration_ns"],
                    part["pack_uri"],
                    part["offset"],
                    part["length"],
                    found,
                    answers,
                )


def with_reviewed(lake: Lake, offered: pa.Table, config: CorpusConfig) -> pa.Table:
    """Puts reviewed label parts in place of those of models.

    Args:
        lake: the lake, for which `plan_render` finds nothing left.
        offered: rows of `selection` (pipeline.stages.selection).
        config: whether samples without answers are left out.

    Raises:
        UsageError: none of the events has an answer, and these alone are wanted.
    """
    rows = offered.to_pylist()
    answers = _answers(lake, config)
    wanted = _digests(answers, {row["event_id"]: row["label_digest"] for row in rows})
    made = pc.field("source_digest").isin(pa.array(sorted(wanted.values()), pa.string()))
    parts = lake.scan("parts", TABLES["parts"].schema.names, (pc.field("part") == _LABELS) & made)
    reviewed = {(row["event_id"], row["source_digest"]): row for row in parts.to_pylist()}
    chosen = []
    for row in rows:
        part = reviewed.get((row["event_id"], wanted.get(row["event_id"])))
        if part is not None:
            kept = [one for one in row["parts"] if one["part"] != _LABELS]
            names = row["parts"][0].keys()
            row["parts"] = [*kept, {name: part[name] for name in names}]
            row["label_digest"] = part["source_digest"]
        if part is not None or config.labels == "reviewed-over-auto":
            chosen.append(row)
    if not chosen:
        raise UsageError(
            f"corpus {config.name!r}: --labels {config.labels}: none of {len(rows)} samples has an "
            "answer of a reviewer; take them with `fleetmill review pull`"
        )
    return pa.Table.from_pylist(chosen, schema=offered.schema)
