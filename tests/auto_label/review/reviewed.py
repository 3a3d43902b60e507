"""Random tracks, their review tasks, and annotations as Label Studio sends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from auto_label.review.grid import lay_out, tile
from auto_label.review.proxy import Proxy
from auto_label.review.tasks import View, review_task
from schemas.arrays import AnyArray, IntArray
from schemas.records import Event
from schemas.tables import TABLES
from transforms.video.decode import Frame

NS = 1_000_000_000


def event(number: int = 0) -> Event:
    return Event(f"{number:020d}", "log", "drive", "hard_brake", 1, "p", 0, NS, 9 * NS, 0.5, "{}")


def random_task(dice: np.random.Generator, number: int = 0) -> tuple[dict[str, Any], pa.Table]:
    """Makes a task of a clip of random rate, size and length, and the boxes that it shows."""
    frames = int(dice.integers(1, 400))
    steps = dice.choice([16_700_000, 27_000_000, 100_000_000, 900_000_000], frames)
    t_ns = np.cumsum(steps).astype(np.int64)
    size = (int(dice.integers(64, 4000)), int(dice.integers(48, 3000)))
    looked = t_ns[:: int(dice.integers(1, 12))]
    if dice.random() < 0.5:  # the last frame is looked at too
        looked = np.unique([*looked, t_ns[-1]])
    boxes = random_boxes(dice, looked, size)
    proxy = Proxy(b"", int(dice.integers(1, 61)), t_ns)
    return task_of(proxy, size, looked, boxes, number=number), boxes


def task_of(
    proxy: Proxy,
    size: tuple[int, int],
    looked: IntArray,
    boxes: pa.Table | None = None,
    *,
    number: int = 0,
    signals: Mapping[str, AnyArray] = MappingProxyType({}),
) -> dict[str, Any]:
    """Makes the task of one camera."""
    view = View("front", size, proxy.t_ns.tolist(), looked, boxes)
    task = review_task(event(number), [view], None, proxy, "d", signals)
    task["data"]["video"] = "a.mp4"
    return task


def random_grid(dice: np.random.Generator) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """Makes a task of cameras of random rates and sizes, and the boxes of each by camera."""
    times, views, boxes, shown = [], [], {}, []
    for _ in range(int(dice.integers(2, 7))):
        steps = dice.normal(1, 0.05, int(dice.integers(1, 80))) * dice.choice([33e6, 36e6, 1e8])
        times.append(np.int64(dice.integers(0, 10**9)) + np.cumsum(steps).astype(np.int64))
    sizes = [(int(dice.integers(64, 4000)), int(dice.integers(48, 3000))) for _ in times]
    layout = lay_out(sizes, 960)
    dot = np.zeros((1, 1, 3), np.uint8)
    clips = [[Frame(t_ns, dot) for t_ns in own.tolist()] for own in times]
    t_ns = []
    for frame, seen in tile(clips, times, sizes, layout):
        t_ns.append(frame.t_ns)
        shown.append(seen)
    for number, (own, size) in enumerate(zip(times, sizes, strict=True)):
        looked = own[:: int(dice.integers(1, 12))]
        boxes[f"camera {number}"] = found = random_boxes(dice, looked, size)
        seen_ns = [seen[number] for seen in shown]
        views.append(View(f"camera {number}", size, seen_ns, looked, found))
    proxy = Proxy(b"", 30, np.array(t_ns))
    return review_task(event(), views, layout, proxy, "d", {}), boxes


def random_boxes(dice: np.random.Generator, looked: IntArray, size: tuple[int, int]) -> pa.Table:
    """Makes tracks that pause and return, that last one frame, that end on the last one."""
    rows = []
    for track in range(1, int(dice.integers(1, 8))):
        first, last = sorted(dice.integers(0, len(looked), 2))
        if dice.random() < 0.3:
            last = len(looked) - 1
        if dice.random() < 0.2:
            first = last
        there = dice.random(last - first + 1) < dice.choice([0.5, 0.9, 1.0])
        there[[0, -1]] = True
        start = dice.uniform(0, 0.5, 4) * np.tile(size, 2)
        move = dice.normal(0, 3, 4)
        for k in np.flatnonzero(there).tolist():
            wander = dice.normal(0, 2, 4) if track % 2 else 0.0
            x, y, w, h = start + k * move + wander
            x, y = float(np.clip(x, 0, size[0] - 1)), float(np.clip(y, 0, size[1] - 1))
            w, h = float(np.clip(w, 1, size[0] - x)), float(np.clip(h, 1, size[1] - y))
            rows.append(
                {"event_id": "e", "camera": "front", "track_id": track, "class": f"c{track}",
                 "t_ns": int(looked[first + k]), "x_px": x, "y_px": y, "w_px": w, "h_px": h,
                 "score": 0.5, "source": "m", "source_version": "1", "spec_digest": "d"}
            )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=TABLES["boxes"].schema)


def annotated(task: Mapping[str, Any], *more: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """Returns an exported task, whose one annotation leaves the prediction as it is."""
    regions = [region for one in task["predictions"] for region in one["result"]]
    annotation = {
        "id": 7,
        "completed_by": {"id": 3, "email": "ann@example.org"},
        "result": [*regions, *more],
        "was_cancelled": False,
        "created_at": "2026-11-01T10:00:00.000001Z",
        "updated_at": "2026-11-01T10:00:05.250000Z",
        "lead_time": 12.5,
    }
    return {"id": 5, "data": task["data"], "annotations": [annotation | changed]}


def choice(name: str, *values: str) -> dict[str, Any]:
    return {
        "id": name,
        "type": "choices",
        "from_name": name,
        "to_name": "video",
        "value": {"choices": [*values]},
    }


def drawn(name: str, sequence: Sequence[Mapping[str, Any]], *labels: str) -> dict[str, Any]:
    """Returns a region that a reviewer drew."""
    value = {"sequence": [*sequence], "framesCount": 9, "duration": 1.0, "labels": [*labels]}
    return {"id": name, "type": "videorectangle", "from_name": "box", "to_name": "video",
            "value": value}  # fmt: skip
