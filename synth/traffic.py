"""Traffic: cars, trucks and pedestrians along the road of one drive.

Positions are in road coordinates: distance `s` along the road as the ego car drove it, and
offset `d` to the left of the first lane's centre line. A trajectory is a list of knots
(t, s, d), interpolated linearly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.arrays import FloatArray, IntArray
from synth.motion import Motion
from synth.profiles import DT_S, SIM_HZ
from synth.script import LANE_M, Injected, Script

Class = Literal["car", "truck", "person"]

NOSE_M = 3.8
"""From the ego's rear axle to its front bumper."""
KERB_M = -LANE_M / 2 - 0.3
SIZES_M: dict[Class, tuple[float, float, float]] = {
    "car": (4.5, 1.85, 1.5),
    "truck": (8.0, 2.5, 3.2),
    "person": (0.5, 0.6, 1.75),
}
"""Length, width and height by class."""
_SIGHT_M = 130.0
_MET_S = 1.8
"""Time from the middle of a pedestrian's crossing to the end of the event."""
_BEND_RAD = 0.3
"""No pedestrians where the road turns by more: they would come near at the corner."""
_LEADLESS = ("cut_in", "lane_change", "pedestrian_crossing")


@dataclass(frozen=True, slots=True)
class Actor:
    """One road user, present from its first knot to its last.

    Args:
        track_id: from 1.
        kind: class.
        knots: float64[k, 3] of (t s, s m, d m).
        facing: 1 along the road, -1 against it, 0 across it.
        hue: selects colours and gait.
    """

    track_id: int
    kind: Class
    knots: FloatArray
    facing: int
    hue: int

    def at(self, t_s: float) -> tuple[float, float]:
        """Returns s and d in m at a time."""
        t = self.knots[:, 0]
        return (
            float(np.interp(t_s, t, self.knots[:, 1])),
            float(np.interp(t_s, t, self.knots[:, 2])),
        )


@dataclass(frozen=True, slots=True)
class Traffic:
    """The actors of a drive, and the signals of the lead vehicle, NaN where there is none."""

    actors: tuple[Actor, ...]
    lead_distance_m: FloatArray
    lead_speed_mps: FloatArray


def populate(script: Script, motion: Motion, rng: np.random.Generator) -> Traffic:
    """Generates the traffic of a drive."""
    lead_gap = np.full(len(motion.t_s), np.nan)
    chains: list[tuple[Class, FloatArray, int]] = []
    chains += _leads(script.events, motion, rng, lead_gap)
    chains += _cut_ins(script.events, motion, lead_gap)
    chains += _crossings(script.events, motion)
    chains += _oncoming(motion, rng)
    chains += _kerbside(motion, rng)
    actors = tuple(
        Actor(k + 1, kind, knots, facing, int(rng.integers(1 << 16)))
        for k, (kind, knots, facing) in enumerate(chains)
    )
    speed = np.maximum(motion.speed_mps + np.gradient(lead_gap, DT_S), 0.0)
    return Traffic(actors, lead_gap, speed)


def _chain(motion: Motion, steps: IntArray, gap: FloatArray, d: FloatArray) -> FloatArray:
    """Returns the knots, at the given steps, of a car at a bumper-to-bumper gap ahead."""
    middle = motion.s_m[steps] + NOSE_M + gap + SIZES_M["car"][0] / 2
    return np.stack([motion.t_s[steps], middle, d], axis=1)


def _leads(
    events: tuple[Injected, ...], motion: Motion, rng: np.random.Generator, lead_gap: FloatArray
) -> list[tuple[Class, FloatArray, int]]:
    """Adds lead vehicles in most spans where no event needs an empty lane ahead."""
    breaks = [(event.start, event.end) for event in events if event.type in _LEADLESS]
    edges = [0, *(edge for span in breaks for edge in span), len(motion.t_s)]
    chains: list[tuple[Class, FloatArray, int]] = []
    calm = np.convolve(motion.speed_mps, np.full(2 * SIM_HZ, 0.5 / SIM_HZ), "same")
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        start, stop = begin + 14 * SIM_HZ * bool(begin), end - 2 * SIM_HZ
        if stop - start < 15 * SIM_HZ or rng.random() < 0.3:
            continue
        span = np.arange(start, stop)
        since, left = (span - start) * DT_S, (stop - span) * DT_S
        slow = calm[span]
        swing = 1 + 0.15 * np.sin(2 * np.pi * since / 25 + rng.uniform(0, 6))
        away = 70 * (np.clip(1 - since / 12, 0, 1) ** 2 + np.clip(1 - left / 12, 0, 1) ** 2)
        wanted = motion.s_m[span] + (4.5 + 1.5 * slow) * swing + away
        gap = np.maximum.accumulate(wanted) - motion.s_m[span]
        lead_gap[span] = gap
        lane = round(float(motion.offset_m[start] / LANE_M)) * LANE_M
        knots = span[:: SIM_HZ // 10]
        chains.append(
            ("car", _chain(motion, knots, gap[:: SIM_HZ // 10], np.full(len(knots), lane)), 1)
        )
    return chains


def _cut_ins(
    events: tuple[Injected, ...], motion: Motion, lead_gap: FloatArray
) -> list[tuple[Class, FloatArray, int]]:
    """Adds cars that change into our lane at the event's gap, halfway across at its anchor."""
    chains: list[tuple[Class, FloatArray, int]] = []
    for event in events:
        if event.type != "cut_in":
            continue
        span = np.arange(event.start, min(event.end + 7 * SIM_HZ, len(motion.t_s)))
        since = (span - event.anchor) * DT_S
        gap = event.params["gap_m"] + np.where(since > 0.5, 1.2 * (since - 0.5), 0.0)
        gap += np.clip(since - 6, 0, None) ** 2 * 3
        gap = np.maximum.accumulate(motion.s_m[span] + gap) - motion.s_m[span]
        ours = round(float(motion.offset_m[event.start] / LANE_M)) * LANE_M
        theirs = LANE_M if ours < LANE_M / 2 else 0.0
        u = np.clip(since / 2.6 + 0.5, 0, 1)
        d = theirs + (ours - theirs) * u**3 * (10 - 15 * u + 6 * u * u)
        lead_gap[span[since >= 0]] = gap[since >= 0]
        pick = slice(None, None, SIM_HZ // 20)
        chains.append(("car", _chain(motion, span[pick], gap[pick], d[pick]), 1))
    return chains


def _crossings(events: tuple[Injected, ...], motion: Motion) -> list[tuple[Class, FloatArray, int]]:
    """Adds pedestrians that cross a few metres ahead of where the car is at the event's end.

    They pass the centre of its lane shortly before it is slowest, and so are seen near.
    """
    chains: list[tuple[Class, FloatArray, int]] = []
    for event in events:
        if event.type != "pedestrian_crossing":
            continue
        s = float(motion.s_m[min(event.end, len(motion.s_m) - 1)]) + NOSE_M + 5.0
        half_s = 5.5 / event.params["walk_mps"]
        t = event.end * DT_S - _MET_S
        far = motion.offset_m[event.start] + 5.5
        chains.append(("person", np.array([[t - half_s, s, far - 11.0], [t + half_s, s, far]]), 0))
    return chains


def _oncoming(motion: Motion, rng: np.random.Generator) -> list[tuple[Class, FloatArray, int]]:
    """Adds oncoming vehicles, one every few seconds."""
    chains: list[tuple[Class, FloatArray, int]] = []
    t = 0.0
    while (t := t + float(rng.exponential(6.0))) < motion.t_s[-1]:
        meet = float(np.interp(t, motion.t_s, motion.s_m))
        speed = rng.uniform(8, 16)
        lane = 2 * LANE_M + LANE_M * rng.integers(0, 2) + 0.6
        span = _SIGHT_M / speed
        kind: Class = "truck" if rng.random() < 0.2 else "car"
        knots = np.array(
            [[t - span, meet + _SIGHT_M, lane], [t + span / 2, meet - _SIGHT_M / 2, lane]]
        )
        chains.append((kind, knots, -1))
    return chains


def _kerbside(motion: Motion, rng: np.random.Generator) -> list[tuple[Class, FloatArray, int]]:
    """Adds parked cars at the kerb, and pedestrians on a path behind a wide verge.

    The path is so far away that only injected pedestrians come near, and the truth is complete.
    """
    chains: list[tuple[Class, FloatArray, int]] = []
    s = 10.0
    while (s := s + float(rng.exponential(35.0))) < motion.s_m[-1] + _SIGHT_M:
        seen = np.interp([s - _SIGHT_M, s + _SIGHT_M / 2], motion.s_m, motion.t_s)
        walks = rng.random() < 0.45
        pace = float(rng.choice([-1.3, 1.3])) if walks else 0.0
        d = KERB_M - (rng.uniform(8.0, 10.0) if walks else 1.15)
        drift = pace * (seen[1] - seen[0]) / 2 if seen[1] - seen[0] < 60 else 0.0
        around = np.linspace(s - abs(drift) - 30.0, s + abs(drift) + 30.0, 16)
        if walks and np.ptp(np.interp(around, motion.s_m, motion.road_heading_rad)) > _BEND_RAD:
            continue
        knots = np.array([[seen[0], s - drift, d], [seen[1] + 1e-3, s + drift, d]])
        chains.append(("person" if walks else "car", knots, -1 if drift < 0 else 1))
    return chains
