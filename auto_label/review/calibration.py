"""How probable it is that a track of a model is right, by what reviewers said of others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.optimize import isotonic_regression

from auto_label.review.accuracy import Compared, Model, on_views_of
from auto_label.review.matching import Lookup, views_of
from auto_label.review.rates import Rate, clustered_rate
from schemas.arrays import BoolArray, FloatArray, IntArray

BINS = 10
FOLDS = 10
RIGHT_SHARE = 0.5
"""Least share of the boxes of a right track that match, of those on reviewed frames."""


@dataclass(frozen=True, slots=True)
class Judged:
    """n tracks that were reviewed: float64 scores, bool whether right, int64 their events."""

    score: FloatArray
    right: BoolArray
    event: IntArray


@dataclass(frozen=True, slots=True)
class Curve:
    """A map from scores to probabilities, linear between its knots and constant beyond."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, score: FloatArray) -> FloatArray:
        """Maps scores, float64[n], to probabilities, float64[n]."""
        return np.interp(score, self.scores, self.probabilities)


@dataclass(frozen=True, slots=True)
class Bin:
    """Tracks with a stated probability from `low` to `high`.

    `stated` is its mean, `right` how many were right.
    """

    low: float
    high: float
    stated: float
    right: Rate


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of one model from `tracks` that were reviewed.

    `before` has the score as the stated probability and `after` that of a curve which was
    fitted without the events of the tracks. The errors are the expected calibration errors;
    after is empty and its error None where there is but one event.
    """

    source: str
    source_version: str
    tracks: int
    right: int
    curve: Curve
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]
    error_before: float
    error_after: float | None


def calibrated(
    compared: Iterable[Compared], tracks: pa.Table, answers: pa.Table
) -> tuple[Calibration, ...]:
    """Calibrates the models that have tracks on what was reviewed.

    Args:
        compared: what accuracy.compare returns of the answers.
        tracks: rows of `tracks`, of one specification for each event.
        answers: rows of `verdicts`, at most one for each camera of an event.

    Raises:
        ValueError: a box has no track, or an event has tracks of several specifications.
    """
    fitted = (calibrate(one, judge(one, tracks, answers)) for one in compared)
    return tuple(one for one in fitted if one is not None)


def curves(calibrations: Iterable[Calibration]) -> dict[Model, Curve]:
    """Returns the curve of each model."""
    return {(one.source, one.source_version): one.curve for one in calibrations}


def judge(compared: Compared, tracks: pa.Table, answers: pa.Table) -> Judged:
    """Judges a model's tracks: right if half of their boxes on reviewed frames match at least.

    Args:
        compared: the boxes of the model and the reviewed ones.
        tracks: rows of `tracks`.
        answers: the rows of `verdicts` that the comparison is of.

    Raises:
        ValueError: a box has no track, or an event has tracks of several specifications.
    """
    tracks = on_views_of(answers, tracks)
    view = views_of(tracks, answers)
    known = Lookup(view, tracks.column("track_id").to_numpy())
    row = known.find(compared.found.view, compared.found.track_id)
    if (row < 0).any():
        raise ValueError(f"{int((row < 0).sum())} boxes of {compared.source} have no track")
    boxes = np.bincount(row, minlength=len(tracks))
    hits = np.bincount(row, weights=compared.overlap > 0, minlength=len(tracks))
    own = np.flatnonzero(boxes)
    return Judged(
        tracks.column("score").to_numpy()[own],
        hits[own] >= RIGHT_SHARE * boxes[own],
        compared.event[view[own]],
    )


def calibrate(compared: Compared, judged: Judged) -> Calibration | None:
    """Fits the probability that a track is right to its score, and says how far off it is.

    Returns:
        The calibration of the model; None without tracks.
    """
    if not len(judged.score):
        return None
    before = _bins(judged.score, judged)
    stated = _stated_by_others(judged)
    after = _bins(stated, judged) if stated is not None else ()
    return Calibration(
        compared.source,
        compared.source_version,
        tracks=len(judged.score),
        right=int(np.count_nonzero(judged.right)),
        curve=fit(judged.score, judged.right),
        before=before,
        after=after,
        error_before=_error(before),
        error_after=_error(after) if after else None,
    )


def fit(score: FloatArray, right: BoolArray) -> Curve:
    """Fits a probability that rises with the score: isotonic regression by least squares.

    Half a right track below all scores and half a wrong one above them keep the probabilities
    off 0 and 1; where one probability fits all scores, it is that of Jeffreys' prior,
    (right + 1/2) / (tracks + 1).

    Args:
        score: float64[n], n at least 1.
        right: bool[n].

    >>> curve = fit(np.array([0.2, 0.4, 0.9, 0.8]), np.array([False, False, True, True]))
    >>> [round(p, 3) for p in curve.probabilities]
    [0.2, 0.2, 0.8, 0.8]
    """
    knots, place = np.unique(score, return_inverse=True)
    tracks = np.bincount(place)
    share = np.bincount(place, weights=right) / tracks
    fitted = isotonic_regression(
        np.concatenate([[1.0], share, [0.0]]), weights=np.concatenate([[0.5], tracks, [0.5]])
    ).x[1:-1]
    # Of a run of equal probabilities only the ends are knots.
    step = np.diff(fitted) != 0
    kept = np.concatenate([[True], step]) | np.concatenate([step, [True]])
    return Curve(tuple(knots[kept].tolist()), tuple(fitted[kept].tolist()))


def _stated_by_others(judged: Judged) -> FloatArray | None:
    """Returns each track's probability by a curve fitted to other events, float64[n].

    The events take turns in up to FOLDS groups. None where there is but one event.
    """
    events, number = np.unique(judged.event, return_inverse=True)
    if len(events) < 2:
        return None
    fold = number % FOLDS
    stated = np.empty(len(fold))
    for k in range(min(FOLDS, len(events))):
        held = fold == k
        stated[held] = fit(judged.score[~held], judged.right[~held])(judged.score[held])
    return stated


def _bins(stated: FloatArray, judged: Judged) -> tuple[Bin, ...]:
    """Groups tracks by their stated probability into bins of equal width, without empty ones."""
    place = np.clip(np.floor(stated * BINS), 0, BINS - 1)
    events = int(judged.event.max()) + 1
    bins = []
    for k in range(BINS):
        rows = place == k
        tracks = np.bincount(judged.event[rows], minlength=events)
        hits = np.bincount(judged.event[rows & judged.right], minlength=events)
        right = clustered_rate(hits, tracks)
        if right:
            bins.append(Bin(k / BINS, (k + 1) / BINS, float(stated[rows].mean()), right))
    return tuple(bins)


def _error(bins: tuple[Bin, ...]) -> float:
    """Computes the expected calibration error (Naeini et al., 2015) from bins."""
    total = sum(one.right.trials for one in bins)
    return sum(one.right.trials * abs(one.right.value - one.stated) for one in bins) / total
