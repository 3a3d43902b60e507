"""link: frames of 20 objects linked and smoothed per second, against a target rate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auto_label.link import link
from auto_label.models import Detections
from benchmarks import Measure, interleaved
from schemas.times import NS_PER_S

OBJECTS, FRAMES, FPS = 20, 1500, 10
WANTED_FPS = 2000.0


def measure() -> Iterator[Measure]:
    """Links moving objects of which a tenth of the boxes is missing."""
    rng = np.random.default_rng(11)
    t_ns = np.arange(FRAMES) * (NS_PER_S // FPS)
    across, down = np.meshgrid(np.linspace(100, 1700, 5), np.linspace(100, 900, 4))
    home = np.stack([across.ravel(), down.ravel()], axis=1)
    phase = rng.uniform(0, 2 * np.pi, (OBJECTS, 2))
    frames = []
    for second in (t_ns / NS_PER_S).tolist():
        corner = home + 80 * np.sin(0.5 * second + phase) + rng.normal(0, 2, (OBJECTS, 2))
        xywh = np.concatenate([corner, np.full((OBJECTS, 2), [90.0, 70.0])], axis=1)
        kept = rng.random(OBJECTS) > 0.1
        score = rng.uniform(0.2, 0.95, OBJECTS)
        frames.append(Detections(xywh[kept], score[kept], np.zeros(kept.sum(), np.int64), ("car",)))
    tracks = int(link(t_ns, frames).track_id.max())
    (taken,) = interleaved([lambda: link(t_ns, frames)])
    yield Measure(
        "link",
        FRAMES / taken,
        WANTED_FPS,
        "the target",
        "frames/s",
        f"{OBJECTS} objects, {FRAMES} frames, {tracks} tracks; filter, assignment and smoother",
    )
