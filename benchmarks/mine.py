"""mine: driven seconds mined per core-second, from Parquet files to events."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import Measure
from schemas.tables import TABLES
from schemas.times import GRID_NS, NS_PER_S, Span, grid, ns
from transforms.triggers import load_triggers
from transforms.triggers.engine import Miner, ticks

LOGS = 24
LOG_S = 600.0
REPEATS = 5


def measure() -> Iterator[Measure]:
    """Mines four driven hours with every trigger on signals or ticks."""
    triggers = load_triggers()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "signals.parquet"
        rows, logs = _fleet()
        pq.write_table(rows, path, compression="zstd")
        signals, sampled = Miner(triggers, "signals"), Miner(triggers, "ticks")
        times, read, events = [], [], 0
        for _ in range(REPEATS + 1):
            start = process_time()
            table = pq.read_table(path, columns=list(signals.columns), use_threads=False)
            read.append(process_time() - start)
            events = len(signals.mine(table, logs)) + len(sampled.mine(ticks(logs), logs))
            times.append(process_time() - start)
    taken, reading = median(times[1:]), median(read[1:])
    sys.stderr.write(f"mine: {rows.num_rows / taken / 1e6:.2f} million rows/s\n")
    yield Measure(
        "mine",
        LOGS * LOG_S / taken,
        1.0,
        "real time",
        "driven s per core-second",
        f"{LOGS} logs of {LOG_S:g} s, {len(triggers)} triggers, {events} events; "
        f"{100 * reading / taken:.0f}% of the time reads Parquet",
    )


def _fleet() -> tuple[pa.Table, pa.Table]:
    """Generates noisy signals of cars that accelerate, brake and turn at random, and their logs."""
    tables, ids = [], [f"log-{k:04d}" for k in range(LOGS)]
    for k, log_id in enumerate(ids):
        rng = np.random.default_rng(k)
        t_ns = grid(Span(0, ns(LOG_S)))
        n = len(t_ns)

        def slow(
            scale: float, every_s: float, *, rng: np.random.Generator = rng, n: int = n
        ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            knots = int(LOG_S / every_s) + 2
            at = np.arange(n) * (GRID_NS / NS_PER_S / every_s)
            return np.asarray(np.interp(at, np.arange(knots), rng.normal(0.0, scale, knots)))

        speed = np.clip(14.0 + slow(8.0, 20.0), 0.0, None)
        yaw = slow(0.05, 6.0)
        heading = np.cumsum(yaw) * (GRID_NS / NS_PER_S)
        tables.append(
            TABLES["signals"].conform(
                pa.table(
                    {
                        "log_id": pa.array([log_id] * n),
                        "t_ns": t_ns,
                        "speed_mps": speed,
                        "accel_x_mps2": np.gradient(speed, 0.02) + rng.normal(0, 0.15, n),
                        "accel_y_mps2": speed * yaw + rng.normal(0, 0.15, n),
                        "accel_z_mps2": rng.normal(0, 0.2, n),
                        "yaw_rate_radps": yaw + rng.normal(0, 0.003, n),
                        "steering_angle_rad": 14 * yaw + rng.normal(0, 0.005, n),
                        "blinker_left": slow(1.0, 8.0) > 1.5,
                        "blinker_right": slow(1.0, 8.0) > 1.5,
                        "engaged": slow(1.0, 60.0) > 0,
                        "heading_rad": np.angle(np.exp(1j * heading)),
                        "lat_deg": 48.0 + np.cumsum(speed) * 1e-7,
                        "lon_deg": 11.0 + np.cumsum(speed) * 1e-7,
                    }
                )
            )
        )
    logs = pa.table({"log_id": ids, "drive_id": ids, "duration_ns": [ns(LOG_S)] * LOGS})
    return pa.concat_tables(tables), logs
