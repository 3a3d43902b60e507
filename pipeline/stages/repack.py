"""Repack: makes frames from the clips in packs.

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
from transforms.corpora.webdataset import member_name
from transforms.storage import get, replacing
from transforms.timing import step
from transforms.video.encode import clip_to_frames

VERSION = 2
"""Version; raised when the same clip gives different frames."""

TASK_CLIPS = 16

FRAMES_DIGEST = f"""sha256('["frames","{{key}}","' || {{clip}} || '"]')[:{ID_CHARS}]"""
"""Computes what `frames_digest` does, given `frames_key` and a column of clips' digests."""

_CLIPS = f"""
SELECT sha256('["clip","' || event_id || '","' || spec_digest || '"]')[:{ID_CHARS}] AS subject
FROM parts WHERE part = 'clip'
"""  # noqa: S608 - a constant
"""Computes `subject` of every clip."""


@dataclass(frozen=True, slots=True)
class RepackTask:
    """Clips of one log, as rows of `parts`."""

    key: str
    clips: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class RepackStage(Stage):
    """Turns clips into JPEG frames."""

    lake_url: str
    fps: float
    digest: str
    name: str = "repack"
    task: ClassVar[type] = RepackTask

    def process(self, task: RepackTask) -> Output:
        """Writes the frames of the task's clips to a new pack."""
        pack_uri = f"packs/{task.key}.tar"
        rows = []
        with replacing(f"{self.lake_url}/{pack_uri}") as out:
            pack = PackWriter(out)
            for row in task.clips:
                source = pack_url(self.lake_url, row["pack_uri"])
                body = get(source, row["offset"], row["offset"] + row["length"])
                with step("transcode"):
                    members = frames_members(read_sample(body), self.fps)
                with step("pack"):
                    place = pack.add(row["event_id"], members)
                rows.append(
                    row
                    | {
                        "part": "frames",
                        "spec_digest": frames_digest(self.digest, row["spec_digest"]),
                        "source_digest": row["spec_digest"],
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
            tables={"parts": pa.Table.from_pylist(rows, schema=TABLES["parts"].schema)},
            done=[Done(subject(row), self.digest, "kept") for row in task.clips],
            counts=[Count(self.name, "clips", kept=len(rows))],
        )


def frames_members(members: Mapping[str, bytes], fps: float) -> dict[str, bytes]:
    """Turns the files of a clip part into those of a frames part: JPEGs instead of clips.

    `pictures.json` gains `frame_t_ns`: by camera, the frames' times in ns from the start of the
    event's window.
    """
    said = json.loads(members["pictures.json"])
    out: dict[str, bytes] = {}
    times: dict[str, list[int]] = {}
    for camera in said["cameras"]:
        name = member_name(camera)
        pictures = clip_to_frames(members[f"{name}.mp4"], fps)
        times[camera] = [t_ns for t_ns, _ in pictures]
        for index, (_, jpeg) in enumerate(pictures):
            out[f"{name}.{index:04d}.jpg"] = jpeg
    out["pictures.json"] = canonical(said | {"payload": "frames", "frame_t_ns": times})
    return out


def frames_key(fps: float) -> str:
    """Returns the stage digest of frames at a rate."""
    return stage_digest(version=VERSION, fps=fps)


def frames_digest(key: str, clip_digest: str) -> str:
    """Returns the digest of a frames part, given `frames_key` and the digest of its clip."""
    return digest("frames", key, clip_digest)


def subject(row: Mapping[str, Any]) -> str:
    """Returns the ledger's subject of a clip: its event and what it was made with."""
    return digest("clip", row["event_id"], row["spec_digest"])


def plan_repack(lake: Lake, config: CorpusConfig) -> Work:
    """Finds the clip samples without frames at this rate."""
    key = frames_key(config.frames_fps)
    found = standing(lake, "repack", f"SELECT subject, '' AS stage_digest FROM ({_CLIPS})", key)  # noqa: S608 - constants
    new = set(found.new)
    logs: dict[str, list[dict[str, Any]]] = {}
    if new:
        clips = lake.read("parts", filter=pc.field("part") == "clip")
        for row in clips.to_pylist():
            if subject(row) in new:
                logs.setdefault(row["log_id"], []).append(row)
    tasks = [
        RepackTask(digest("repack", key, [subject(row) for row in batch]), tuple(batch))
        for _, rows in sorted(logs.items())
        for first in range(0, len(rows), TASK_CLIPS)
        if (batch := rows[first : first + TASK_CLIPS])
    ]
    return Work(
        stage=RepackStage(lake.url, config.frames_fps, key),
        tasks=tasks,
        expected={("repack", "clips"): found.total},
        known=(found.known("repack", "clips"),),
    )
