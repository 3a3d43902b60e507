"""Scripts of drives: benign driving with events injected at known times.

A script is a sequence of phases. A phase gives for every simulation step the acceleration of the
car, the curvature of the road, the lateral offset, and the state of blinkers, gear and driver
assistance. Benign driving stays within 2 m/s2 in both axes; only injected events exceed it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from synth.profiles import DT_S, SIM_HZ, hold, plateau, ramp, shift, steps, swerve

LANE_M = 3.5
CALM_S = 8.0
"""Least time between two events."""
_BENIGN = 1.9
"""Largest longitudinal acceleration of benign driving, m/s2 in either direction."""


@dataclass(frozen=True, slots=True)
class Injected:
    """One injected event, in simulation steps from the drive's start; `end` is exclusive."""

    type: str
    start: int
    anchor: int
    end: int
    params: dict[str, float]


@dataclass(frozen=True, slots=True)
class Script:
    """A planned drive, one entry per simulation step: float64[n] or bool[n].

    Args:
        accel: longitudinal acceleration, m/s2.
        curvature: of the road, 1/m.
        offset: to the left of the first lane's centre line, m.
        torque: of the driver's hands, as an additional steering wheel angle in rad.
        blinker_left: bool.
        blinker_right: bool.
        engaged: whether driver assistance steers.
        parked: whether the gear is park.
        events: the injected events, in order.
    """

    accel: FloatArray
    curvature: FloatArray
    offset: FloatArray
    torque: FloatArray
    blinker_left: BoolArray
    blinker_right: BoolArray
    engaged: BoolArray
    parked: BoolArray
    events: tuple[Injected, ...]


@dataclass(slots=True)
class _Phase:
    accel: FloatArray
    curvature: FloatArray | None = None
    offset: FloatArray | None = None
    torque: FloatArray | None = None
    blinker: int = 0
    disengage: int | None = None
    parked: bool = False


@dataclass(slots=True)
class _Car:
    """The state at the end of the phases so far: speed m/s, lane offset m, assistance."""

    speed: float = 0.0
    offset: float = 0.0
    engaged: bool = False
    phases: list[tuple[_Phase, float, bool]] = field(default_factory=list)
    steps: int = 0

    def add(self, phase: _Phase) -> int:
        """Appends a phase; returns its first step."""
        start = self.steps
        self.phases.append((phase, self.offset, self.engaged))
        self.steps += len(phase.accel)
        self.speed = max(0.0, self.speed + float(phase.accel.sum()) * DT_S)
        if self.speed < 1e-9:
            self.speed = 0.0
        if phase.offset is not None:
            self.offset += round(float(phase.offset[-1]) / LANE_M) * LANE_M
        if phase.disengage is not None:
            self.engaged = False
        return start

    def go(self, speed: float, peak: float, jerk: float = 1.8) -> None:
        """Changes the speed, m/s, with limits on acceleration and jerk."""
        if abs(speed - self.speed) > 1e-6:
            self.add(_Phase(ramp(speed - self.speed, peak, jerk)))
            self.speed = speed


def write_script(rng: np.random.Generator, duration_s: float, events_per_minute: float) -> Script:
    """Generates the script of one drive.

    Event types take turns in a shuffled order, so that all are equally frequent.
    """
    car = _Car()
    events: list[Injected] = []
    car.add(_Phase(hold(rng.uniform(1, 3)), parked=True))
    car.go(rng.uniform(9, 15), rng.uniform(1.0, _BENIGN))
    order: list[str] = []
    total = steps(duration_s)
    spacing_s = 60 / events_per_minute if events_per_minute else 0.0
    debt_s = 0.0
    while car.steps < total:
        begun = car.steps
        order = order or [str(name) for name in rng.permutation(sorted(_EVENTS))]
        left_s = (total - begun) * DT_S
        name = next((n for n in order if _EVENTS[n].longest_s + CALM_S < left_s), None)
        if name is None or not spacing_s:
            _benign(car, rng, left_s)
            break
        kind = _EVENTS[name]
        wait_s = max(CALM_S, rng.uniform(0.5, 1.5) * (spacing_s - kind.usual_s) - debt_s)
        _benign(car, rng, min(wait_s, left_s - kind.longest_s) - CALM_S, wait_s < 3 * CALM_S)
        kind.approach(car, rng)
        calm = car.steps - (events[-1].end if events else 0)
        if calm < CALM_S * SIM_HZ:
            car.add(_Phase(hold(CALM_S - calm * DT_S)))
        left_s = (total - car.steps) * DT_S
        if left_s <= kind.longest_s:  # the approach took long; a truncated event would be no truth
            _benign(car, rng, left_s)
            break
        events.append(replace(kind.inject(car, rng), type=name))
        order.remove(name)
        debt_s = max(-spacing_s, debt_s + (car.steps - begun) * DT_S - spacing_s)
    return _join(car, total, tuple(events))


def _join(car: _Car, total: int, events: tuple[Injected, ...]) -> Script:
    def column(pick: Callable[[_Phase, float, bool], FloatArray | float]) -> FloatArray:
        parts = [
            np.broadcast_to(pick(phase, offset, engaged), len(phase.accel))
            for phase, offset, engaged in car.phases
        ]
        return np.asarray(np.concatenate([*parts, np.zeros(max(0, total - car.steps))])[:total])

    def present(array: FloatArray | None) -> FloatArray | float:
        return 0.0 if array is None else array

    def assistant(phase: _Phase, _: float, engaged: bool) -> FloatArray | float:
        if phase.disengage is None:
            return float(engaged)
        return np.asarray(np.arange(len(phase.accel)) < phase.disengage, dtype=np.float64)

    return Script(
        accel=column(lambda phase, _o, _e: phase.accel),
        curvature=column(lambda phase, _o, _e: present(phase.curvature)),
        offset=column(lambda phase, offset, _e: offset + present(phase.offset)),
        torque=column(lambda phase, _o, _e: present(phase.torque)),
        blinker_left=column(lambda phase, _o, _e: float(phase.blinker > 0)) > 0,
        blinker_right=column(lambda phase, _o, _e: float(phase.blinker < 0)) > 0,
        engaged=column(assistant) > 0,
        parked=column(lambda phase, _o, _e: float(phase.parked)) > 0,
        events=events,
    )


# --- benign driving


def _benign(car: _Car, rng: np.random.Generator, duration_s: float, brief: bool = False) -> None:
    end = car.steps + duration_s * SIM_HZ
    while car.steps < end:
        if car.speed > 8 and not car.engaged and rng.random() < 0.5:
            car.engaged = True
        if car.speed < 5:
            car.go(rng.uniform(9, 18), rng.uniform(1.0, _BENIGN))
        choice = rng.random()
        if brief or choice < 0.45:
            _cruise(car, rng, min(rng.uniform(4, 12), max(1.0, (end - car.steps) * DT_S)))
        elif choice < 0.65:
            _curve(car, rng)
        elif choice < 0.80:
            car.go(rng.uniform(8, 30), rng.uniform(0.6, _BENIGN), rng.uniform(0.8, 1.6))
        elif choice < 0.92:
            _light(car, rng)
        else:
            _gentle_turn(car, rng)


def _cruise(car: _Car, rng: np.random.Generator, duration_s: float) -> None:
    n = steps(duration_s)
    u, waves = np.arange(n + 1) / n, rng.uniform(0.5, 2)
    height = 0.2 * duration_s / (2 * np.pi * (waves + 1))
    wiggle = height * np.sin(np.pi * u) ** 2 * np.sin(2 * np.pi * waves * u)
    car.add(_Phase(np.diff(wiggle) * SIM_HZ))


def _curve(car: _Car, rng: np.random.Generator) -> None:
    peak = rng.choice([-1, 1]) * min(rng.uniform(0.5, 1.8), car.speed**2 / 25)
    turn_rad = np.radians(rng.uniform(8, 60))
    n = steps(float(np.clip(turn_rad / (0.7 * abs(peak) / car.speed), 3.0, 14.0)))
    car.add(_Phase(np.zeros(n), plateau(n, 0.3) * (peak / car.speed**2)))


def _light(car: _Car, rng: np.random.Generator) -> None:
    car.go(0.0, rng.uniform(1.2, _BENIGN), 1.2)
    car.add(_Phase(hold(rng.uniform(4, 12))))
    if rng.random() < 0.15:
        car.engaged = False
    car.go(rng.uniform(9, 18), rng.uniform(1.0, _BENIGN))


def _gentle_turn(car: _Car, rng: np.random.Generator) -> None:
    side = int(rng.choice([-1, 1]))
    car.go(rng.uniform(3.5, 4.5), 1.6)
    _turn(car, side * np.radians(rng.uniform(60, 95)), rng.uniform(1.3, 1.8))
    car.go(rng.uniform(9, 16), rng.uniform(1.0, _BENIGN))


def _turn(car: _Car, turn_rad: float, accel_mps2: float) -> int:
    """Turns at constant speed with a peak lateral acceleration; returns the first step."""
    rise = 0.3
    rate = accel_mps2 / car.speed
    n = steps(abs(turn_rad) / rate / (1 - rise))
    shape = plateau(n, rise)
    curvature = shape * (turn_rad / (shape.sum() * DT_S * car.speed))
    side = 1 if turn_rad > 0 else -1
    car.add(_Phase(hold(1.5), blinker=side))
    return car.add(_Phase(np.zeros(n), curvature, blinker=side))


# --- injected events: each returns its span of steps and its parameters


def _hard_brake(car: _Car, rng: np.random.Generator) -> Injected:
    peak, jerk = rng.uniform(5.0, 8.0), rng.uniform(14, 24)
    drop = peak * (rng.uniform(1.4, 3.0) - peak / jerk)
    after = car.speed - drop if car.speed - drop > 3 else 0.0
    accel = ramp(after - car.speed, peak, jerk)
    start = car.add(_Phase(accel))
    event = Injected(
        "",
        start,
        start + int(np.argmin(accel)),
        car.steps,
        {"peak_mps2": float(accel.min()), "speed_drop_mps": float(-accel.sum() * DT_S)},
    )
    car.speed = after
    if not after:
        car.add(_Phase(hold(rng.uniform(1.5, 4))))
    return event


def _hard_acceleration(car: _Car, rng: np.random.Generator) -> Injected:
    peak, jerk = rng.uniform(3.8, 5.2), rng.uniform(6, 10)
    accel = ramp(peak * rng.uniform(1.6, 2.6), peak, jerk)
    start = car.add(_Phase(accel))
    return Injected(
        "", start, start + int(np.argmax(accel)), car.steps, {"peak_mps2": float(accel.max())}
    )


def _sharp_turn(car: _Car, rng: np.random.Generator) -> Injected:
    side = int(rng.choice([-1, 1]))
    turn_rad = side * np.radians(rng.uniform(65, 98))
    duration_s = rng.uniform(3.0, 3.8)
    rate = abs(turn_rad) / (0.7 * duration_s)
    car.go(float(np.clip(rng.uniform(3.6, 4.8) / rate, 5.0, 9.0)), 1.2)
    start = _turn(car, turn_rad, rate * car.speed)
    return Injected(
        "",
        start,
        (start + car.steps) // 2,
        car.steps,
        {"turn_deg": float(np.degrees(turn_rad)), "peak_mps2": side * rate * car.speed},
    )


def _swerve(car: _Car, rng: np.random.Generator) -> Injected:
    peak = float(rng.choice([-1, 1]) * rng.uniform(4.2, 6.0))
    offset = swerve(peak, rng.uniform(1.6, 2.5))
    start = car.add(_Phase(np.zeros(len(offset)), offset=offset))
    return Injected(
        "",
        start,
        (start + car.steps) // 2,
        car.steps,
        {"peak_mps2": peak, "offset_m": float(offset[np.abs(offset).argmax()])},
    )


def _lane_change(car: _Car, rng: np.random.Generator) -> Injected:
    side = -1 if car.offset > LANE_M / 2 else 1
    offset = shift(side * LANE_M, rng.uniform(4.0, 6.0))
    car.add(_Phase(hold(rng.uniform(1.0, 2.5)), blinker=side))
    start = car.add(_Phase(np.zeros(len(offset)), offset=offset, blinker=side))
    return Injected("", start, (start + car.steps) // 2, car.steps, {"offset_m": side * LANE_M})


def _cut_in(car: _Car, rng: np.random.Generator) -> Injected:
    gap = rng.uniform(9, 14)
    start = car.add(_Phase(hold(1.5)))
    car.go(car.speed - rng.uniform(1.5, 3.0), rng.uniform(1.0, 1.6), 1.5)
    car.add(_Phase(hold(1.5)))
    return Injected("", start, start + steps(2.0), car.steps, {"gap_m": float(gap)})


def _pedestrian_crossing(car: _Car, rng: np.random.Generator) -> Injected:
    start = car.steps
    car.go(rng.uniform(1.5, 2.5), rng.uniform(1.4, _BENIGN), 1.5)
    end = car.add(_Phase(hold(2.5))) + steps(2.5)
    return Injected("", start, (start + end) // 2, end, {"walk_mps": float(rng.uniform(1.1, 1.6))})


def _stop_and_go(car: _Car, rng: np.random.Generator) -> Injected:
    start = car.steps
    cycles = int(rng.integers(3, 5))
    for _ in range(cycles):
        car.go(rng.uniform(3, 6), rng.uniform(1.0, 1.8))
        car.add(_Phase(hold(rng.uniform(0.5, 1.5))))
        car.go(0.0, rng.uniform(1.2, 1.8))
        end = car.add(_Phase(hold(rng.uniform(1.5, 2.5))))
    return Injected("", start, (start + end) // 2, end, {"cycles": float(cycles)})


def _disengagement(car: _Car, rng: np.random.Generator) -> Injected:
    n = steps(3.0)
    hands = plateau(n, 0.3) * np.radians(rng.choice([-1, 1]) * rng.uniform(4, 9))
    start = car.add(_Phase(np.zeros(n), torque=hands, disengage=steps(0.6)))
    drop = start + steps(0.6)
    return Injected(
        "", start, drop, car.steps, {"torque_deg": float(np.degrees(hands[np.abs(hands).argmax()]))}
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """How to inject one type of event: range of initial speeds in m/s, and durations."""

    inject: Callable[[_Car, np.random.Generator], Injected]
    speeds: tuple[float, float]
    event_s: float
    usual_s: float
    assisted: bool = False

    @property
    def longest_s(self) -> float:
        """Longest time that approach and event usually take; truncated events are dropped."""
        return self.event_s + 24.0

    def approach(self, car: _Car, rng: np.random.Generator) -> None:
        """Brings the car to an initial speed of the event, and holds it for a while."""
        low, high = self.speeds
        if not low <= car.speed <= high:
            car.go(rng.uniform(low, high), rng.uniform(1.2, _BENIGN))
        if self.assisted:
            car.engaged = True
        car.add(_Phase(hold(rng.uniform(5.0, 6.0) if self.assisted else rng.uniform(2.0, 3.0))))


_EVENTS = {
    "cut_in": _Kind(_cut_in, (13, 25), 9.0, 7.0),
    "disengagement": _Kind(_disengagement, (10, 28), 3.0, 3.0, assisted=True),
    "hard_acceleration": _Kind(_hard_acceleration, (0, 9), 4.0, 3.0),
    "hard_brake": _Kind(_hard_brake, (14, 28), 7.0, 4.0),
    "lane_change": _Kind(_lane_change, (12, 28), 9.0, 7.0),
    "pedestrian_crossing": _Kind(_pedestrian_crossing, (8, 12), 14.0, 9.0),
    "sharp_turn": _Kind(_sharp_turn, (5, 12), 16.0, 8.0),
    "stop_and_go": _Kind(_stop_and_go, (0, 0), 60.0, 36.0),
    "swerve": _Kind(_swerve, (12, 25), 3.0, 2.5),
}

EVENT_TYPES = tuple(sorted(_EVENTS))
"""The types of injected events."""
