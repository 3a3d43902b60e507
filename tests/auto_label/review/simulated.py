"""Drives with known objects, and models and reviewers who err about them at known rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.arrays import AnyArray, FloatArray, IntArray
from schemas.tables import TABLES
from schemas.times import NS_PER_S

VERDICTS = TABLES["verdicts"].schema
CLASSES = ("car", "person")
SOURCE, VERSION = "model", "1"


def answer(event_id: str = "event", reviewer: str = "ada", **changed: Any) -> dict[str, Any]:
    """One row of `verdicts`; the task is that of the event's camera."""
    row: dict[str, Any] = {
        "event_id": event_id,
        "log_id": "log",
        "drive_id": "drive",
        "camera": "front",
        "updated_unix_ns": 0,
        "reviewer": reviewer,
        "verdict": "right",
        "scene": [],
        "comment": None,
        "skipped": False,
        "control": False,
        "seconds": None,
        "width_px": 1280,
        "height_px": 960,
        "frames_ns": [],
        "boxes": [],
        "labels_digest": None,
        **changed,
    }
    row.setdefault("task", f"{row['event_id']} {row['camera']}")
    row.setdefault("annotation", f"{row['task']} {reviewer}")
    return row


def verdicts(*rows: Mapping[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=VERDICTS)


def box(x: float, t_ns: int = 0, name: str = "car", track_id: int = 1) -> dict[str, Any]:
    """A box of 60 by 60 pixels."""
    place = {"x_px": x, "y_px": 0.0, "w_px": 60.0, "h_px": 60.0}
    return {"track_id": track_id, "class": name, "t_ns": t_ns, **place}


@dataclass(frozen=True, slots=True)
class Scenes:
    """Events with as many frames and objects each; the classes take turns."""

    events: int
    objects: int = 4
    frames: int = 5

    @property
    def names(self) -> list[str]:
        """The ids of the events."""
        return [f"event {k:04d}" for k in range(self.events)]

    @property
    def t_ns(self) -> IntArray:
        """The times of the frames, int64[frames]."""
        return np.arange(self.frames, dtype=np.int64) * NS_PER_S


@dataclass(frozen=True, slots=True)
class Drawn:
    """Boxes of Scenes, ordered by event, track and frame; all frames have all tracks."""

    event: IntArray
    track_id: IntArray
    t_ns: IntArray
    name: AnyArray
    xywh: FloatArray


def draw(
    dice: np.random.Generator,
    scenes: Scenes,
    *,
    missed: float | FloatArray = 0.0,
    shifted: float | FloatArray = 0.0,
    extra: float | FloatArray = 0.0,
    nudge_px: float = 0.0,
) -> Drawn:
    """Draws the objects of all events with errors.

    Args:
        dice: random numbers.
        scenes: the events.
        missed: how probable it is that an object is left out; one number for each event or all.
        shifted: that one of the others is so far off that it does not match.
        extra: that one of two places, one for each class, has a box although nothing is there.
        nudge_px: how far all boxes, of 60 pixels, are off to the right.
    """
    count = scenes.objects + len(CLASSES)
    number = np.broadcast_to(np.arange(count), (scenes.events, count))
    true = number < scenes.objects
    luck = dice.uniform(size=(2, scenes.events, count))
    rates = [np.reshape(rate, (-1, 1)) for rate in (missed, shifted, extra)]
    there = luck[0] < np.where(true, 1 - rates[0], rates[2])
    off = true & (luck[1] < rates[1])
    x = 200.0 * number + np.where(off, 45.0, nudge_px)
    event, track = np.nonzero(there)
    rows = np.repeat(np.arange(len(event)), scenes.frames)
    # Objects move, so that a frame is not like another.
    t_ns = np.tile(scenes.t_ns, len(event))
    xywh = np.full((len(rows), 4), 60.0)
    xywh[:, 0] = x[event, track][rows] + 7 * (t_ns / NS_PER_S)
    xywh[:, 1] = 300.0
    name = np.array(CLASSES, dtype=object)[track % len(CLASSES)]
    return Drawn(event[rows], track[rows] + 1, t_ns, name[rows], xywh)


def answers(scenes: Scenes, drawn: Drawn, given: Sequence[str], reviewer: str = "ada") -> pa.Table:
    """One answer to each event, with a verdict and the boxes."""
    base = verdicts(
        *(
            answer(name, reviewer, verdict=verdict, seconds=30.0)
            for name, verdict in zip(scenes.names, given, strict=True)
        )
    )
    struct = pa.StructArray.from_arrays(
        [
            pa.array(column)
            for column in (drawn.track_id, drawn.name, drawn.t_ns, *drawn.xywh.T.copy())
        ],
        fields=list(VERDICTS.field("boxes").type.value_type),
    )
    ends = np.searchsorted(drawn.event, np.arange(scenes.events + 1)).astype(np.int32)
    frames = pa.array([scenes.t_ns] * scenes.events, pa.list_(pa.int64()))
    for column, array in (
        ("frames_ns", frames),
        ("boxes", pa.ListArray.from_arrays(pa.array(ends), struct)),
    ):
        base = base.set_column(base.column_names.index(column), VERDICTS.field(column), array)
    return base


def labels(
    scenes: Scenes, drawn: Drawn, score: FloatArray | None = None, source: str = SOURCE
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Rows of views, boxes and tracks of a model that drew boxes.

    Args:
        scenes: the events; the model looked at all of their frames.
        drawn: its boxes.
        score: float64[t], scores of its tracks in their order; 0.9 if None.
        source: its name.
    """
    owner = {"camera": "front", "source": source, "source_version": VERSION, "spec_digest": "s"}
    names = np.array(scenes.names, dtype=object)
    first = np.flatnonzero(drawn.t_ns == 0)
    each = np.full(len(first), 0.9) if score is None else score
    size = {"width_px": 1280, "height_px": 960}
    views = {"event_id": names, **owner, **size}
    boxes = {
        "event_id": names[drawn.event],
        "track_id": drawn.track_id,
        "t_ns": drawn.t_ns,
        "class": drawn.name,
        **dict(zip(("x_px", "y_px", "w_px", "h_px"), drawn.xywh.T, strict=True)),
        "score": np.repeat(each, scenes.frames),
        **owner,
    }
    tracks = {
        "event_id": names[drawn.event[first]],
        "track_id": drawn.track_id[first],
        "class": drawn.name[first],
        "start_ns": 0,
        "end_ns": scenes.t_ns[-1],
        "boxes": scenes.frames,
        "score": each,
        **owner,
    }
    seen = _table(views, scenes.events).append_column(
        "t_ns", pa.array([scenes.t_ns] * scenes.events, pa.list_(pa.int64()))
    )
    return (
        TABLES["views"].conform(seen),
        TABLES["boxes"].conform(_table(boxes, len(drawn.event))),
        TABLES["tracks"].conform(_table(tracks, len(first))),
    )


def events(
    names: Sequence[str], score: Sequence[float] | FloatArray, trigger: str = "hard_brake"
) -> pa.Table:
    """Rows of `events` of one trigger."""
    columns = {
        "event_id": np.array(names, dtype=object),
        "log_id": "log",
        "drive_id": "drive",
        "trigger": trigger,
        "trigger_version": 1,
        "params_digest": "p",
        "start_ns": 0,
        "anchor_ns": 0,
        "end_ns": 1,
        "score": np.asarray(score, dtype=np.float64),
        "evidence": "{}",
    }
    return TABLES["events"].conform(_table(columns, len(names)))


def replaced(table: pa.Table, name: str, value: Any) -> pa.Table:
    """The table with one value in all rows of a column."""
    field = table.schema.field(name)
    column = pa.array([value] * len(table), field.type)
    return table.set_column(table.column_names.index(name), field, column)


def _table(columns: Mapping[str, Any], count: int) -> pa.Table:
    """A table whose single values are those of all rows."""
    return pa.table(
        {
            name: pa.array(value.copy() if isinstance(value, np.ndarray) else [value] * count)
            for name, value in columns.items()
        }
    )
