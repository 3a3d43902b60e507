"""Simulates one drive: everything that a writer needs for the files of a recording."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from synth.motion import Motion, drive
from synth.script import Script, write_script
from synth.sensors import Columns, sense
from synth.spec import FleetSpec, rng
from synth.traffic import Traffic, populate

_HOURS = (8, 22, 12, 16)
_FIRST_DAY = datetime.fromisoformat("2026-01-05")
"""Local time without time zone, as in the file names of recorders."""


@dataclass(frozen=True, slots=True)
class Drive:
    """One drive of a fleet.

    `start` is the time of the recorder's clock, local without time zone; `sensed` are the noisy
    signals, one entry per simulation step.
    """

    index: int
    name: str
    vehicle: str
    start: datetime
    dark: bool
    script: Script
    motion: Motion
    traffic: Traffic
    sensed: Columns


def simulate(spec: FleetSpec, index: int) -> Drive:
    """Simulates drive `index`; the second of every four is at night."""

    def fresh(purpose: str) -> np.random.Generator:
        return rng(spec.seed, index, purpose)

    script = write_script(fresh("script"), spec.minutes * 60, spec.events_per_minute)
    motion = drive(script, fresh("road"))
    hour = _HOURS[index % len(_HOURS)]
    start = _FIRST_DAY + timedelta(
        days=spec.seed % 300 + index % len(_HOURS),
        hours=hour,
        seconds=int(fresh("start").integers(3600)) + math.floor(spec.clock_offset_s),
    )
    return Drive(
        index=index,
        name=f"drive-{index:05d}",
        vehicle=f"vehicle-{index // len(_HOURS):04d}",
        start=start,
        dark=hour == 22,
        script=script,
        motion=motion,
        traffic=populate(script, motion, fresh("traffic")),
        sensed=sense(motion, fresh("noise"), spec.noise),
    )
