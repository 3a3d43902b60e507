"""Smooth profiles over time that manoeuvres consist of, sampled at SIM_HZ.

All are limited in jerk, as people cannot move pedals and steering wheels abruptly.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray

SIM_HZ = 100
DT_S = 1 / SIM_HZ


def steps(duration_s: float) -> int:
    """Converts a duration to simulation steps, at least one.

    >>> steps(1.5)
    150
    """
    return max(1, round(duration_s * SIM_HZ))


def phase(n: int) -> FloatArray:
    """Returns n evenly spaced instants of (0, 1), each in the middle of its step."""
    return np.asarray((np.arange(n) + 0.5) / n)


def plateau(n: int, rise: float) -> FloatArray:
    """Rises from 0 to 1, holds and falls; both edges are raised cosines of length `rise`.

    >>> plateau(4, 0.25).round(2).tolist()
    [0.5, 1.0, 1.0, 0.5]
    """
    edge = np.minimum(phase(n), 1 - phase(n)) / rise
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(edge, 0, 1)))


def ramp(change: float, peak: float, jerk: float) -> FloatArray:
    """Returns an acceleration profile for a change of speed.

    Args:
        change: of the speed, m/s.
        peak: largest acceleration, m/s2.
        jerk: mean slope of the edges, m/s3.

    Returns:
        float64[n] in m/s2, whose sum times DT_S is exactly the change.

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
    """Returns zeros."""
    return np.zeros(steps(duration_s))


def shift(distance: float, duration_s: float) -> FloatArray:
    """Moves from 0 to `distance` on the quintic with no speed or acceleration at its ends."""
    u = phase(steps(duration_s))
    return np.asarray(distance * u**3 * (10 - 15 * u + 6 * u * u))


def swerve(peak: float, duration_s: float) -> FloatArray:
    """Returns the lateral offset in m of an evasive manoeuvre to one side and back.

    The lateral acceleration is one tapered period of a cosine with zero mean. As it is even
    about its middle, its double integral ends at zero too.

    Args:
        peak: largest lateral acceleration, m/s2; positive to the left.
        duration_s: of the whole manoeuvre.
    """
    n = steps(duration_s)
    window = plateau(n, 0.14)
    wave = window * np.cos(2 * np.pi * phase(n))
    accel = wave - window * (wave.sum() / window.sum())
    accel *= peak / np.abs(accel).max()
    speed = np.cumsum(accel) * DT_S
    return np.asarray(np.cumsum(speed - accel * DT_S / 2) * DT_S)
