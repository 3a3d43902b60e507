"""What sweep and label do in a child process: they decode a stranger's video.

Nothing here imports Beam, which takes a second: a child is started for each worker thread, and
again after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from auto_label import scene
from auto_label.label import Labelled, LabelSpec, label_event, sample_members
from auto_label.models import ModelSpec
from pipeline.stages.detectors import open_detectors
from schemas.records import Event, VideoFile
from transforms.corpora import Sample
from transforms.isolation import Call
from transforms.timing import timed
from transforms.video.decode import decode_keyframes


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a stage.

    Args:
        specs: the models.
        shared: whether one process of the machine hosts them for all of its worker processes.
    """

    specs: tuple[ModelSpec, ...]
    shared: bool


@dataclass(frozen=True, slots=True)
class LogRows:
    """The rows of one log that labelling needs; `signals` and `joints` are those of the event."""

    row: Mapping[str, Any]
    videos: Mapping[str, Sequence[VideoFile]]
    frames: pa.Table
    signals: pa.Table
    joints: pa.Table


def label_call(
    event: Event, log: LogRows, models: Models, spec: LabelSpec, memory_bytes: int
) -> Call[tuple[Labelled, Sample]]:
    """Returns the call that labels an event and makes its sample."""
    prepare = partial(open_detectors, models.specs, shared=models.shared)
    return Call(_label, (event, log, models, spec, memory_bytes), prepare)


def _label(
    event: Event, log: LogRows, models: Models, spec: LabelSpec, memory_bytes: int
) -> tuple[Labelled, Sample]:
    detectors = open_detectors(models.specs, shared=models.shared)
    labelled = label_event(
        event, log.videos, log.frames, log.signals, detectors, spec, memory_bytes
    )
    return labelled, sample_members(event, log.row, labelled, log.signals, log.joints)


def sweep_call(video: VideoFile, frames: pa.Table, fps: float, models: Models) -> Call[pa.Table]:
    """Returns the call that looks at the keyframes of a video."""
    prepare = partial(open_detectors, models.specs, shared=models.shared)
    return Call(_sweep, (video, frames, fps, models), prepare)


def _sweep(video: VideoFile, frames: pa.Table, fps: float, models: Models) -> pa.Table:
    decoded = timed("decode", decode_keyframes(video, frames, fps))
    return scene.sweep_frames(decoded, open_detectors(models.specs, shared=models.shared))
