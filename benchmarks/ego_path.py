"""ego_path: RMS position error within 100 m of the anchor, against a limit of 0.5 m.

The reference is the true motion of synthetic drives, of which the estimator sees telemetry.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from auto_label.ego import ego_path
from benchmarks import Measure
from pipeline.stages.recording_rows import log_rows
from schemas.arrays import FloatArray
from schemas.times import GRID_NS, NS_PER_S, Span
from synth.fleet import FleetSpec, write_fleet
from transforms.readers import FORMATS, ReadOptions
from transforms.readers.discover import discover

DRIVES, MINUTES, SEED = 6, 5.0, 77
WINDOW_S = 15
WANTED_M, WITHIN_M = 0.5, 100.0


def measure() -> Iterator[Measure]:
    """Estimates the path in every window of TeslaCam drives without pictures."""
    with tempfile.TemporaryDirectory() as folder:
        spec = FleetSpec(drives=DRIVES, minutes=MINUTES, seed=SEED, video=False)
        write_fleet(spec, folder, True)
        truth = pq.read_table(Path(folder, "truth", "ego.parquet"))
        errors: list[FloatArray] = []
        paths, taken = 0, 0.0
        for ref in discover([folder]).logs:
            signals = log_rows(FORMATS.load(ref.format)().open(ref, ReadOptions())).tables[
                "signals"
            ]
            pose = _poses(truth.filter(pc.equal(truth["log_name"], ref.name)))
            step = WINDOW_S * NS_PER_S
            for start in range(0, len(pose) * GRID_NS - step, step):
                anchor_ns = start + step // 2
                begun = perf_counter()
                path = ego_path(signals, Span(start, start + step), anchor_ns)
                taken += perf_counter() - begun
                paths += 1
                errors.append(_errors(path, pose, anchor_ns))
    every = np.concatenate(errors)
    rms = float(np.sqrt(np.mean(every**2)))
    yield Measure(
        "ego_path",
        rms,
        WANTED_M,
        "the limit",
        "m RMS",
        f"{paths} windows of {WINDOW_S} s, {DRIVES} drives of TeslaCam telemetry; 95 % of "
        f"positions within {np.quantile(every, 0.95):.2f} m; {1e3 * taken / paths:.0f} ms a window",
        lower_is_better=True,
    )


def _poses(truth: pa.Table) -> FloatArray:
    """Returns the true x m, y m, heading rad on the 50 Hz grid, float64[n, 3]."""
    ordered = truth.sort_by("t_ns")
    return np.stack([ordered[name].to_numpy() for name in ("x_m", "y_m", "heading_rad")], axis=1)


def _errors(path: pa.Table, pose: FloatArray, anchor_ns: int) -> FloatArray:
    """Returns the position errors in m at the rows within WITHIN_M of the anchor."""
    origin = pose[anchor_ns // GRID_NS]
    off = pose[path["t_ns"].to_numpy() // GRID_NS, :2] - origin[:2]
    cos, sin = np.cos(origin[2]), np.sin(origin[2])
    forward, left = off @ [cos, sin], off @ [-sin, cos]
    error = np.hypot(path["x_m"].to_numpy() - forward, path["y_m"].to_numpy() - left)
    return np.asarray(error[np.hypot(forward, left) <= WITHIN_M])
