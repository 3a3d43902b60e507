"""What sweep and label do in a child process: they decode a stranger's video.

Nothing here imports Beam, which takes a second: a child is started for each worker thread, and
again after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from auto_label import scene
from auto_label.event_rows import EventRows
from auto_label.label import Labelled, label_event
from auto_label.models import ModelSpec
from auto_label.specs import Due
from pipeline.stages.detectors import open_detectors
from schemas.records import Event, VideoFile
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


def label_call(event: Event, log: EventRows, models: Models, due: Due) -> Call[Labelled]:
    """Returns the call that does what is due of an event."""
    wanted = {*due.models, *(due.pixels.models if due.pixels else ())}
    used = Models(tuple(one for one in models.specs if one.identity in wanted), models.shared)
    prepare = partial(open_detectors, used.specs, shared=used.shared)
    return Call(_label, (event, log, used, due), prepare)


def _label(event: Event, log: EventRows, models: Models, due: Due) -> Labelled:
    opened = open_detectors(models.specs, shared=models.shared)
    detectors = {detector.spec.identity: detector for detector in opened}
    return label_event(event, log, detectors, due)


def sweep_call(video: VideoFile, frames: pa.Table, fps: float, models: Models) -> Call[pa.Table]:
    """Returns the call that looks at the keyframes of a video."""
    prepare = partial(open_detectors, models.specs, shared=models.shared)
    return Call(_sweep, (video, frames, fps, models), prepare)


def _sweep(video: VideoFile, frames: pa.Table, fps: float, models: Models) -> pa.Table:
    decoded = timed("decode", decode_keyframes(video, frames, fps))
    return scene.sweep_frames(decoded, open_detectors(models.specs, shared=models.shared))
