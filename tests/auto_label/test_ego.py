"""The ego path against roads whose shape is known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from auto_label.ego import ego_path
from schemas.arrays import FloatArray, IntArray
from schemas.tables import TABLES
from schemas.times import GRID_NS, NS_PER_S, Span

SECONDS = 20
ROADS = {
    "straight": lambda t: (15.0 + 0 * t, 0 * t),
    "circle": lambda t: (15.0 + 0 * t, 0.3 + 0 * t),
    "clothoid": lambda t: (15.0 + 0 * t, 0.03 * t),
    "weaving": lambda t: (15.0 + 5 * np.sin(t / 2), 0.2 * np.sin(t)),
    "braking": lambda t: (np.maximum(20 - 4 * t, 0), 0.02 * (t < 5)),
}


@dataclass(frozen=True)
class _Drive:
    """Signals with noise, and the true pose at each of their instants."""

    signals: pa.Table
    t_ns: IntArray
    pose: FloatArray


def _drive(road: str, seed: int, noise: float = 1.0, **drop: bool) -> _Drive:
    """Drives a road from a heading of 0.7 rad at 48 N 11 E, by sums over 1 ms."""
    rng = np.random.default_rng(seed)
    fine = np.arange(0, SECONDS, 0.001)
    speed, yaw = (np.broadcast_to(v, fine.shape) for v in ROADS[road](fine))
    heading = 0.7 + np.concatenate([[0], np.cumsum((yaw[1:] + yaw[:-1]) / 2 * 0.001)])
    along, mean_speed = heading[:-1] + yaw[:-1] * 0.0005, (speed[1:] + speed[:-1]) / 2
    x = np.concatenate([[0], np.cumsum(mean_speed * np.cos(along) * 0.001)])
    y = np.concatenate([[0], np.cumsum(mean_speed * np.sin(along) * 0.001)])
    t_ns = np.arange(0, SECONDS * NS_PER_S, GRID_NS, dtype=np.int64)
    at = t_ns // 1_000_000
    fixes = np.arange(0, len(fine), 1000)
    lat, bulge = math.radians(48), 1 - 6.694379990141316e-3 * math.sin(math.radians(48)) ** 2
    meridian, prime = 6378137 * (1 - 6.694379990141316e-3) / bulge**1.5, 6378137 / bulge**0.5

    def fixed(values: FloatArray) -> FloatArray:
        """Gives the fixed."""
        noisy = values[fixes] + noise * rng.normal(0, 1.5, len(fixes))
        return np.asarray(np.interp(t_ns / NS_PER_S, fixes / 1000, noisy))

    def noisy(values: FloatArray, sigma: float) -> FloatArray:
        """Gives the noisy."""
        return values[at] + noise * rng.normal(0, sigma, len(at))

    columns = {
        "t_ns": t_ns,
        # Wheel sensors count nothing while standing.
        "speed_mps": np.where(speed[at] > 0, np.maximum(noisy(speed, 0.1), 0), 0),
        "yaw_rate_radps": noisy(yaw, 0.01) + noise * 0.002,
        "lat_deg": 48 + np.degrees(fixed(y) / meridian),
        "lon_deg": 11 + np.degrees(fixed(x) / prime / math.cos(lat)),
        "heading_rad": (noisy(heading, 0.02) + math.pi) % (2 * math.pi) - math.pi,
        "steering_angle_rad": 14.5 * np.arctan(noisy(yaw, 0.003) * 2.85 / np.maximum(speed[at], 1)),
    }
    kept = {name: values for name, values in columns.items() if not drop.get(name)}
    table = pa.table(kept).append_column("log_id", pa.array(["l"] * len(t_ns)))
    pose = np.stack([x[at], y[at], heading[at]], axis=1)
    return _Drive(TABLES["signals"].conform(table), t_ns, pose)


def _errors(drive: _Drive, anchor_ns: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Position errors within 100 m, the path's own sigma there, and heading errors."""
    path = ego_path(drive.signals, Span(0, SECONDS * NS_PER_S), anchor_ns)
    origin = drive.pose[anchor_ns // GRID_NS]
    true = drive.pose[path["t_ns"].to_numpy() // GRID_NS] - origin
    cos, sin = math.cos(origin[2]), math.sin(origin[2])
    forward, left = cos * true[:, 0] + sin * true[:, 1], cos * true[:, 1] - sin * true[:, 0]
    off = np.hypot(path["x_m"].to_numpy() - forward, path["y_m"].to_numpy() - left)
    near = np.hypot(forward, left) <= 100
    turn = path["heading_rad"].to_numpy() - true[:, 2]
    return off[near], path["sigma_m"].to_numpy()[near], turn[near]


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


@pytest.mark.parametrize("road", ROADS)
def test_without_noise_the_path_is_the_road(road: str) -> None:
    off, _, turn = _errors(_drive(road, 0, noise=0.0), 10 * NS_PER_S)
    assert _rms(off) < 0.1
    assert np.abs(turn).max() < 0.01


@pytest.mark.parametrize("road", ROADS)
def test_with_noise_it_stays_within_half_a_metre(road: str) -> None:
    results = [_errors(_drive(road, seed), 10 * NS_PER_S) for seed in range(6)]
    assert _rms(np.concatenate([off for off, _, _ in results])) < 0.35
    # The error it claims is of the size of the error it makes.
    claimed = _rms(np.concatenate([sigma for _, sigma, _ in results]))
    assert 0.3 < _rms(np.concatenate([off for off, _, _ in results])) / claimed < 1.5


@pytest.mark.parametrize(
    ("drop", "limit"),
    [
        ({"lat_deg", "lon_deg", "heading_rad"}, 0.8),
        ({"yaw_rate_radps"}, 0.5),
        ({"yaw_rate_radps", "lat_deg", "lon_deg", "heading_rad"}, 0.5),
        ({"yaw_rate_radps", "steering_angle_rad"}, 1.2),
        ({"heading_rad"}, 0.7),
        ({"speed_mps"}, 3.0),
    ],
    ids=lambda v: "-".join(sorted(v)) if isinstance(v, set) else "",
)
def test_whatever_signals_there_are_serve(drop: set[str], limit: float) -> None:
    drives = [_drive("weaving", seed, **dict.fromkeys(drop, True)) for seed in range(3)]
    off = np.concatenate([_errors(drive, 10 * NS_PER_S)[0] for drive in drives])
    assert _rms(off) < limit


def test_the_anchor_is_the_origin_wherever_it_lies() -> None:
    drive = _drive("clothoid", 1)
    for anchor_ns in (0, 7_300_000_000, SECONDS * NS_PER_S - GRID_NS):
        path = ego_path(drive.signals, Span(0, SECONDS * NS_PER_S), anchor_ns)
        row = int(np.abs(path["t_ns"].to_numpy() - anchor_ns).argmin())
        gap = abs(path["t_ns"][row].as_py() - anchor_ns) / NS_PER_S
        assert abs(path["x_m"][row].as_py()) <= 16 * gap + 1e-9
        assert path["sigma_m"][row].as_py() < 0.1
        ahead = path["x_m"].to_numpy()[row : row + 5]
        assert (np.diff(ahead) > 0).all()


def test_reverse_runs_backward() -> None:
    drive = _drive("straight", 2)
    gear = pa.array(["reverse"] * drive.signals.num_rows)
    index = drive.signals.column_names.index("gear")
    signals = drive.signals.set_column(index, "gear", gear).drop_columns(["lat_deg", "lon_deg"])
    signals = TABLES["signals"].conform(signals)
    path = ego_path(signals, Span(0, 4 * NS_PER_S), 0)
    assert path["x_m"][-1].as_py() == pytest.approx(-15 * 3.9, abs=0.5)
    assert path["speed_mps"][-1].as_py() < 0


def test_an_outlier_of_the_positions_is_ignored() -> None:
    drive = _drive("straight", 3)
    lat = np.array(drive.signals["lat_deg"].to_numpy())
    lat[495:505] += 0.01
    index = drive.signals.column_names.index("lat_deg")
    spoilt = drive.signals.set_column(index, "lat_deg", pa.array(lat))
    off, _, _ = _errors(_Drive(TABLES["signals"].conform(spoilt), drive.t_ns, drive.pose), 0)
    assert _rms(off) < 0.5


def test_standing_still_stays_put() -> None:
    count = 500
    table = pa.table(
        {
            "log_id": ["l"] * count,
            "t_ns": np.arange(count) * GRID_NS,
            "speed_mps": np.zeros(count),
            "yaw_rate_radps": np.full(count, 0.004),
        }
    )
    path = ego_path(TABLES["signals"].conform(table), Span(0, 10 * NS_PER_S), 5 * NS_PER_S)
    assert np.abs(path["x_m"].to_numpy()).max() < 0.05
    assert np.abs(path["heading_rad"].to_numpy()).max() < 0.005


def test_rows_are_each_100_ms_of_the_span_and_of_the_tables_types() -> None:
    path = ego_path(_drive("circle", 4).signals, Span(3_050_000_000, 5_000_000_000), 4 * NS_PER_S)
    t_ns = path["t_ns"].to_numpy()
    assert t_ns[0] == 3_060_000_000
    assert t_ns[1:].tolist() == list(range(3_100_000_000, 5_000_000_000, 100_000_000))
    for field in path.schema:
        assert TABLES["ego_path"].schema.field(field.name) == field


@pytest.mark.parametrize("rows", [0, 1, 2, 50])
def test_few_rows_and_no_signals_give_what_they_can(rows: int) -> None:
    signals = _drive("straight", 0).signals
    empty = TABLES["signals"].conform(signals.slice(0, rows).select(["log_id", "t_ns"]))
    assert ego_path(empty, Span(0, NS_PER_S), 0).num_rows == 0
    some = ego_path(signals.slice(0, rows), Span(0, NS_PER_S), 0)
    assert some.num_rows == min(rows, 1) + (rows == 50) * 9
    assert np.isfinite(some["sigma_m"].to_numpy()).all()


def test_wild_values_are_unknown_values() -> None:
    drive = _drive("straight", 5)
    wild = drive.signals
    for name, value in (("speed_mps", math.inf), ("yaw_rate_radps", 1e300), ("lat_deg", math.nan)):
        values = np.array(wild[name].to_numpy())
        values[100:110] = value
        wild = wild.set_column(wild.column_names.index(name), name, pa.array(values))
    off, _, _ = _errors(_Drive(TABLES["signals"].conform(wild), drive.t_ns, drive.pose), 0)
    assert _rms(off) < 0.5
