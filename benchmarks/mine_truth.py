"""mine_truth: mean F1 score of the triggers on synthetic drives with known events.

Triggers on signals are scored on TeslaCam folders without pictures, read back. vru_near is
scored on other drives, through the detector on one picture per second. Where its weights are
not available (see FLEETMILL_MODELS), vru_near is left out and the detail says so.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from auto_label.models import Detector, load_models, open_detector
from auto_label.scene import sweep_frames
from auto_label.weights import available_models, fetch
from benchmarks import Measure
from pipeline.stages.recording_rows import log_rows
from schemas.tables import TABLES
from schemas.times import GRID_NS, NS_PER_S
from synth.fleet import FleetSpec, write_fleet
from synth.pictures import Painter
from synth.recorded import simulate
from synth.truth import events as events_of
from transforms.readers import FORMATS, ReadOptions
from transforms.readers.discover import discover
from transforms.triggers import load_triggers
from transforms.triggers.engine import Miner
from transforms.triggers.score import Score, score_events
from transforms.video.decode import Frame

DRIVES = 30
MINUTES = 10.0
SEED = 2024
SEEN_DRIVES = 48
SEEN_MINUTES = 1.5
MODEL = "yolox_nano"


def measure() -> Iterator[Measure]:
    """Mines fleets with known events and scores what is found."""
    with tempfile.TemporaryDirectory() as folder:
        spec = FleetSpec(drives=DRIVES, minutes=MINUTES, seed=SEED, video=False)
        write_fleet(spec, folder, True)
        scores = [s for s in mined(folder) if s.trigger != "vru_near"]
    models, missing = available_models(load_models([MODEL]))
    if models:
        detector = open_detector(models[0], fetch(models[0]))
        scores.append(seen(detector, SEEN_DRIVES, SEED))
    for score in sorted(scores):
        sys.stderr.write(
            f"{score.trigger:20} truths {score.truth:4} events {score.found:4} "
            f"precision {score.precision:.3f} recall {score.recall:.3f} f1 {score.f1:.3f}\n"
        )
    yield Measure(
        "mine_truth",
        fmean(score.f1 for score in scores),
        1.0,
        "the truth",
        "mean F1",
        f"{DRIVES} drives of {MINUTES:g} min; worst: "
        + ", ".join(f"{s.trigger} {s.f1:.3f}" for s in sorted(scores, key=lambda s: s.f1)[:2])
        + "; cut_in with the true lead vehicle, which TeslaCam files do not carry"
        + "".join(f"; vru_near left out: {note}" for note in missing),
    )


def seen(detector: Detector, drives: int, seed: int) -> Score:
    """Scores vru_near: draws one picture per second of some drives, sweeps and mines them."""
    spec = FleetSpec(
        drives=drives,
        minutes=SEEN_MINUTES,
        seed=seed,
        width=640,
        height=480,
        cameras=("front",),
        events_per_minute=6.0,
    )
    scenes, truths, names = [], [], []
    for index in range(spec.drives):
        drive = simulate(spec, index)
        painter = Painter(spec, drive, "front")
        pictures = (
            Frame(second * NS_PER_S, painter.draw(float(second))[0])
            for second in range(int(spec.minutes * 60))
        )
        rows = sweep_frames(pictures, [detector])
        name = f"drive-{index}"
        names.append(name)
        for column, value in (("log_id", name), ("camera", "front")):
            rows = rows.append_column(column, pa.array([value] * rows.num_rows))
        scenes.append(TABLES["scene"].conform(rows))
        truths.append(events_of(drive, name))
    duration_ns = int(spec.minutes * 60) * NS_PER_S
    logs = pa.table({"log_id": names, "drive_id": names, "duration_ns": [duration_ns] * len(names)})
    events = Miner(load_triggers(only=["vru_near"]), "scene").mine(pa.concat_tables(scenes), logs)
    facts = {
        "trigger": [event.trigger for event in events],
        "log_name": [event.log_id for event in events],
        "evidence": [event.evidence for event in events],
    }
    scores = score_events(pa.table(facts), pa.concat_tables(truths))
    return next(score for score in scores if score.trigger == "vru_near")


def mined(folder: str) -> tuple[Score, ...]:
    """Scores the triggers on signals and annotations of the TeslaCam folders in `folder`."""
    truth_signals = pq.read_table(
        f"{folder}/truth/signals.parquet",
        columns=["log_name", "t_ns", "lead_distance_m", "lead_speed_mps"],
    )
    tables: dict[str, list[pa.Table]] = {
        "signals": [],
        "annotations": [TABLES["annotations"].empty()],
    }
    rows = []
    for ref in discover([folder]).logs:
        read = log_rows(FORMATS.load(ref.format)().open(ref, ReadOptions())).tables
        signals = read["signals"]
        lead = truth_signals.filter(pc.equal(truth_signals["log_name"], ref.name))
        at = pa.array(signals["t_ns"].to_numpy() // GRID_NS)
        place = pc.index_in(at, pc.divide(lead["t_ns"], GRID_NS))
        for name in ("lead_distance_m", "lead_speed_mps"):
            column = signals.column_names.index(name)
            signals = signals.set_column(column, name, lead[name].take(place))
        tables["signals"].append(TABLES["signals"].conform(signals))
        tables["annotations"].append(read.get("annotations", TABLES["annotations"].empty()))
        (log,) = read["logs"].to_pylist()
        rows.append((ref.log_id, ref.name, log["drive_id"], log["duration_ns"]))
    names = ("log_id", "name", "drive_id", "duration_ns")
    logs = pa.table([list(column) for column in zip(*rows, strict=True)], names=names)
    triggers = load_triggers()
    events = [
        event
        for name, parts in tables.items()
        for event in Miner(triggers, name).mine(pa.concat_tables(parts), logs)
    ]
    log_name = dict(zip(logs["log_id"].to_pylist(), logs["name"].to_pylist(), strict=True))
    facts = {
        "trigger": [event.trigger for event in events],
        "log_name": [log_name[event.log_id] for event in events],
        "evidence": [event.evidence for event in events],
    }
    return score_events(pa.table(facts), pq.read_table(f"{folder}/truth/events.parquet"))
