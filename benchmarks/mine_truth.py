"""Mining against the truth: F1 of every trigger on drives whose events are known."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import Measure
from schemas.tables import TABLES
from schemas.times import GRID_NS
from synth.fleet import FleetSpec, write_fleet
from transforms.align import align
from transforms.discover import discover
from transforms.readers import FORMATS, ReadOptions
from transforms.triggers import load_triggers
from transforms.triggers.engine import Miner
from transforms.triggers.score import Score, score_events

DRIVES = 30
MINUTES = 10.0
SEED = 2024
UNSEEN = ("vru_near",)
"""Triggers whose truth is only in pictures, which these drives do not have."""


def measure() -> Iterator[Measure]:
    """Writes TeslaCam folders without pictures, reads them back, mines and scores them."""
    with tempfile.TemporaryDirectory() as folder:
        spec = FleetSpec(drives=DRIVES, minutes=MINUTES, seed=SEED, video=False)
        write_fleet(spec, folder, True)
        scores = [s for s in mined(folder) if s.trigger not in UNSEEN]
    for score in scores:
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
        + "; cut_in with the lead of the truth, which no TeslaCam file carries",
    )


def mined(folder: str) -> tuple[Score, ...]:
    """Reads a fleet with its truth, mines its signals and scores the events."""
    truth_signals = pq.read_table(
        f"{folder}/truth/signals.parquet",
        columns=["log_name", "t_ns", "lead_distance_m", "lead_speed_mps"],
    )
    tables: dict[str, list[pa.Table]] = {"signals": [], "marks": [TABLES["marks"].empty()]}
    rows = []
    for ref in discover([folder]).logs:
        recording = FORMATS.load(ref.format)().read(ref, ReadOptions())
        signals = align(recording.signals, recording.duration_ns)
        lead = truth_signals.filter(pc.equal(truth_signals["log_name"], ref.name))
        at = pa.array(signals["t_ns"].to_numpy() // GRID_NS)
        place = pc.index_in(at, pc.divide(lead["t_ns"], GRID_NS))
        for name in ("lead_distance_m", "lead_speed_mps"):
            column = signals.column_names.index(name)
            signals = signals.set_column(column, name, lead[name].take(place))
        signals = signals.append_column("log_id", pa.array([ref.log_id] * signals.num_rows))
        tables["signals"].append(TABLES["signals"].conform(signals))
        marks = [
            {"log_id": ref.log_id, "t_ns": mark.t_ns, "reason": mark.reason}
            for mark in recording.marks
        ]
        tables["marks"].append(pa.Table.from_pylist(marks, schema=TABLES["marks"].schema))
        rows.append((ref.log_id, ref.name, recording.drive_id, recording.duration_ns))
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
