"""What to label next, of events whose uncertainty is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from auto_label.review.calibration import Curve
from auto_label.review.relabel import Next, next_to_label
from auto_label.review.resolve import event_verdicts, standing
from auto_label.review.triggers import trigger_scores
from schemas.tables import TABLES
from tests.auto_label.review.simulated import SOURCE, VERSION, answer, events, verdicts

LABEL = {"source": SOURCE, "source_version": VERSION, "spec_digest": "s"}
VIEW = {"width_px": 1, "height_px": 1, "t_ns": [0]}
TRACK = {"class": "car", "start_ns": 0, "end_ns": 0, "boxes": 1}


def order(
    scores: Mapping[tuple[str, str], Sequence[float]],
    mined: pa.Table,
    *answers: dict[str, Any],
    curves: Mapping[tuple[str, str], Curve] | None = None,
    most: int = 100,
) -> tuple[Next, ...]:
    """Orders events by the scores of the tracks of their cameras and by those of the trigger."""
    views, tracks = [], []
    for (event_id, camera), each in scores.items():
        view = {"event_id": event_id, "camera": camera, **LABEL}
        views.append({**view, **VIEW})
        tracks += [
            {**view, **TRACK, "track_id": number, "score": score}
            for number, score in enumerate(each)
        ]
    table = verdicts(*answers)
    return next_to_label(
        mined,
        pa.Table.from_pylist(views, schema=TABLES["views"].schema),
        pa.Table.from_pylist(tracks, schema=TABLES["tracks"].schema),
        standing(table),
        triggers=trigger_scores(mined, event_verdicts(table)),
        curves=curves or {},
        most=most,
    )


def test_the_most_uncertain_tracks_come_first() -> None:
    found = order(
        {("a", "front"): [1.0, 0.0], ("b", "front"): [0.5], ("c", "rear"): [0.5, 1.0]},
        events([], []),
    )
    assert found == (
        Next("b", "front", "tracks", 1.0),
        Next("c", "rear", "tracks", 0.5),
        Next("a", "front", "tracks", 0.0),
    )


def test_a_curve_says_what_is_uncertain_and_not_the_score() -> None:
    sure = Curve((0.0, 0.5, 1.0), (0.1, 0.9, 0.95))
    found = order(
        {("a", "front"): [0.5], ("b", "front"): [0.25]},
        events([], []),
        curves={(SOURCE, VERSION): sure},
    )
    bits = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
    assert [(one.event_id, pytest.approx(one.value)) for one in found] == [("b", 1), ("a", bits)]
    other = order({("a", "front"): [0.5]}, events([], []), curves={("other", VERSION): sure})
    assert other[0].value == 1.0


def test_events_near_the_threshold_come_first() -> None:
    """Half of the events lie between the best threshold, at 5, and event 0."""
    mined = events([f"{k}" for k in range(10)], range(10))
    given = [answer("5"), answer("9"), answer("1", verdict="wrong"), answer("8")]
    found = order({("4", "rear"): []}, mined, *given)
    assert [one.event_id for one in found] == ["4", "6", "3", "7", "2", "0"]
    assert [one.value for one in found] == pytest.approx([0.9, 0.9, 0.8, 0.8, 0.7, 0.5])
    assert {one.reason for one in found} == {"trigger"}
    assert [one.camera for one in found] == ["rear", *[None] * 5]


def test_a_trigger_that_nobody_judged_is_uncertain_and_one_that_is_always_wrong_is_not() -> None:
    new, wrong = events(["a"], [3]), events(["b", "c"], [3, 4], trigger="swerve")
    found = order({}, pa.concat_tables([new, wrong]), answer("b", verdict="wrong"))
    assert found == (Next("a", None, "trigger", 1.0),)


def test_reasons_take_turns_and_a_camera_is_listed_once() -> None:
    scores = {("a", "front"): [0.5], ("a", "rear"): [0.9], ("b", "front"): [0.1], ("c", "x"): []}
    found = order(scores, events(["a", "b", "c"], [1, 2, 3]))
    assert [(one.event_id, one.camera, one.reason) for one in found] == [
        ("a", "front", "tracks"),
        ("b", "front", "trigger"),
        ("a", "rear", "tracks"),
        ("c", "x", "trigger"),
    ]
    assert order(scores, events(["a", "b", "c"], [1, 2, 3]), most=2) == found[:2]
    assert order(scores, events(["a", "b", "c"], [1, 2, 3]), most=0) == ()


def test_what_has_a_verdict_is_not_listed() -> None:
    scores = {("a", "front"): [0.5], ("a", "rear"): [0.5], ("b", "front"): [0.5]}
    mined = events(["a", "b"], [1, 2])
    given = [answer("a"), answer("b", verdict=None), answer("b", "bo", skipped=True)]
    assert [(one.event_id, one.camera, one.reason) for one in order(scores, mined, *given)] == [
        ("a", "rear", "tracks"),
        ("b", "front", "trigger"),
    ]


def test_the_order_is_that_of_names_where_all_are_alike() -> None:
    scores = {(name, "front"): [0.5] for name in "dbca"}
    assert [one.event_id for one in order(scores, events([], []))] == list("abcd")
