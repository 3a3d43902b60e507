"""Review tasks: a camera of an event, or all of them, as Label Studio imports it.

Our labels are a prediction of it. A task's `data` is all that is needed to understand an answer to
it, wherever the answer comes from: KEY is its key, `frames_ns` the time of each frame of the proxy,
`grid` the frames that models looked at (counted from 1, as Label Studio does), and the size of the
camera's pictures. A task of all cameras has these of each of them as `cameras`, with the `cell` of
the picture that shows the camera, and the size is that of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label.review.config import BOX, CHANNELS, TIME, VIDEO
from auto_label.review.grid import Cell, Layout
from auto_label.review.keyframes import keyframes
from auto_label.review.proxy import Proxy, playback_s
from schemas.arrays import AnyArray, IntArray
from schemas.ids import digest
from schemas.records import Event

KEY = "fleetmill"
"""The name of a task's key in its data."""

TRACK = "track-"
"""Before the number of a track in the id of its region; behind it may be that of the camera."""

_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class View:
    """One camera of an event, as a task shows it.

    Args:
        camera: the camera.
        size: width and height of its pictures, px.
        t_ns: the time of its picture on each frame of the proxy, None before its first one.
        looked_ns: int64[n], rising: the times of the frames that models looked at.
        boxes: rows of `boxes` of the event and camera; None if there are none.
    """

    camera: str
    size: tuple[int, int]
    t_ns: Sequence[int | None]
    looked_ns: IntArray
    boxes: pa.Table | None

    def frames(self) -> dict[int, int]:
        """Returns the frame, from 1, that first shows each of the camera's pictures, by time."""
        first: dict[int, int] = {}
        for frame, t_ns in enumerate(self.t_ns, start=1):
            if t_ns is not None:
                first.setdefault(t_ns, frame)
        return first

    def grid(self) -> IntArray:
        """Returns the frames that models looked at, int64[k], from 1, rising."""
        frames, looked = self.frames(), set(self.looked_ns.tolist())
        return np.array([frames[t_ns] for t_ns in frames if t_ns in looked], dtype=np.int64)


def task_key(event_id: str, camera: str | None, *, control: bool = False) -> str:
    """Returns the key of a task, by which it is known wherever it is.

    Only the key says of a control task, whose answer is known, that it is one: reviewers see all
    else of a task, and must not tell them apart.

    Args:
        event_id: the event.
        camera: the camera; None for the task of all cameras.
        control: whether it is a control task.
    """
    return digest("review", event_id, camera, *(["control"] if control else []))


def review_task(  # noqa: PLR0917 - all are inputs of equal rank
    event: Event,
    views: Sequence[View],
    layout: Layout | None,
    proxy: Proxy,
    labels_digest: str,
    signals: Mapping[str, AnyArray],
    *,
    control: bool = False,
) -> dict[str, Any]:
    """Makes the task of one camera of an event, or of all.

    Args:
        event: the event.
        views: the cameras that are shown.
        layout: where each is, px of the proxy; None for one camera.
        proxy: what is shown.
        labels_digest: of the labels that the boxes are of.
        signals: the arrays of the event's sample: `t_ns` and signals by name.
        control: make the task that checks reviewers.

    Returns:
        The task, but for the address of the proxy, `data.video`.
    """
    camera = views[0].camera if layout is None else None
    if layout is None:
        cells = [Cell(0, 0, *views[0].size)]
        size, shown = views[0].size, _view_data(views[0])
    else:
        cells, size = list(layout.cells), (layout.width, layout.height)
        shown = {
            "width_px": layout.width,
            "height_px": layout.height,
            "cameras": [
                _view_data(view) | {"cell": [cell.x, cell.y, cell.width, cell.height]}
                for view, cell in zip(views, cells, strict=True)
            ],
        }
    regions = [
        region
        for number, (view, cell) in enumerate(zip(views, cells, strict=True))
        for region in _regions(view, cell, "" if layout is None else f"-{number}", proxy, size)
    ]
    return {
        "data": {
            KEY: task_key(event.event_id, camera, control=control),
            "title": f"{event.trigger} · {camera or 'all cameras'} · score {event.score:.3g}",
            "event_id": event.event_id,
            "log_id": event.log_id,
            "drive_id": event.drive_id,
            "trigger": event.trigger,
            **shown,
            "fps": proxy.fps,
            "labels_digest": labels_digest,
            "signals": _series(signals, proxy),
        },
        "predictions": _predictions(regions, [view.boxes for view in views]),
    }


def _view_data(view: View) -> dict[str, Any]:
    return {
        "camera": view.camera,
        "frames_ns": list(view.t_ns),
        "grid": view.grid().tolist(),
        "width_px": view.size[0],
        "height_px": view.size[1],
    }


def _predictions(
    regions: Sequence[Mapping[str, Any]], boxes: Sequence[pa.Table | None]
) -> list[dict[str, Any]]:
    """Returns the prediction that is what all our models say, or none without a box."""
    if not regions:
        return []
    names = {
        f"{source} {version}"
        for own in boxes
        if own is not None
        for source, version in zip(
            own["source"].to_pylist(), own["source_version"].to_pylist(), strict=True
        )
    }
    score = float(np.mean([region["score"] for region in regions]))
    return [
        {
            "model_version": " + ".join(sorted(names)),
            "score": round(score, _DECIMALS),
            "result": list(regions),
        }
    ]


def _regions(
    view: View, cell: Cell, suffix: str, proxy: Proxy, size: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """Yields the region of each track of a camera, in a picture of a size that has it in a cell."""
    if view.boxes is None:
        return
    frame_of, grid = view.frames(), view.grid()
    scale = np.array([cell.width / view.size[0], cell.height / view.size[1]] * 2)
    for number in sorted(set(view.boxes["track_id"].to_pylist())):
        own = view.boxes.filter(pc.equal(view.boxes["track_id"], number)).sort_by("t_ns")
        times = own["t_ns"].to_pylist()
        # A frame that models saw may be missing in the clip.
        kept = np.array([t_ns in frame_of for t_ns in times], dtype=np.bool_)
        seen = np.array([frame_of[t_ns] for t_ns in times if t_ns in frame_of], dtype=np.int64)
        if not len(seen):
            continue
        columns = ("x_px", "y_px", "w_px", "h_px")
        xywh = np.column_stack([own[name].to_numpy() for name in columns])[kept]
        placed = xywh * scale + np.array([cell.x, cell.y, 0, 0])
        yield {
            "id": f"{TRACK}{number}{suffix}",
            "type": "videorectangle",
            "from_name": BOX,
            "to_name": VIDEO,
            "score": round(float(np.mean(own["score"].to_numpy())), _DECIMALS),
            "value": {
                "framesCount": len(proxy.t_ns),
                "duration": len(proxy.t_ns) / proxy.fps,
                "sequence": keyframes(grid, seen, placed, size, proxy.fps),
                "labels": [own["class"][0].as_py()],
            },
        }


def _series(signals: Mapping[str, AnyArray], proxy: Proxy) -> dict[str, list[float | None]]:
    """Returns the signals at the pace of the proxy; null where a value is not known.

    Label Studio takes the first time for the start of the video, refuses times that begin with two
    zeros, and shows nothing of a task with a channel without any value: such a channel has one
    zero, of which no line is drawn.
    """
    t_ns = np.asarray(signals.get("t_ns", ()), dtype=np.int64)
    inside = (t_ns >= proxy.t_ns[0]) & (t_ns <= proxy.t_ns[-1])
    shown_ns = np.union1d(t_ns[inside], proxy.t_ns[[0, -1]])
    known = np.isin(shown_ns, t_ns)
    time_s = playback_s(shown_ns, proxy.t_ns, proxy.fps).round(_DECIMALS)
    later = np.diff(time_s, prepend=-1.0) > 0
    series: dict[str, list[float | None]] = {TIME: time_s[later].tolist()}
    for name in CHANNELS:
        numbers = np.full(len(shown_ns), np.nan)
        values = signals.get(name)
        if values is not None:
            numbers[known] = values[inside]
            if values.dtype == np.int8:  # a state: -1 where it is not known
                numbers[numbers < 0] = np.nan
        told = numbers[later].round(_DECIMALS).tolist()
        series[name] = [None if np.isnan(v) else v for v in told]
        if all(np.isnan(told)):
            series[name][0] = 0.0
    return series
