"""The shipped triggers on analytic manoeuvres: each finds its own kind, once, and no other.

The profiles here are sines and raised cosines with sensor noise, from the numbers that the
trigger files cite; 20 s of calm driving lie on either side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.arrays import FloatArray
from schemas.records import Event
from schemas.times import ns
from transforms.triggers import load_triggers
from transforms.triggers.engine import Miner

DT = 0.02
CALM_S = 20.0
Columns = dict[str, Any]


def _bump(n: int) -> FloatArray:
    """One raised cosine, 0 to 1 to 0, of mean 0.5."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n))


def _n(seconds: float) -> int:
    return round(seconds / DT)


def _car(accel: FloatArray, lateral: FloatArray, speed_mps: float, **columns: Any) -> Columns:
    """Integrates accelerations (m/s2), with calm before and after; adds noise."""
    pad = np.zeros(_n(CALM_S))
    accel, lateral = (np.concatenate([pad, part, pad]) for part in (accel, lateral))
    rng = np.random.default_rng(len(accel))
    n = len(accel)
    speed = np.maximum(speed_mps + np.cumsum(accel) * DT, 0.0)
    yaw = np.where(speed > 0.5, lateral / np.maximum(speed, 0.5), 0.0)
    heading = 3.0 + np.cumsum(yaw) * DT  # near pi, so that turns to the left wrap
    return {
        "speed_mps": np.where(speed > 0.05, np.abs(speed + rng.normal(0, 0.05, n)), 0.0),
        "accel_x_mps2": accel + rng.normal(0.03, 0.15, n),
        "accel_y_mps2": lateral + rng.normal(-0.03, 0.15, n),
        "yaw_rate_radps": yaw + rng.normal(0, 0.004, n),
        "heading_rad": np.angle(np.exp(1j * (heading + rng.normal(0, 0.001, n)))),
        "blinker_left": np.zeros(n, np.bool_),
        "blinker_right": np.zeros(n, np.bool_),
        "engaged": np.zeros(n, np.bool_),
        **columns,
    }


def _brake(peak: float, seconds: float, speed: float) -> Columns:
    n = _n(seconds)
    return _car(-peak * _bump(n), np.zeros(n), speed)


def _turn(degrees: float, lateral: float, speed: float) -> Columns:
    """Turns to the left with a raised cosine of lateral acceleration."""
    n = _n(np.radians(degrees) * speed / (lateral / 2))
    return _car(np.zeros(n), lateral * _bump(n), speed)


def _sway(lobes: tuple[float, ...], peak: float, seconds: float, speed: float) -> Columns:
    """Steers to one side and the other in half sines."""
    each = _n(seconds / len(lobes))
    wave = np.sin(np.pi * (np.arange(each) + 0.5) / each)
    lateral = np.concatenate([lobe * peak * wave for lobe in lobes])
    return _car(np.zeros(len(lateral)), lateral, speed)


def _lane_change(metres: float, seconds: float, speed: float, signal: bool = True) -> Columns:
    """Moves over by a sine of lateral acceleration: offset = peak * T^2 / (2 pi)."""
    columns = _sway((1, -1), 2 * np.pi * metres / seconds**2, seconds, speed)
    if signal:
        start = _n(CALM_S - 1.5)
        columns["blinker_left"][start : start + _n(seconds)] = True
    return columns


def _crawl(cycles: int, top: float, seconds: float = 5.0) -> Columns:
    """Moves off to `top` within some seconds, stops within as many, waits 2 s."""
    n = _n(seconds)
    rise = 2 * top / seconds * _bump(n)
    one = np.concatenate([rise, -rise, np.zeros(_n(2))])
    accel = np.tile(one, cycles)
    return _car(accel, np.zeros(len(accel)), 0.0)


def _assisted(off_at_s: float | None, speed: float) -> Columns:
    columns = _brake(0.0, 1.0, speed)
    columns["engaged"][: None if off_at_s is None else _n(off_at_s)] = True
    return columns


def _follow(before_m: float, after_m: float, lead_mps: float, over_s: float = 0.1) -> Columns:
    """Follows at one distance, then at another."""
    columns = _brake(0.0, 1.0, 20.0)
    n = len(columns["speed_mps"])
    t = np.arange(n) * DT
    columns["lead_distance_m"] = np.interp(t, [20.0, 20.0 + over_s], [before_m, after_m])
    columns["lead_speed_mps"] = np.full(n, lead_mps)
    return columns


def _appears() -> Columns:
    columns = _follow(15.0, 15.0, 19.0)
    hidden = np.arange(len(columns["speed_mps"])) < _n(20)
    columns["lead_distance_m"] = pa.array(columns["lead_distance_m"], mask=hidden)
    return columns


def _gap() -> Columns:
    """A hard brake whose telemetry drops out for half a second in the middle."""
    columns = _brake(6.0, 3.0, 25.0)
    hole = np.zeros(len(columns["accel_x_mps2"]), np.bool_)
    hole[_n(CALM_S + 1.4) : _n(CALM_S + 1.9)] = True
    columns["accel_x_mps2"] = pa.array(columns["accel_x_mps2"], mask=hole)
    return columns


def _mine(columns: Columns, table: str = "signals") -> list[Event]:
    n = len(next(iter(columns.values())))
    rows = pa.table(
        {"log_id": ["log"] * n, "t_ns": np.arange(n) * ns(DT), **columns}  # t_ns may be given
    )
    duration = int(rows["t_ns"].to_numpy().max()) + ns(DT)
    logs = pa.table({"log_id": ["log"], "drive_id": ["drive"], "duration_ns": [duration]})
    return _miner(table).mine(rows, logs)


@cache
def _miner(table: str) -> Miner:
    return Miner(load_triggers(), table)


MANOEUVRES: dict[str, tuple[Callable[[], Columns], list[str]]] = {
    "hard brake": (lambda: _brake(6.0, 2.5, 20.0), ["hard_brake"]),
    "hard brake to a stop": (lambda: _brake(8.0, 3.0, 10.0), ["hard_brake"]),
    "hard brake with a dropout": (_gap, ["hard_brake"]),
    "brake at a light": (lambda: _brake(3.0, 10.0, 15.0), []),
    "pothole": (lambda: _brake(12.0, 0.1, 20.0), []),
    "hard acceleration": (lambda: _brake(-4.5, 3.0, 3.0), ["hard_acceleration"]),
    "pull away": (lambda: _brake(-2.5, 8.0, 0.0), []),
    "turn at a crossing, fast": (lambda: _turn(90, 4.5, 7.0), ["sharp_turn"]),
    "turn at a crossing": (lambda: _turn(90, 2.0, 5.0), []),
    "motorway curve, fast": (lambda: _turn(40, 3.0, 33.0), []),
    "swerve": (lambda: _sway((1, -1), 5.0, 2.0, 18.0), ["swerve"]),
    "swerve and back": (lambda: _sway((1, -1, -1, 1), 5.5, 2.4, 18.0), ["swerve"]),
    "lane change": (lambda: _lane_change(3.5, 5.0, 25.0), ["lane_change"]),
    "lane change, quick": (lambda: _lane_change(3.2, 3.8, 12.0), ["lane_change"]),
    "lane change, slow": (lambda: _lane_change(3.5, 6.5, 30.0), ["lane_change"]),
    "bend and back, no indicator": (lambda: _lane_change(3.5, 5.0, 25.0, signal=False), []),
    "wander in the lane": (lambda: _lane_change(0.6, 5.0, 25.0), []),
    "curve with an indicator": (
        lambda: {**_turn(30, 1.5, 15.0), "blinker_left": np.ones(_n(40) + _n(10.47), np.bool_)},
        [],
    ),
    "stop and go": (lambda: _crawl(4, 4.0), ["stop_and_go"]),
    "two stops of a queue": (lambda: _crawl(2, 4.0), []),
    "stops at lights": (lambda: _crawl(4, 12.0, 10.0), []),
    "disengagement": (lambda: _assisted(20.5, 20.0), ["disengagement"]),
    "switched off at rest": (lambda: _assisted(20.5, 0.0), []),
    "assisted all along": (lambda: _assisted(None, 20.0), []),
    "fast": (lambda: _brake(0.0, 1.0, 40.0), ["high_speed"]),
    "at the limit": (lambda: _brake(0.0, 1.0, 35.0), []),
    "cut in": (lambda: _follow(45.0, 14.0, 18.0), ["cut_in"]),
    "cut in where none was": (_appears, ["cut_in"]),
    "vehicle ahead leaves": (lambda: _follow(18.0, 60.0, 18.0), []),
    "follow closer and closer": (lambda: _follow(45.0, 14.0, 18.0, over_s=15.0), []),
    "far lane change ahead": (lambda: _follow(80.0, 40.0, 18.0), []),
    "coming to a queue": (lambda: _follow(60.0, 4.0, 0.0, over_s=2.8), []),
}


@pytest.mark.parametrize("name", MANOEUVRES)
def test_finds_its_own_kind_once(name: str) -> None:
    """Of all triggers on signals, exactly the expected ones fire, once each, at the manoeuvre."""
    columns, expected = MANOEUVRES[name]
    events = _mine(columns())
    assert Counter(event.trigger for event in events) == Counter(expected)
    for event in events:
        assert event.start_ns <= event.anchor_ns <= event.end_ns
        if name != "fast":
            assert ns(CALM_S - 1) <= event.anchor_ns <= event.end_ns


def test_aeb_annotation() -> None:
    """The car's annotation of an emergency braking is an event, the driver's button is not."""
    reasons = ["user_interaction_honk", "vehicle_auto_emergency_braking"]
    (event,) = _mine({"t_ns": np.array([5, 30]) * ns(1), "reason": reasons}, "annotations")
    assert (event.trigger, event.anchor_ns, event.start_ns) == ("aeb", ns(30), ns(22))


def _scene(brightness: FloatArray, persons: Any, height: Any) -> Columns:
    n = len(brightness)
    return {
        "t_ns": np.arange(n) * ns(0.5),
        "camera": ["front"] * n,
        "brightness": brightness,
        "sharpness": np.ones(n),
        "persons": pa.array(persons, pa.int64()),
        "bicycles": pa.nulls(n, pa.int64()),
        "vru_height_frac": pa.array(height, pa.float64()),
        "source": ["model"] * n,
        "source_version": ["1"] * n,
    }


def test_dark_scene() -> None:
    """Each dark minute yields its darkest frame; daylight, and one covered frame, yield none."""
    light = np.where(np.arange(480) < 240, 110.0, 25.0)
    light[100] = 2.0
    light[[300, 430]] = 12.0
    events = _mine(_scene(light, [0] * 480, [0.0] * 480), "scene")
    assert [(e.trigger, e.anchor_ns) for e in events] == [
        ("dark_scene", ns(150)),
        ("dark_scene", ns(215)),
    ]


def test_vru_near() -> None:
    """A person who comes near is one event at the nearest; others and unswept frames are none."""
    n = 60
    near = np.interp(np.arange(n), [20, 30, 40], [0.05, 0.4, 0.05])
    (event,) = _mine(_scene(np.full(n, 99.0), [1] * n, near), "scene")
    assert (event.trigger, event.anchor_ns) == ("vru_near", ns(15))
    assert _mine(_scene(np.full(n, 99.0), [1] * n, [0.05] * n), "scene") == []
    assert _mine(_scene(np.full(n, 99.0), [None] * n, [None] * n), "scene") == []


def test_joint_jerk() -> None:
    """A knocked joint is one event; smooth sines with encoder noise, at 30 Hz, are none."""
    rng = np.random.default_rng(3)
    t = np.arange(300) / 30
    smooth = np.stack([0.8 * np.sin(0.7 * k * t) for k in range(1, 5)], axis=1)
    smooth += rng.normal(0, 1e-3, smooth.shape)
    knocked = smooth.copy()
    knocked[150:, 2] += 0.4 * np.minimum(np.arange(150) / 3, 1)

    def rows(position: FloatArray) -> Columns:
        lists = pa.array(position.astype(np.float32).tolist(), pa.list_(pa.float32()))
        return {"t_ns": np.rint(t * 1e9).astype(np.int64), "position": lists}

    assert _mine(rows(smooth), "joints") == []
    (event,) = _mine(rows(knocked), "joints")
    assert event.trigger == "joint_jerk"
    assert abs(event.anchor_ns - ns(5)) < ns(0.3)
