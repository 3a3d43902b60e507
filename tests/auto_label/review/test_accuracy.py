"""Accuracy of models against the rates at which they and the reviewers err."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from auto_label.review.accuracy import ClassScore, class_scores, compare
from schemas.arrays import FloatArray
from tests.auto_label.review.simulated import (
    CLASSES,
    SOURCE,
    Drawn,
    Scenes,
    answers,
    draw,
    labels,
    replaced,
    verdicts,
)

REPETITIONS = 200


def scores(scenes: Scenes, model: Drawn, reviewed: Drawn) -> dict[str, ClassScore]:
    """The scores of the model, by class."""
    views, boxes, _ = labels(scenes, model)
    (compared,) = compare(answers(scenes, reviewed, ["right"] * scenes.events), views, boxes)
    return {score.class_name: score for score in class_scores(compared)}


def test_a_model_that_draws_what_the_reviewers_draw_is_perfect() -> None:
    scenes = Scenes(6)
    drawn = draw(np.random.default_rng(1), scenes)
    for score in scores(scenes, drawn, drawn).values():
        assert (score.true_positives, score.false_positives, score.false_negatives) == (60, 0, 0)
        assert score.precision
        assert score.recall
        assert score.precision.value == score.recall.value == score.mean_iou == 1.0
        assert (score.source, score.events) == (SOURCE, 6)


def test_errors_of_reviewers_are_found_at_their_rates() -> None:
    """Missed and shifted boxes and such of nothing, against a model that is always right."""
    scenes = Scenes(400)
    dice = np.random.default_rng(2)
    missed, shifted, extra = 0.15, 0.1, 0.2
    reviewed = draw(dice, scenes, missed=missed, shifted=shifted, extra=extra, nudge_px=6.0)
    found = scores(scenes, draw(dice, scenes), reviewed)
    both = (1 - missed) * (1 - shifted)
    for name in CLASSES:
        score = found[name]
        assert score.precision
        assert score.recall
        assert score.precision.low <= both <= score.precision.high
        # Of two objects and one place without any in each class.
        share = 2 * both / (2 * (1 - missed) + extra)
        assert score.recall.low <= share <= score.recall.high
        assert score.precision.high - score.precision.low < 0.06
        assert score.mean_iou == pytest.approx(54 / 66)


def test_intervals_cover_the_rates_of_a_model_that_differs_from_event_to_event() -> None:
    scenes = Scenes(40)
    dice = np.random.default_rng(3)
    truth = draw(dice, scenes)
    # A quarter of the objects is missed and in three of ten places there is a false one; both
    # are on all frames of their event.
    recall, precision = 0.75, 1.5 / 1.8
    covered = np.zeros(2)
    for _ in range(REPETITIONS):
        missed: FloatArray = dice.beta(2, 6, scenes.events)
        extra: FloatArray = dice.beta(1.5, 3.5, scenes.events)
        model = draw(dice, scenes, missed=missed, extra=extra)
        score = scores(scenes, model, truth)["car"]
        assert score.precision
        assert score.recall
        covered += [
            score.precision.low <= precision <= score.precision.high,
            score.recall.low <= recall <= score.recall.high,
        ]
    assert (covered >= 0.9 * REPETITIONS).all(), covered


def test_only_frames_count_that_both_looked_at() -> None:
    scenes = Scenes(1, objects=2, frames=4)
    drawn = draw(np.random.default_rng(1), scenes)
    views, boxes, _ = labels(scenes, drawn)
    given = answers(scenes, drawn, ["right"])
    second = scenes.t_ns[1:3].tolist()
    for answered, looked in (
        (replaced(given, "frames_ns", second), views),
        (given, replaced(views, "t_ns", second)),
    ):
        (compared,) = compare(answered, looked, boxes)
        assert set(compared.found.t_ns.tolist()) == set(second)
        assert set(compared.reviewed.t_ns.tolist()) == set(second)
        assert len(compared.found.t_ns) == len(compared.reviewed.t_ns) == 4


def test_a_model_that_finds_nothing_misses_all_and_one_that_did_not_look_nothing() -> None:
    scenes = Scenes(3)
    drawn = draw(np.random.default_rng(1), scenes)
    views, boxes, _ = labels(scenes, drawn)
    given = answers(scenes, drawn, ["right"] * 3)
    (compared,) = compare(given, views, boxes.slice(0, 0))
    for score in class_scores(compared):
        assert (score.false_negatives, score.precision, score.mean_iou) == (30, None, None)
        assert score.recall
        assert score.recall.value == 0.0
    (compared,) = compare(given, views.slice(0, 1), boxes)
    assert sum(score.true_positives for score in class_scores(compared)) == 20
    assert compare(given, views.slice(0, 0), boxes) == []
    assert compare(verdicts(), views, boxes) == []


def test_another_class_is_a_false_positive_and_a_false_negative() -> None:
    scenes = Scenes(1, objects=1, frames=1)
    drawn = draw(np.random.default_rng(1), scenes)
    views, boxes, _ = labels(scenes, drawn)
    truck = replaced(boxes, "class", "truck")
    (compared,) = compare(answers(scenes, drawn, ["right"]), views, truck)
    car, other = class_scores(compared)
    assert (car.class_name, car.false_negatives, car.false_positives) == ("car", 1, 0)
    assert (other.class_name, other.false_negatives, other.false_positives) == ("truck", 0, 1)


def test_models_are_scored_apart() -> None:
    scenes = Scenes(2)
    dice = np.random.default_rng(1)
    drawn = draw(dice, scenes)
    one, two = labels(scenes, drawn), labels(scenes, draw(dice, scenes, missed=1.0), source="a")
    views, boxes = pa.concat_tables([one[0], two[0]]), pa.concat_tables([one[1], two[1]])
    found = compare(answers(scenes, drawn, ["right"] * 2), views, boxes)
    assert [compared.source for compared in found] == ["a", SOURCE]
    assert [len(compared.found.t_ns) for compared in found] == [0, 40]


def test_labels_of_two_specifications_are_an_error() -> None:
    scenes = Scenes(2)
    drawn = draw(np.random.default_rng(1), scenes)
    views, boxes, _ = labels(scenes, drawn)
    other = replaced(boxes, "spec_digest", "t")
    given = answers(scenes, drawn, ["right"] * 2)
    with pytest.raises(ValueError, match=r"2 events .* event 0000 .* pass those of one"):
        compare(given, views, pa.concat_tables([boxes, other]))
    assert len(compare(verdicts(), views, pa.concat_tables([boxes, other]))) == 0
