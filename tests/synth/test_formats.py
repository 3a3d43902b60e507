"""The same drive in every format: the signals are the truth's, within what the format keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.stages.recording_rows import log_rows
from schemas.signals import SIGNAL
from synth.fleet import FleetSpec, write_fleet
from transforms.readers import FORMATS, ReadOptions
from transforms.readers.discover import discover

SPEED = {"speed_mps": 0.02}
MOTION = {"accel_x_mps2": 0.15, "accel_y_mps2": 0.15, "heading_rad": 0.01}
PEDALS = {"steering_angle_rad": 0.03, "accelerator_frac": 0.03}
PLACE = {"lat_deg": 2e-7, "lon_deg": 2e-7}
STATES = ("gear", "brake_on", "blinker_left", "blinker_right", "engaged")
HELD = 10
"""Instants of a tenth of a second, in which the slowest channel has its last sample."""

KEPT = {
    "teslacam": SPEED | MOTION | PEDALS | PLACE,
    "mcap": SPEED | MOTION | PEDALS | PLACE | {"yaw_rate_radps": 0.01, "alt_m": 1e-9},
}
"""By format the signals that it keeps, and how far they may be from the truth between samples."""


@pytest.mark.parametrize("format_", KEPT)
def test_a_drive_gives_the_same_signals_in_every_format(tmp_path: Path, format_: str) -> None:
    spec = FleetSpec(1, 2.0, 3, format=format_, video=False, noise=0.0, gaps=0.0)
    write_fleet(spec, str(tmp_path), truth=True)
    (log,) = discover([str(tmp_path)]).logs
    found = log_rows(FORMATS.load(format_)().open(log, ReadOptions())).tables["signals"]
    truth = pq.read_table(tmp_path / "truth" / "signals.parquet")
    rows = min(found.num_rows, truth.num_rows)
    assert abs(found.num_rows - truth.num_rows) <= 2
    assert found["t_ns"][:rows].equals(truth["t_ns"][:rows])
    for name, tolerance in KEPT[format_].items():
        own = found[name][:rows].to_numpy()
        off = own - truth[name][:rows].to_numpy()
        if SIGNAL[name].kind == "angle":
            off = np.angle(np.exp(1j * off))
        assert np.isfinite(own).mean() > 0.98, name
        # Behind the last sample it is held.
        assert np.nanmax(np.abs(off[:-HELD])) < tolerance, name
    for name in STATES:
        own, true = found[name][:rows].to_pylist(), truth[name][:rows].to_pylist()
        same = np.mean([a == b for a, b in zip(own, true, strict=True)])
        assert same > 0.99, name
