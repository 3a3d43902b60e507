"""Review tasks: one camera of an event as Label Studio imports it, with our labels as a prediction.

A task's `data` is all that is needed to understand an answer to it, wherever the answer comes from:
`fleetmill` is its key, `frames_ns` the time of each frame of the proxy, `grid` the frames that
models looked at (counted from 1, as Label Studio does), and the size of the camera's pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label.review.config import BOX, CHANNELS, TIME, VIDEO
from auto_label.review.keyframes import keyframes
from auto_label.review.proxy import Proxy, playback_s
from schemas.arrays import AnyArray, IntArray
from schemas.ids import digest
from schemas.records import Event

KEY = "fleetmill"
"""The name of a task's key in its data."""

TRACK = "track-"
"""Before the number of a track in the id of its region."""

_DECIMALS = 4


def task_key(event_id: str, camera: str, *, control: bool = False) -> str:
    """Returns the key of a task, by which it is known wherever it is.

    Only the key says of a control task, whose answer is known, that it is one: reviewers see all
    else of a task, and must not tell them apart.
    """
    return digest("review", event_id, camera, *(["control"] if control else []))


def review_task(  # noqa: PLR0917 - all are inputs of equal rank
    event: Event,
    camera: str,
    proxy: Proxy,
    video: str,
    size: tuple[int, int],
    looked_ns: IntArray,
    boxes: pa.Table | None,
    labels_digest: str,
    signals: Mapping[str, AnyArray],
    *,
    control: bool = False,
) -> dict[str, Any]:
    """Makes the task of one camera of an event.

    Args:
        event: the event.
        camera: the camera.
        proxy: what is shown.
        video: the address under which Label Studio finds the proxy.
        size: width and height of the camera's pictures, px.
        looked_ns: int64[n], rising: the times of the frames that models looked at.
        boxes: rows of `boxes` of the event and camera; None if there are none.
        labels_digest: of the labels that the boxes are of.
        signals: the arrays of the event's sample: `t_ns` and signals by name.
        control: make the task that checks reviewers.
    """
    grid = 1 + np.flatnonzero(np.isin(proxy.t_ns, looked_ns))
    return {
        "data": {
            KEY: task_key(event.event_id, camera, control=control),
            "title": f"{event.trigger} · {camera} · score {event.score:.3g}",
            "event_id": event.event_id,
            "log_id": event.log_id,
            "drive_id": event.drive_id,
            "trigger": event.trigger,
            "camera": camera,
            "video": video,
            "fps": proxy.fps,
            "frames_ns": proxy.t_ns.tolist(),
            "grid": grid.tolist(),
            "width_px": size[0],
            "height_px": size[1],
            "labels_digest": labels_digest,
            "signals": _series(signals, proxy),
        },
        "predictions": _predictions(boxes, proxy, grid, size),
    }


def _predictions(
    boxes: pa.Table | None, proxy: Proxy, grid: IntArray, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Returns the prediction that is what all our models say, or none without a box."""
    regions = [] if boxes is None else list(_regions(boxes, proxy, grid, size))
    if boxes is None or not regions:
        return []
    names = zip(boxes["source"].to_pylist(), boxes["source_version"].to_pylist(), strict=True)
    models = " + ".join(sorted({f"{source} {version}" for source, version in names}))
    score = float(np.mean([region["score"] for region in regions]))
    return [{"model_version": models, "score": round(score, _DECIMALS), "result": regions}]


def _regions(
    boxes: pa.Table, proxy: Proxy, grid: IntArray, size: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    frame_of = {t_ns: frame for frame, t_ns in enumerate(proxy.t_ns.tolist(), start=1)}
    for number in sorted(set(boxes["track_id"].to_pylist())):
        own = boxes.filter(pc.equal(boxes["track_id"], number)).sort_by("t_ns")
        times = own["t_ns"].to_pylist()
        # A frame that models saw may be missing in the clip.
        kept = np.array([t_ns in frame_of for t_ns in times], dtype=np.bool_)
        seen = np.array([frame_of[t_ns] for t_ns in times if t_ns in frame_of], dtype=np.int64)
        if not len(seen):
            continue
        columns = ("x_px", "y_px", "w_px", "h_px")
        xywh = np.column_stack([own[name].to_numpy() for name in columns])[kept]
        yield {
            "id": f"{TRACK}{number}",
            "type": "videorectangle",
            "from_name": BOX,
            "to_name": VIDEO,
            "score": round(float(np.mean(own["score"].to_numpy())), _DECIMALS),
            "value": {
                "framesCount": len(proxy.t_ns),
                "duration": len(proxy.t_ns) / proxy.fps,
                "sequence": keyframes(grid, seen, xywh, size, proxy.fps),
                "labels": [own["class"][0].as_py()],
            },
        }


def _series(signals: Mapping[str, AnyArray], proxy: Proxy) -> dict[str, list[float | None]]:
    """Returns the signals at the pace of the proxy; null where a value is not known."""
    t_ns = np.asarray(signals.get("t_ns", proxy.t_ns), dtype=np.int64)
    inside = (t_ns >= proxy.t_ns[0]) & (t_ns <= proxy.t_ns[-1])
    series: dict[str, list[float | None]] = {
        TIME: playback_s(t_ns[inside], proxy.t_ns, proxy.fps).round(_DECIMALS).tolist()
    }
    for name in CHANNELS:
        values = signals.get(name)
        series[name] = [None] * int(inside.sum())
        if values is not None:
            numbers = values[inside].astype(np.float64)
            if values.dtype == np.int8:  # a state: -1 where it is not known
                numbers[numbers < 0] = np.nan
            series[name] = [None if np.isnan(v) else round(v, _DECIMALS) for v in numbers.tolist()]
    return series
