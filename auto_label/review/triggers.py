"""How often triggers are right, and from which score on their events are worth keeping."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from auto_label.review.rates import Rate, rate
from auto_label.review.resolve import values
from schemas.arrays import FloatArray

Key = tuple[str, int, str]
"""A trigger's name, version and digest of parameters: scores of others cannot be compared."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What would be kept of the answered events by a least score.

    `f1` is the harmonic mean of precision and recall among the answered events. The threshold
    was chosen by the same events, so that it looks better than it will on others.
    """

    score: float
    f1: float
    kept_right: int
    kept_wrong: int
    least_right: float


@dataclass(frozen=True, slots=True)
class TriggerScore:
    """The answers on the events of one trigger.

    `events` counts all of its events, `answered` those with a verdict. precision is the share
    of the right ones of those right or wrong; None without any. threshold is None without a
    right one.
    """

    trigger: str
    trigger_version: int
    params_digest: str
    events: int
    answered: int
    right: int
    wrong: int
    unsure: int
    precision: Rate | None
    threshold: Threshold | None

    @property
    def key(self) -> Key:
        """The trigger with its version and parameters."""
        return self.trigger, self.trigger_version, self.params_digest


def trigger_scores(events: pa.Table, verdicts: pa.Table) -> tuple[TriggerScore, ...]:
    """Scores every trigger by the verdicts on its events.

    Args:
        events: rows of `events`.
        verdicts: rows of resolve.EVENT_VERDICTS; those on other events are ignored.

    Returns:
        Scores of all triggers that have events, ordered by trigger, version and parameters.
    """
    given = dict(values(verdicts, "event_id", "verdict"))
    scores: defaultdict[Key, defaultdict[str | None, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for key, event_id, score in keyed_scores(events):
        scores[key][given.get(event_id)].append(score)
    return tuple(_score(key, scores[key]) for key in sorted(scores))


def keyed_scores(events: pa.Table) -> Iterator[tuple[Key, str, float]]:
    """Yields the trigger, the event_id and the score of each row of `events`."""
    names = ("trigger", "trigger_version", "params_digest", "event_id", "score")
    for trigger, version, params, event_id, score in values(events, *names):
        yield (trigger, version, params), event_id, score


def best_threshold(right: Sequence[float], wrong: Sequence[float]) -> Threshold | None:
    """Finds the least score with the best F1; of equally good ones, the lowest.

    F1 is 2 TP / (2 TP + FP + FN): only the score of a right event can be the best threshold,
    and without wrong events it is the lowest of them.

    Args:
        right: scores of right events.
        wrong: scores of wrong events.

    Returns:
        The threshold; None without right events.

    >>> best_threshold([0.4, 0.8, 0.9], [0.1, 0.2, 0.3, 0.5])
    Threshold(score=0.4, f1=0.8571428571428571, kept_right=3, kept_wrong=1, least_right=0.4)
    """
    if not right:
        return None
    candidates = np.unique(np.asarray(right, dtype=np.float64))
    kept_right, kept_wrong = _at_least(right, candidates), _at_least(wrong, candidates)
    f1 = 2 * kept_right / (kept_right + kept_wrong + len(right))
    best = int(np.argmax(f1))
    return Threshold(
        float(candidates[best]),
        float(f1[best]),
        int(kept_right[best]),
        int(kept_wrong[best]),
        float(candidates[0]),
    )


def _at_least(scores: Sequence[float], thresholds: FloatArray) -> FloatArray:
    """Counts the scores that are no less than each threshold."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    return np.asarray(len(ordered) - np.searchsorted(ordered, thresholds), dtype=np.float64)


def _score(key: Key, scores: defaultdict[str | None, list[float]]) -> TriggerScore:
    """Scores one trigger from the scores of its events by verdict."""
    right, wrong, unsure = (len(scores[verdict]) for verdict in ("right", "wrong", "unsure"))
    answered = right + wrong + unsure
    return TriggerScore(
        *key,
        events=answered + len(scores[None]),
        answered=answered,
        right=right,
        wrong=wrong,
        unsure=unsure,
        precision=rate(right, right + wrong),
        threshold=best_threshold(scores["right"], scores["wrong"]),
    )
