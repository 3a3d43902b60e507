"""Simulated drives: their names, clocks, light and reproducibility."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from datetime import timedelta

import numpy as np
import pytest

from synth.motion import Motion
from synth.profiles import SIM_HZ
from synth.recorded import Drive, simulate
from synth.spec import FleetSpec

SPEC = FleetSpec(drives=9, minutes=0.5, seed=12)


@pytest.fixture(scope="module")
def drives() -> list[Drive]:
    """Every drive of a small fleet."""
    return [simulate(SPEC, index) for index in range(SPEC.drives)]


def test_the_second_of_four_drives_is_at_night(drives: list[Drive]) -> None:
    assert [drive.dark for drive in drives] == [k % 4 == 1 for k in range(9)]
    for drive in drives:
        assert (drive.start.hour == 22) == drive.dark
        assert drive.start.microsecond == 0


def test_four_drives_are_one_vehicle_on_four_days(drives: list[Drive]) -> None:
    vehicles = [drive.vehicle for drive in drives]
    assert vehicles == ["vehicle-0000"] * 4 + ["vehicle-0001"] * 4 + ["vehicle-0002"]
    assert len({drive.name for drive in drives}) == 9
    assert len({drive.start.date() for drive in drives[:4]}) == 4


def test_every_part_has_the_length_of_the_drive(drives: list[Drive]) -> None:
    for drive in drives:
        steps = round(SPEC.minutes * 60 * SIM_HZ)
        assert len(drive.script.accel) == steps
        assert {len(getattr(drive.motion, field.name)) for field in fields(Motion)} == {steps}
        assert {len(column) for column in drive.sensed.values()} == {steps}
        assert len(drive.traffic.lead_distance_m) == steps


def test_a_drive_does_not_depend_on_the_size_of_its_fleet(drives: list[Drive]) -> None:
    again = simulate(replace(SPEC, drives=3), 2)
    np.testing.assert_array_equal(again.motion.x_m, drives[2].motion.x_m)
    np.testing.assert_array_equal(again.sensed["accel_x_mps2"], drives[2].sensed["accel_x_mps2"])
    assert again.start == drives[2].start
    assert [a.hue for a in again.traffic.actors] == [a.hue for a in drives[2].traffic.actors]


def test_drives_and_seeds_differ(drives: list[Drive]) -> None:
    others = [simulate(replace(SPEC, seed=13), 0), *drives[1:]]
    for other in others:
        assert not np.array_equal(other.motion.x_m, drives[0].motion.x_m)


@pytest.mark.parametrize("offset_s", [86_400.0, -3600.5])
def test_a_clock_offset_moves_the_start_and_nothing_else(
    drives: list[Drive], offset_s: float
) -> None:
    moved = simulate(replace(SPEC, clock_offset_s=offset_s), 0)
    assert moved.start - drives[0].start == timedelta(seconds=math.floor(offset_s))
    np.testing.assert_array_equal(moved.sensed["speed_mps"], drives[0].sensed["speed_mps"])


def test_noise_changes_what_is_sensed_and_not_what_happens(drives: list[Drive]) -> None:
    silent = simulate(replace(SPEC, noise=0.0), 0)
    np.testing.assert_array_equal(silent.motion.speed_mps, drives[0].motion.speed_mps)
    np.testing.assert_array_equal(silent.sensed["speed_mps"], silent.motion.speed_mps)
    assert not np.array_equal(drives[0].sensed["speed_mps"], silent.motion.speed_mps)
