"""Labels of one event from tables alone: what models saw becomes boxes, tracks and an ego path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label import ego, link
from auto_label.models import Detections
from auto_label.specs import LabelSpec
from schemas.records import Event
from schemas.tables import TABLES
from transforms.timing import step

EGO_SOURCE = "signals"


@dataclass(frozen=True, slots=True)
class Labels:
    """Rows of `boxes`, `tracks` and `ego_path` of one event."""

    boxes: pa.Table
    tracks: pa.Table
    ego_path: pa.Table

    def tables(self) -> dict[str, pa.Table]:
        """Returns the rows by table."""
        return {"boxes": self.boxes, "tracks": self.tracks, "ego_path": self.ego_path}


def link_event(
    event: Event, views: pa.Table, detections: pa.Table, signals: pa.Table, spec: LabelSpec
) -> Labels:
    """Links what models saw, and drives the ego path.

    Args:
        event: the event.
        views: its rows of `views`; those of models that `spec` does not name are ignored.
        detections: its rows of `detections`, likewise.
        signals: rows of `signals` of its log; those outside the event are ignored.
        spec: the specification; its models are linked one by one, in order.
    """
    boxes, tracks = [TABLES["boxes"].empty()], [TABLES["tracks"].empty()]
    with step("link"):
        for camera, looks in _by_camera(views, spec):
            offset = 0
            for view in looks:
                own = (pc.field("camera") == camera) & (
                    pc.field("spec_digest") == view["spec_digest"]
                )
                tracked = link.link(
                    np.array(view["t_ns"], dtype=np.int64),
                    _seen(view["t_ns"], detections.filter(own)),
                )
                made = _rows(event, view, tracked, offset, spec)
                boxes.append(made[0])
                tracks.append(made[1])
                offset += int(tracked.track_id.max(initial=0))
    return Labels(
        TABLES["boxes"].conform(pa.concat_tables(boxes)),
        TABLES["tracks"].conform(pa.concat_tables(tracks)),
        _ego_path(event, signals, spec),
    )


def _by_camera(views: pa.Table, spec: LabelSpec) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yields the looks at each camera, in the order of the specification's models."""
    order = {spec.look(model): place for place, model in enumerate(spec.models)}
    cameras: dict[str, list[Mapping[str, Any]]] = {}
    for view in views.to_pylist():
        if view["spec_digest"] in order:
            cameras.setdefault(view["camera"], []).append(view)
    for camera in sorted(cameras):
        yield camera, sorted(cameras[camera], key=lambda view: order[view["spec_digest"]])


def _seen(t_ns: Sequence[int], rows: pa.Table) -> list[Detections]:
    """Returns what a model saw on each of its frames, from rows of `detections`."""
    rows = rows.sort_by([("t_ns", "ascending"), ("number", "ascending")])
    names = rows["class"].to_numpy()
    classes, index = np.unique(names.astype(str), return_inverse=True)
    xywh = np.column_stack([rows[name].to_numpy() for name in ("x_px", "y_px", "w_px", "h_px")])
    score, at = rows["score"].to_numpy(), rows["t_ns"].to_numpy()
    ends = np.searchsorted(at, np.array([*t_ns, np.iinfo(np.int64).max], dtype=np.int64))
    found = tuple(classes.tolist())
    return [
        Detections(xywh[a:b], score[a:b], index[a:b].astype(np.int64), found)
        for a, b in pairwise(ends.tolist())
    ]


def _rows(
    event: Event, view: Mapping[str, Any], tracked: link.Tracked, offset: int, spec: LabelSpec
) -> tuple[pa.Table, pa.Table]:
    """Returns rows of `boxes` and `tracks`; track ids of a camera are unique over its models."""
    size = (view["width_px"], view["height_px"])
    low = np.clip(tracked.xywh[:, :2], 0, size)
    high = np.clip(tracked.xywh[:, :2] + tracked.xywh[:, 2:], 0, size)
    inside = ((high - low) >= 1.0).all(axis=1)
    names = np.array([*tracked.classes, ""], dtype=object)[tracked.class_index]
    columns = {
        "track_id": tracked.track_id + offset,
        "t_ns": tracked.t_ns,
        "class": names,
        "x_px": low[:, 0],
        "y_px": low[:, 1],
        "w_px": high[:, 0] - low[:, 0],
        "h_px": high[:, 1] - low[:, 1],
        "score": tracked.score,
    }
    kept = pa.table({name: pa.array(column[inside]) for name, column in columns.items()})
    summary = kept.group_by(["track_id", "class"]).aggregate(
        [("t_ns", "min"), ("t_ns", "max"), ("t_ns", "count"), ("score", "mean")]
    )
    summary = summary.select(
        ["track_id", "class", "t_ns_min", "t_ns_max", "t_ns_count", "score_mean"]
    ).rename_columns(["track_id", "class", "start_ns", "end_ns", "boxes", "score"])
    owner = {
        "event_id": event.event_id,
        "camera": view["camera"],
        "source": view["source"],
        "source_version": view["source_version"],
        "spec_digest": spec.link_digest,
    }
    return _with_constants("boxes", kept, owner), _with_constants("tracks", summary, owner)


def _ego_path(event: Event, signals: pa.Table, spec: LabelSpec) -> pa.Table:
    with step("ego_path"):
        path = ego.ego_path(signals, event.span, event.anchor_ns)
    owner = {
        "event_id": event.event_id,
        "source": EGO_SOURCE,
        "source_version": str(ego.VERSION),
        "spec_digest": spec.link_digest,
    }
    return _with_constants("ego_path", path, owner)


def _with_constants(name: str, rows: pa.Table, constants: Mapping[str, str]) -> pa.Table:
    """Adds constant columns and conforms the rows to a table's schema."""
    for column, value in constants.items():
        rows = rows.append_column(column, pa.array([value] * rows.num_rows, pa.string()))
    return TABLES[name].conform(rows)
