"""Sweep: keyframes of whole logs, at a given rate, to the table scene.

Only keyframes are decoded: at one per second that is a few percent of a full decode. Those of
places and times that the privacy policy excludes are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from auto_label import scene
from auto_label.exclusions import Exclusion
from auto_label.models import ModelSpec
from auto_label.policies import load_policy
from pipeline.config import SweepConfig
from pipeline.graph.execute import Work
from pipeline.graph.runner import is_driver
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done, stage_digest
from pipeline.lake.locate import locate, rows_of
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import standing
from pipeline.stages.label import RESOURCES, video_files
from pipeline.stages.looking import Models, sweep_call
from pipeline.stages.models import ready_models
from pipeline.stages.whereabouts import SOURCES, Whereabouts
from schemas.errors import DataError
from schemas.ids import digest
from schemas.records import Count, Outcome, Reject, VideoFile
from schemas.tables import TABLES
from schemas.times import Span
from transforms.isolation import Limits, isolated


@dataclass(frozen=True, slots=True)
class SweepTask:
    """One log, and the files that hold its videos, frames and whereabouts."""

    key: str
    log_id: str
    files: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(slots=True)
class SweepStage(Stage):
    """Measures keyframes and runs detectors on them."""

    fps: float
    models: tuple[ModelSpec, ...]
    exclude: tuple[Exclusion, ...]
    digest: str
    limits: Limits
    name: str = "sweep"
    task: ClassVar[type] = SweepTask
    resources: ClassVar[Mapping[str, str]] = RESOURCES
    once: ClassVar[bool] = True

    def process(self, task: SweepTask) -> Output:
        """Sweeps one log, camera by camera; a file that does not decode is a reject.

        If one takes too long or cannot be read, nothing of the log is kept, and the next run
        sweeps it again.
        """
        models = Models(self.models, shared=not is_driver())
        output = Output()
        files = dict(task.files)
        videos = video_files(rows_of("videos", files["videos"], [task.log_id]))
        frames = rows_of("frames", files["frames"], [task.log_id])
        if self.exclude:
            frames = self._allowed(frames, Whereabouts.read(files, task.log_id))
        parts: list[pa.Table] = []
        for camera, spans in videos.items():
            for video in spans:
                look = sweep_call(video, _frames_of(frames, video), self.fps, models)
                try:
                    rows = isolated(look, self.limits, video.uri)
                except DataError as error:
                    reject = Reject.of(error, uri=video.uri, stage=self.name, subject=task.log_id)
                    if not error.final:
                        count = Count(self.name, "logs", rejected=1)
                        return Output(rejects=[reject], counts=[count])
                    output.rejects.append(reject)
                    continue
                for name, value in (("log_id", task.log_id), ("camera", camera)):
                    column = pa.repeat(pa.scalar(value, pa.string()), rows.num_rows)
                    rows = rows.append_column(name, column)
                parts.append(TABLES["scene"].conform(rows))
        outcome: Outcome = "filtered"
        if parts:
            outcome = "kept"
        elif output.rejects:
            outcome = "rejected"
        output.tables = {"scene": pa.concat_tables(parts)} if parts else {}
        output.done = [Done(task.log_id, self.digest, outcome)]
        output.counts = [
            Count(self.name, "logs", **{outcome: 1}),
            Count(self.name, "keyframes", kept=sum(part.num_rows for part in parts)),
        ]
        return output

    def _allowed(self, frames: pa.Table, here: Whereabouts) -> pa.Table:
        """Leaves out the keyframes that the policy excludes, and all frames between keyframes."""
        keys = frames.filter(pc.field("is_keyframe"))
        kept = [
            not here.excluded(self.exclude, Span(t_ns, t_ns + 1))
            for t_ns in keys["t_ns"].to_pylist()
        ]
        return keys.filter(pa.array(kept, pa.bool_()))


def _frames_of(frames: pa.Table, video: VideoFile) -> pa.Table:
    return frames.filter(pc.field("uri") == video.uri)


def plan_sweep(lake: Lake, config: SweepConfig) -> Work:
    """Finds the logs that have not been swept.

    A log is swept once: a second rate or model would add a second row for the same keyframe.

    Raises:
        UsageError: a model or policy is unknown, or the weights of a named model cannot be
            fetched.
    """
    models, notes = ready_models(config.models, config.models_dir)
    policy = load_policy(config.privacy, config.policies)
    exclude = () if policy is None else policy.exclude
    key = stage_digest(version=scene.VERSION, fps=config.fps, models=[m.identity for m in models])
    logs = standing(lake, "sweep", "SELECT log_id AS subject, '' AS stage_digest FROM logs")
    places = locate(lake, ("videos", "frames", *(SOURCES if exclude else ())), logs.new)
    tasks = [
        SweepTask(
            digest("sweep", key, log_id),
            log_id,
            tuple((table, found.get(log_id, ())) for table, found in places.items()),
        )
        for log_id in logs.new
    ]
    return Work(
        stage=SweepStage(config.fps, models, exclude, key, config.limits),
        tasks=tasks,
        expected={("sweep", "logs"): logs.total},
        known=(logs.known("sweep", "logs"),),
        notes=notes,
    )
