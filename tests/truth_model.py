"""A model that saw what synth drew, for lakes with boxes where no detector's weights are at hand.

What it saw is in the lake before `label` asks for it: `label` finds that the model has looked, and
links what it saw as it does with any model. No job only looks, so `verify` misses the parts that
were made then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from auto_label.specs import LabelSpec
from auto_label.steps import Steps
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from schemas.ids import canonical, digest
from schemas.records import Count
from schemas.tables import TABLES
from tests.onnx_file import good, specified, write_toml
from transforms.parquet import read

NAME, CAMERA = "truth", "front"

_LEAST_PX, _MOST_HIDDEN = 30.0, 0.4
"""The height of what it sees, and the part of it that may be behind nearer things."""


def look(lake: Lake, fleet: Path, size: tuple[int, int], fps: float, folder: Path) -> None:
    """Adds what the model saw of the events of a lake, before `label --label-fps FPS`.

    Args:
        lake: a lake of a synthetic fleet with one drive, whose truth was written.
        fleet: the fleet.
        size: width and height of its pictures.
        fps: frames a second at which the model looked.
        folder: where the model's definition goes, for `label --models-dir`.
    """
    spec = specified(folder / f"{NAME}.onnx", good())
    write_toml(folder, spec)
    looked = LabelSpec(fps, (spec.identity,)).look(spec.identity)
    source = {"source": NAME, "source_version": spec.version, "spec_digest": looked}
    frames = sorted(lake.read("frames").filter(pc.field("camera") == CAMERA)["t_ns"].to_pylist())
    run_id, drawn = digest("run", NAME), _drawn(fleet)
    rows: dict[str, list[dict[str, Any]]] = {"views": [], "detections": [], "ledger": []}
    for event in lake.read("events").to_pylist():
        steps = Steps(event["start_ns"], fps)
        inside = [t_ns for t_ns in frames if event["start_ns"] <= t_ns < event["end_ns"]]
        t_ns = [one for one in inside if steps.takes(one)]
        own = {"event_id": event["event_id"], "camera": CAMERA, **source}
        rows["views"].append({**own, "width_px": size[0], "height_px": size[1], "t_ns": t_ns})
        rows["detections"] += [{**own, **box} for one in t_ns for box in drawn.get(one, ())]
        done = {"stage": "label", "subject": event["event_id"], "stage_digest": looked}
        rows["ledger"].append({**done, "outcome": "kept", "run_id": run_id, "task": NAME})
    adds = [
        add for table, made in rows.items() for add in lake.write(table, _table(table, made), NAME)
    ]
    config = canonical({"model": NAME}).decode()
    count = Count("label", "events", kept=len(rows["views"]))
    commit(lake, RunRow(run_id, "label", digest(config), config, 1, (count,)), adds)


def _drawn(fleet: Path) -> dict[int, list[dict[str, Any]]]:
    """Returns what is seen of the fleet's truth, by time."""
    seen: dict[int, list[dict[str, Any]]] = {}
    for row in read(str(fleet / "truth" / "boxes.parquet")).to_pylist():
        if row["h_px"] >= _LEAST_PX and row["occluded_frac"] <= _MOST_HIDDEN:
            names = ("t_ns", "class", "x_px", "y_px", "w_px", "h_px")
            found = seen.setdefault(row["t_ns"], [])
            found.append({"number": len(found), "score": 0.9, **{n: row[n] for n in names}})
    return seen


def _table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    table = TABLES[name]
    return table.conform(pa.Table.from_pylist(rows, schema=table.schema))
