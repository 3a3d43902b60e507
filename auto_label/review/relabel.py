"""What to label next: where an answer would tell most about tracks and triggers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import entr

from auto_label.review.accuracy import Model, of_model
from auto_label.review.calibration import Curve
from auto_label.review.resolve import View, values
from auto_label.review.triggers import Key, TriggerScore, keyed_scores
from schemas.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Next:
    """One camera of an event to label, why, and how uncertain it is, from 0 to 1.

    By "tracks" the value is the mean entropy in bits of whether its tracks are right; by
    "trigger" it is 1 less the share of the trigger's events whose scores lie between that of
    the event and the threshold. camera is None where no model looked at the event.
    """

    event_id: str
    camera: str | None
    reason: Literal["tracks", "trigger"]
    value: float


def next_to_label(
    events: pa.Table,
    views: pa.Table,
    tracks: pa.Table,
    standing: pa.Table,
    *,
    triggers: Sequence[TriggerScore],
    curves: Mapping[Model, Curve],
    most: int,
) -> tuple[Next, ...]:
    """Orders what has no verdict by how uncertain it is.

    The two reasons take turns, the most uncertain of each first, for their values have no
    common scale.

    Args:
        events: rows of `events`.
        views: rows of `views`, which say what cameras an event has.
        tracks: rows of `tracks`.
        standing: rows of resolve.standing.
        triggers: the scores of the triggers.
        curves: the probabilities of tracks, by model; the score itself where there is none.
        most: how many to return at most.

    Returns:
        Cameras of events without a verdict, each once.
    """
    voted = standing.filter(pc.is_valid(standing.column("verdict")))
    done = set(_views(voted))
    judged = {event_id for event_id, _ in done}
    entropy = view_entropy(tracks, curves)
    by_tracks = [
        Next(*view, "tracks", value)
        for view, value in sorted(entropy.items(), key=lambda one: (-one[1], one[0]))
        if view not in done
    ]
    cameras: dict[str, str] = {}
    for event_id, camera in sorted(_views(views), key=lambda one: (-entropy.get(one, 0.0), one)):
        cameras.setdefault(event_id, camera)
    by_trigger = [
        Next(event_id, cameras.get(event_id), "trigger", value)
        for event_id, value in _nearness(events, triggers)
        if event_id not in judged
    ]
    by_trigger.sort(key=lambda one: (-one.value, one.event_id))
    return tuple(islice(_in_turns(by_tracks, by_trigger), most))


def _in_turns(*orders: Iterable[Next]) -> Iterator[Next]:
    """Yields the first of every order, then the next ones, without cameras that were yielded."""
    seen = set()
    rest = [iter(order) for order in orders]
    while rest:
        for order in list(rest):
            new = next((one for one in order if (one.event_id, one.camera) not in seen), None)
            if new is None:
                rest.remove(order)
            else:
                seen.add((new.event_id, new.camera))
                yield new


def view_entropy(tracks: pa.Table, curves: Mapping[Model, Curve]) -> dict[View, float]:
    """Returns the mean entropy in bits of whether the tracks of each view are right.

    It is the mean and not the sum, which would only choose the most crowded views.

    Args:
        tracks: rows of `tracks`.
        curves: the probabilities of tracks, by model; the score itself where there is none.
    """
    score = tracks["score"].to_numpy()
    probability = np.clip(score, 0.0, 1.0)
    for model, curve in curves.items():
        own = of_model(tracks, model)
        probability[own] = curve(score[own])
    bits: FloatArray = (entr(probability) + entr(1 - probability)) / np.log(2)
    by_view: defaultdict[View, list[float]] = defaultdict(list)
    for view, value in zip(_views(tracks), bits.tolist(), strict=True):
        by_view[view].append(value)
    return {view: fmean(each) for view, each in by_view.items()}


def _nearness(events: pa.Table, triggers: Sequence[TriggerScore]) -> Iterator[tuple[str, float]]:
    """Yields how near to its trigger's threshold each event is.

    Scores of triggers have units of their own; shares of events can be compared. The threshold
    of a trigger that nobody judged may be anywhere, and where all of a trigger's answers are
    wrong, there is none to be near to.
    """
    by_key: defaultdict[Key, list[tuple[str, float]]] = defaultdict(list)
    for key, event_id, score in keyed_scores(events):
        by_key[key].append((event_id, score))
    for trigger in triggers:
        own = by_key[trigger.key]
        scores = np.array([score for _, score in own])
        if trigger.threshold is not None:
            ordered = np.sort(scores)
            place = np.searchsorted(ordered, scores)
            at = np.searchsorted(ordered, trigger.threshold.score)
            value = 1 - np.abs(place - at) / len(own)
        elif trigger.right + trigger.wrong == 0:
            value = np.ones(len(own))
        else:
            continue
        yield from zip((event_id for event_id, _ in own), value.tolist(), strict=True)


def _views(rows: pa.Table) -> list[View]:
    return [(event_id, camera) for event_id, camera in values(rows, "event_id", "camera")]
