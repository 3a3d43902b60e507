"""Repack: makes samples of another payload from clips in packs.

The clips are blurred already, and the vehicle's video is not read. A corpus with
`--payload frames` runs this first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import CorpusConfig
from pipeline.graph.execute import Work
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done, stage_digest
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import standing
from pipeline.snapshots.assembly import pack_url
from schemas.ids import ID_CHARS, canonical, digest
from schemas.records import Count
from schemas.tables import TABLES
from transforms.corpora.pack import PackWriter, read_sample
from transforms.storage import get, replacing
from transforms.timing import step
from transforms.video.encode import clip_to_frames

VERSION = 1
"""Version; raised when the same clip gives different frames."""

TASK_SAMPLES = 16

_CLIPS = f"""
SELECT sha256('["sample","' || event_id || '","' || spec_digest || '"]')[:{ID_CHARS}] AS subject,
       '' AS stage_digest
FROM samples WHERE payload = 'clip'
"""  # noqa: S608 - a constant
"""Computes `subject` of every clip."""


@dataclass(frozen=True, slots=True)
class RepackTask:
    """Samples of one pack, as rows of `samples`."""

    key: str
    pack_uri: str
    samples: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class RepackStage(Stage):
    """Turns clips into JPEG frames."""

    lake_url: str
    fps: float
    digest: str
    name: str = "repack"
    task: ClassVar[type] = RepackTask

    def process(self, task: RepackTask) -> Output:
        """Writes the task's samples, with frames for clips, to a new pack."""
        source = pack_url(self.lake_url, task.pack_uri)
        pack_uri = f"packs/{task.key}.tar"
        rows = []
        with replacing(f"{self.lake_url}/{pack_uri}") as out:
            pack = PackWriter(out)
            for row in task.samples:
                body = get(source, row["offset"], row["offset"] + row["length"])
                with step("transcode"):
                    members = frames_members(read_sample(body), self.fps)
                with step("pack"):
                    place = pack.add(row["event_id"], members)
                rows.append(
                    row
                    | {
                        "payload": "frames",
                        "pack_uri": pack_uri,
                        "offset": place.offset,
                        "length": place.length,
                        "sha256": place.sha256,
                    }
                )
            pack.close()
            size = out.tell()
        return Output(
            blobs={pack_uri: size},
            tables={"samples": pa.Table.from_pylist(rows, schema=TABLES["samples"].schema)},
            done=[Done(subject(row), self.digest, "kept") for row in task.samples],
            counts=[Count(self.name, "samples", kept=len(rows))],
        )


def frames_members(members: Mapping[str, bytes], fps: float) -> dict[str, bytes]:
    """Replaces the clips among a sample's members by JPEG frames.

    The sample's `json` gains `frame_t_ns`: by camera, the frames' times in ns from the
    start of the event's window.
    """
    out: dict[str, bytes] = {}
    times: dict[str, list[int]] = {}
    for suffix, body in members.items():
        camera, dot, kind = suffix.rpartition(".")
        if (dot, kind) != (".", "mp4"):
            out[suffix] = body
            continue
        pictures = clip_to_frames(body, fps)
        times[camera] = [t_ns for t_ns, _ in pictures]
        for index, (_, jpeg) in enumerate(pictures):
            out[f"{camera}.{index:04d}.jpg"] = jpeg
    out["json"] = canonical(json.loads(members["json"]) | {"frame_t_ns": times})
    return out


def subject(row: Mapping[str, Any]) -> str:
    """Returns the ledger's subject of a clip sample: its event and label specification."""
    return digest("sample", row["event_id"], row["spec_digest"])


def plan_repack(lake: Lake, config: CorpusConfig) -> Work:
    """Finds the clip samples without frames at this rate."""
    key = stage_digest(version=VERSION, fps=config.frames_fps)
    found = standing(lake, "repack", _CLIPS, key)
    new = set(found.new)
    packs: dict[str, list[dict[str, Any]]] = {}
    if new:
        clips = lake.read("samples", filter=pc.field("payload") == "clip")
        for row in clips.to_pylist():
            if subject(row) in new:
                packs.setdefault(row["pack_uri"], []).append(row)
    tasks = [
        RepackTask(digest("repack", key, [subject(row) for row in batch]), pack_uri, tuple(batch))
        for pack_uri, rows in sorted(packs.items())
        for first in range(0, len(rows), TASK_SAMPLES)
        if (batch := rows[first : first + TASK_SAMPLES])
    ]
    return Work(
        stage=RepackStage(lake.url, config.frames_fps, key),
        tasks=tasks,
        expected={("repack", "samples"): found.total},
        known=(found.known("repack", "samples"),),
    )
