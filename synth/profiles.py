"""Smooth shapes that manoeuvres are made of, sampled at SIM_HZ.

Every profile is limited in jerk: pedals and steering wheels are moved by muscles.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray

SIM_HZ = 100
DT_S = 1 / SIM_HZ


def steps(duration_s: float) -> int:
    """Counts the simulation steps of a duration, at least one.

    >>> steps(1.5)
    150
    """
    return max(1, round(duration_s * SIM_HZ))


def phase(n: int) -> FloatArray:
    """Lays n instants evenly into (0, 1), each in the middle of its step."""
    return np.asarray((np.arange(n) + 0.5) / n)


def plateau(n: int, rise: float) -> FloatArray:
    """Rises from 0 to 1, holds, and falls, with raised cosines over `rise` of either end.

    >>> plateau(4, 0.25).round(2).tolist()
    [0.5, 1.0, 1.0, 0.5]
    """
    edge = np.minimum(phase(n), 1 - phase(n)) / rise
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(edge, 0, 1)))


def ramp(change: float, peak: float, jerk: float) -> FloatArray:
    """Accelerates by `change` m/s with at most `peak` m/s2, reached with mean slope `jerk` m/s3.

    Returns float64[n], m/s2, whose sum times DT_S is exactly the change.

    >>> float(ramp(-5.0, 2.0, 1.5).sum().round(6)) * DT_S
    -5.0
    """
    if change == 0:
        return np.zeros(0)
    peak = min(peak, float(np.sqrt(abs(change) * jerk)))
    rise_s = peak / jerk
    n = steps(abs(change) / peak + rise_s)
    shape = plateau(n, min(0.5, rise_s * SIM_HZ / n))
    return np.asarray(shape * (change * SIM_HZ / shape.sum()))


def hold(duration_s: float) -> FloatArray:
    """Holds zero."""
    return np.zeros(steps(duration_s))


def shift(distance: float, duration_s: float) -> FloatArray:
    """Moves from 0 to `distance` along the quintic whose ends have no speed and no acceleration."""
    u = phase(steps(duration_s))
    return np.asarray(distance * u**3 * (10 - 15 * u + 6 * u * u))


def swerve(peak: float, duration_s: float) -> FloatArray:
    """Moves aside and back: the lateral offset, m, of an evasive S.

    The lateral acceleration is one tapered cosine period, made to sum to zero; being even
    about its middle, its double integral then ends at zero as well.

    Args:
        peak: largest lateral acceleration, m/s2; its sign is the side.
        duration_s: of the whole S.
    """
    n = steps(duration_s)
    window = plateau(n, 0.14)
    wave = window * np.cos(2 * np.pi * phase(n))
    accel = wave - window * (wave.sum() / window.sum())
    accel *= peak / np.abs(accel).max()
    speed = np.cumsum(accel) * DT_S
    return np.asarray(np.cumsum(speed - accel * DT_S / 2) * DT_S)
