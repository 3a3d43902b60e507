"""The vehicle signals: each row describes one column of the `signals` table.

A new signal is a new row here. Units are SI; the vehicle frame is x forward, y left, z up;
angles are positive counter-clockwise seen from above, so a left turn is positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from schemas.times import NS_PER_MS

Kind = Literal["continuous", "angle", "state"]


@dataclass(frozen=True, slots=True)
class Signal:
    """How native samples of one quantity are resampled to a column of the 50 Hz grid.

    `continuous` is interpolated linearly, `angle` linearly along the shorter arc, `state`
    holds the last sample. A grid instant is null if no native sample lies within
    `tolerance_ns`; for the interpolated kinds, if the gap between its neighbours is longer.
    """

    name: str
    type: pa.DataType
    kind: Kind
    tolerance_ns: int
    doc: str


def _signal(name: str, type_: pa.DataType, kind: Kind, tolerance_ms: int, doc: str) -> Signal:
    return Signal(name, type_, kind, tolerance_ms * NS_PER_MS, doc)


_F = pa.float64()
_B = pa.bool_()

SIGNALS: tuple[Signal, ...] = (
    _signal("speed_mps", _F, "continuous", 300, "speed over ground, never negative"),
    _signal("accel_x_mps2", _F, "continuous", 300, "acceleration forward"),
    _signal("accel_y_mps2", _F, "continuous", 300, "acceleration to the left"),
    _signal("accel_z_mps2", _F, "continuous", 300, "acceleration up, gravity removed"),
    _signal("yaw_rate_radps", _F, "continuous", 300, "turn rate, left positive"),
    _signal("steering_angle_rad", _F, "continuous", 300, "steering wheel, left positive"),
    _signal("accelerator_frac", _F, "continuous", 300, "accelerator pedal, 0 to 1"),
    _signal("brake_frac", _F, "continuous", 300, "brake pedal, 0 to 1"),
    _signal("brake_on", _B, "state", 1000, "brakes applied"),
    _signal("gear", pa.string(), "state", 1000, "park, drive, reverse or neutral"),
    _signal("blinker_left", _B, "state", 1000, "left indicator requested"),
    _signal("blinker_right", _B, "state", 1000, "right indicator requested"),
    _signal("engaged", _B, "state", 1000, "a driving assistant steers or drives"),
    _signal("lat_deg", _F, "continuous", 2500, "WGS 84 latitude"),
    _signal("lon_deg", _F, "continuous", 2500, "WGS 84 longitude"),
    _signal("alt_m", _F, "continuous", 2500, "height above the ellipsoid"),
    _signal("heading_rad", _F, "angle", 2500, "course, east 0, north pi/2, in (-pi, pi]"),
    _signal("lead_distance_m", _F, "continuous", 300, "distance to the vehicle ahead"),
    _signal("lead_speed_mps", _F, "continuous", 300, "speed of the vehicle ahead over ground"),
)

SIGNAL: dict[str, Signal] = {signal.name: signal for signal in SIGNALS}
