"""blur: frames of clips made per second under the default privacy policy, against none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from auto_label.event_rows import EventRows
from auto_label.label import label_event
from auto_label.models import open_detector
from auto_label.specs import Due, LabelSpec, PixelSpec
from auto_label.weights import fetch
from benchmarks import Measure, interleaved
from pipeline.config import LabelConfig
from pipeline.stages.label import video_files
from pipeline.stages.models import ready_pixels
from pipeline.stages.recording_rows import read_log
from schemas.records import Event
from schemas.tables import TABLES
from schemas.times import NS_PER_S
from synth.fleet import FleetSpec, write_fleet
from transforms.readers import ReadOptions
from transforms.readers.discover import discover

SIZE = (1280, 960)
SECONDS = 10


def measure() -> Iterator[Measure]:
    """Makes the clip of one camera of a synthetic drive: decoding, covering, encoding."""
    hidden, models, _ = ready_pixels(LabelConfig())
    detectors = {model.identity: open_detector(model, fetch(model)) for model in models}
    with tempfile.TemporaryDirectory() as folder:
        event, rows = _drive(Path(folder))

        def make(pixels: PixelSpec) -> int:
            due = Due(LabelSpec(), pixels=pixels)
            return label_event(event, rows, detectors, due).decoded

        frames = make(PixelSpec())
        ours_s, peer_s = interleaved([lambda: make(hidden), lambda: make(PixelSpec())])
    used = ", ".join(model.name for model in models)
    yield Measure(
        "blur",
        frames / ours_s,
        frames / peer_s,
        "--privacy none",
        "frames/s",
        f"{SIZE[0]}x{SIZE[1]}, {frames} frames, with {used}, 1 thread each",
    )


def _drive(folder: Path) -> tuple[Event, EventRows]:
    """Makes a drive; returns an event of some seconds, and the rows of its log."""
    spec = FleetSpec(
        drives=1, minutes=0.2, seed=3, width=SIZE[0], height=SIZE[1], cameras=("front",)
    )
    write_fleet(spec, str(folder), False)
    log = discover([str(folder)]).logs[0]
    tables = read_log(log, ReadOptions()).tables
    end_ns = NS_PER_S + SECONDS * NS_PER_S
    event = Event("0" * 20, log.log_id, "d", "t", 1, "p", NS_PER_S, NS_PER_S, end_ns, 1.0, "{}")
    rows = EventRows(
        tables["logs"].to_pylist()[0],
        video_files(tables["videos"]),
        tables["frames"],
        tables["signals"],
        tables.get("joints", TABLES["joints"].empty()),
    )
    return event, rows
