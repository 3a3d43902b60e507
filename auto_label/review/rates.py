"""Rates with their 95 % confidence intervals, also where what is counted comes in clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from schemas.arrays import IntArray

LEVEL = 0.95
_QUANTILE = (1 + LEVEL) / 2
_Z = float(norm.ppf(_QUANTILE))


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of trials that were hits, with the ends of its confidence interval."""

    hits: int
    trials: int
    value: float
    low: float
    high: float


def wilson(share: float, trials: float) -> tuple[float, float]:
    """Computes Wilson's score interval of a binomial share (Wilson, 1927).

    Args:
        share: the observed share of hits, from 0 to 1.
        trials: the number of independent trials, above 0; an effective number need not be whole.

    Returns:
        The ends of the 95 % interval, from 0 to 1.

    >>> low, high = wilson(0.0, 10)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.278)
    """
    pull = _Z**2 / trials
    centre = (share + pull / 2) / (1 + pull)
    half = math.sqrt(share * (1 - share) * pull + pull**2 / 4) / (1 + pull)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def rate(hits: int, trials: int) -> Rate | None:
    """Computes a rate of independent trials; None if there are none."""
    if not trials:
        return None
    return Rate(hits, trials, hits / trials, *wilson(hits / trials, trials))


def clustered_rate(hits: IntArray, trials: IntArray) -> Rate | None:
    """Computes a rate of trials that are independent only between clusters.

    Boxes of one event resemble each other: a track that is missed is missed on many frames, so
    that counting frames as independent makes an interval several times too narrow. The interval
    is Wilson's with the effective number of trials: their number divided by the design effect,
    which is the variance of the share between clusters (linearised, as of a ratio) over that of
    independent trials, and scaled by (z / t)^2 for the few clusters that it is estimated from
    (Korn and Graubard, "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data", 1998).

    Where all clusters but a few are all hits, those few decide the design effect, and a sample
    without them shows none. So it is estimated with one more cluster of mean size and half
    hits, as Agresti and Coull (1998) add trials. A bootstrap over clusters has the same flaw
    without the cure: its interval has no width where all trials are hits.

    Args:
        hits: int64[m], hits of each cluster.
        trials: int64[m], trials of each cluster; those without trials do not count.

    Returns:
        The rate of all trials; None if there are none.
    """
    hits, trials = hits[trials > 0], trials[trials > 0]
    if not len(trials):
        return None
    total, clusters = int(trials.sum()), len(trials)
    value = int(hits.sum()) / total
    sizes = np.append(trials, total / clusters)
    share = float((hits.sum() + sizes[-1] / 2) / sizes.sum())
    residuals = np.append(hits, sizes[-1] / 2) - share * sizes
    spread = float(residuals @ residuals) * (clusters + 1) / clusters
    independent = share * (1 - share) * float(sizes.sum())
    scale = (_Z / float(t.ppf(_QUANTILE, clusters))) ** 2
    # Between 1 and all trials: a design effect below 1 is luck.
    effective = max(total * min(scale * independent / max(spread, 1e-9), 1.0), 1.0)
    return Rate(int(hits.sum()), total, value, *wilson(value, effective))
