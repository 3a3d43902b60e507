"""A small lake in which every table has rows: real drives through every job, and a robot's log.

The robot's log is committed by hand, because boxes need the weights of a detector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from auto_label.labels import Labels
from auto_label.policies import PolicyDetector, PolicySpec
from auto_label.render import clip_part, labels_part, signals_part
from auto_label.review.tasks import task_key
from auto_label.specs import SIGNALS_DIGEST, LabelSpec, PixelSpec
from pipeline.config import CorpusConfig, IngestConfig, LabelConfig, MineConfig, SweepConfig
from pipeline.graph.execute import execute
from pipeline.graph.stage import reject_rows
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.ledger import joined
from pipeline.lake.tables import Lake
from pipeline.stages.corpus import plan_corpus
from pipeline.stages.ingest import plan_ingest
from pipeline.stages.label import plan_label
from pipeline.stages.mine import plan_mine
from pipeline.stages.repack import plan_repack
from pipeline.stages.sweep import plan_sweep
from schemas.ids import canonical, digest
from schemas.records import Count, Event, Reject
from schemas.tables import TABLES
from synth.fleet import FleetSpec, write_fleet
from transforms.corpora import CORPORA, Sample
from transforms.corpora.pack import PackWriter
from transforms.storage import replacing

CORPUS = CorpusConfig(name="first", topology="dojo-tray", val_fraction=0.5)
SPEC = LabelSpec(label_fps=1.0, models=("m@1",))
_LOOKS = PolicyDetector(model="yolox_nano", score=0.5, needed=False)
PIXELS = PixelSpec(
    policy=PolicySpec(
        name="blur", description="-", hide=("face",), cover="blur", grow=0.1, detectors=(_LOOKS,)
    )
)
_STEPS = (
    (plan_sweep, SweepConfig(fps=1.0, models=())),
    (plan_mine, MineConfig()),
    (plan_label, LabelConfig(models=(), fps=1.0)),
    (plan_repack, CORPUS),
    (plan_corpus, CORPUS),
)


def make_whole(folder: Path) -> Lake:
    """Makes the lake, below a folder."""
    spec = FleetSpec(
        drives=2, minutes=0.1, seed=5, width=64, height=48, cameras=("front",), events_per_minute=6
    )
    write_fleet(spec, str(folder / "fleet"), False)
    url = Lake.create(str(folder / "lake")).url
    steps: list[tuple[Any, Any]] = [(plan_ingest, IngestConfig(input=(str(folder / "fleet"),)))]
    for plan, config in (*steps, *_STEPS):
        work = plan(Lake.open(url), config)
        execute(Lake.open(url), work.stage.name, config.model_dump(mode="json"), work)
    commit_robot(Lake.open(url))
    return Lake.open(url)


DIGESTS = (SPEC.look("m@1"), SPEC.link_digest, SPEC.digest, PIXELS.digest, SIGNALS_DIGEST)
"""What was done with the robot's event."""


def members(sample: Sample) -> dict[str, bytes]:
    """Returns the files of a sample or of a part."""
    files: dict[str, bytes] = CORPORA.load("webdataset")().members(sample)
    return files


def run(job: str, name: str, *counts: Count) -> RunRow:
    """Makes the row of a run, whose id and configuration are those of its name."""
    config = canonical({"name": name}).decode()
    return RunRow(digest("run", name), job, digest(config), config, 1, counts)


def commit_robot(lake: Lake, stem: str = "robot", job: str = "ingest") -> None:
    """Commits a robot's log with one event and its labels, as one run of one task.

    Args:
        lake: the lake.
        stem: the task; another one makes the same rows under another task and run.
        job: the job of the run.
    """
    tables = robot_tables(lake, stem)
    counts = [Count(stage, of, kept=1) for stage, of in
              (("ingest", "logs"), ("mine", "logs"), ("label", "events"))]  # fmt: skip
    adds = [add for table, rows in tables.items() for add in lake.write(table, rows, stem)]
    commit(lake, run(job, stem, *counts), adds)


def robot_tables(lake: Lake, stem: str, fingerprint: str = "robot") -> dict[str, pa.Table]:
    """Makes the rows of a robot's log, and its pack."""
    run_id = digest("run", stem)
    log_id = digest("log", "lerobot", fingerprint)
    log: dict[str, Any] = {
        "log_id": log_id,
        "drive_id": "robot/1",
        "vehicle_id": "robot",
        "platform": "robot",
        "format": "lerobot",
        "name": "robot",
        "uri": "/robot",
        "fingerprint": fingerprint,
        "duration_ns": 100,
        "clock": "none",
        "joint_names": ["arm", "hand"],
    }
    event = Event(
        event_id=digest("event", log_id, "honk", 1, "p", 10),
        log_id=log_id,
        drive_id="robot/1",
        trigger="honk",
        trigger_version=1,
        params_digest="p",
        start_ns=10,
        anchor_ns=20,
        end_ns=40,
        score=0.5,
        evidence=json.dumps({"end_ns": 30, "peak": 0.5, "start_ns": 10}),
    )
    model = {"source": "m", "source_version": "1"}
    source = {**model, "spec_digest": SPEC.link_digest}
    owner = {"event_id": event.event_id, **source}
    box = {"camera": "front", "track_id": 1, "class": "car", "score": 0.25, **owner}
    size = {"x_px": 1.0, "y_px": 2.0, "w_px": 3.0, "h_px": 4.0}
    view = {"event_id": event.event_id, "camera": "front", **model, "spec_digest": SPEC.look("m@1")}
    found = {**view, "number": 0, "class": "car", "score": 0.25, **size}
    video = {"log_id": log_id, "camera": "front", "uri": "/robot.mp4"}
    pose = {"x_m": 0.1, "y_m": 0.2, "heading_rad": 0.3, "speed_mps": 0.4, "sigma_m": 0.5}
    joint = {"position": [1.0, 2.0], "velocity": [0.0, 0.5], "action": None}
    rows: dict[str, list[Mapping[str, Any]]] = {
        "logs": [log],
        "joints": [{"log_id": log_id, "t_ns": t_ns, **joint} for t_ns in (0, 50)],
        "channels": [{"log_id": log_id, "channel": "c", "t_ns": 5, "value": 1.5}],
        "annotations": [
            {"log_id": log_id, "t_ns": 7, "reason": "honk", "camera": "front", "lat_deg": 1.0,
             "lon_deg": 2.0}
        ],
        "events": [{name: getattr(event, name) for name in Event.__dataclass_fields__}],
        "videos": [
            {**video, "codec": "h264", "width": 8, "height": 8, "frames": 1, "first_pts_ns": 0,
             "start_ns": 0, "duration_ns": 100, "time_base_num": 1, "time_base_den": 1000,
             "variable_rate": False}
        ],
        "frames": [
            {**video, "frame_index": 0, "t_ns": 0, "pts": 0, "is_keyframe": True,
             "byte_offset": 0, "byte_size": 9}
        ],
        "privacy": [
            {"event_id": event.event_id, "camera": "front", "spec_digest": PIXELS.digest,
             "policy": PIXELS.told["policy"], "models": [], "missing": ["yolox_nano"],
             "frames": 3, "looks": 2, "faces": 1, "heads": 1, "plates": 0, "held": 0,
             "area_mean_frac": 0.125, "area_max_frac": 0.25}
        ],
        "views": [{**view, "width_px": 8, "height_px": 8, "t_ns": [10, 20]}],
        "detections": [{"t_ns": t_ns, **found} for t_ns in (10, 20)],
        "boxes": [{"t_ns": t_ns, **box, **size} for t_ns in (10, 20)],
        "tracks": [{**box, "start_ns": 10, "end_ns": 20, "boxes": 2}],
        "ego_path": [{"t_ns": t_ns, **owner, **pose} for t_ns in (10, 20)],
        "verdicts": [
            {"event_id": event.event_id, "log_id": log_id, "drive_id": "robot/1",
             "camera": "front", "task": task_key(event.event_id, "front"),
             "annotation": fingerprint, "updated_unix_ns": 5,
             "reviewer": "ann", "verdict": "right", "scene": ["rain"],
             "comment": "-", "skipped": False, "control": False, "seconds": 1.5,
             "width_px": 8, "height_px": 8,
             "frames_ns": [10, 20], "labels_digest": SPEC.link_digest,
             "boxes": [{"track_id": 1, "class": "car", "t_ns": 10, **size}]}
        ],
        "ledger": [
            {"stage": stage, "subject": subject, "stage_digest": key, "outcome": "kept",
             "run_id": run_id, "task": stem}
            for stage, subject, key in (
                ("ingest", log_id, "i"), ("mine", log_id, "m"),
                ("label", event.event_id, joined(DIGESTS)),
                ("review_pull", f"{fingerprint}@5", "r"),
            )
        ],
    }  # fmt: skip
    tables = {
        table: TABLES[table].conform(pa.Table.from_pylist([*found], schema=TABLES[table].schema))
        for table, found in rows.items()
    }
    labels = Labels(*(tables[table] for table in ("boxes", "tracks", "ego_path")))
    (row,) = tables["logs"].to_pylist()
    signals = signals_part(event, TABLES["signals"].empty(), tables["joints"])
    text = labels_part(event, row, labels, SPEC)
    parts = {
        "clip": (clip_part(event, {"front": b"clip"}, {"front": (8, 8)}, PIXELS), PIXELS.digest),
        "signals": (signals, SIGNALS_DIGEST),
        "labels": (text, SPEC.digest),
    }
    said = dict(text.metadata or {}) | {"cameras": {"front": {}}}
    said["labelling"] = {"digest": SPEC.link_digest, "privacy": "blur"}
    whole = Sample(event.event_id, {"front": b"clip"}, metadata=said, signals=signals.signals)
    uri = f"packs/{stem}-{fingerprint}.tar"
    named = {"event_id": event.event_id, "log_id": log_id, "drive_id": "robot/1",
             "duration_ns": 30, "pack_uri": uri}  # fmt: skip
    made: list[dict[str, Any]] = []
    with replacing(f"{lake.url}/{uri}") as out:
        pack = PackWriter(out)
        for part, (sample, spec_digest) in parts.items():
            pictures = part == "clip"
            made.append(
                named | asdict(pack.add(event.event_id, members(sample)))
                | {"part": part, "spec_digest": spec_digest,
                   "source_digest": SPEC.link_digest if part == "labels" else None,
                   "cameras": ["front"] if pictures else [],
                   "privacy": PIXELS.privacy if pictures else None}
            )  # fmt: skip
        old = named | asdict(pack.add(event.event_id, members(whole)))
        pack.close()
    old |= {"payload": "clip", "spec_digest": SPEC.link_digest, "cameras": ["front"],
            "privacy": "blur"}  # fmt: skip
    tables["parts"] = pa.Table.from_pylist(made, schema=TABLES["parts"].schema)
    tables["samples"] = pa.Table.from_pylist([old], schema=TABLES["samples"].schema)
    reject = Reject("/robot/broken", "ingest", "corrupt", "/robot/broken: no log", "")
    tables["rejects"] = reject_rows([reject], run_id)
    return tables
