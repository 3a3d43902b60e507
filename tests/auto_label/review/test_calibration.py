"""Calibration of models whose tracks are right at rates that are known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auto_label.review.accuracy import Compared, compare
from auto_label.review.calibration import Calibration, Judged, calibrate, fit, judge
from auto_label.review.matching import Boxes
from schemas.arrays import BoolArray, FloatArray
from tests.auto_label.review.simulated import (
    Drawn,
    Scenes,
    answer,
    answers,
    draw,
    labels,
    replaced,
    verdicts,
)

_NONE = np.zeros(0, dtype=np.int64)
_BOXES = Boxes(_NONE, _NONE, _NONE, np.zeros(0, dtype=object), np.zeros((0, 4)))
MODEL = Compared("model", "1", _NONE, _BOXES, np.zeros(0), _BOXES)


def judged(dice: np.random.Generator, events: int, each: int = 5) -> Judged:
    """Tracks that are right as often as the square of their score says."""
    score = dice.uniform(size=events * each)
    return Judged(
        score, dice.uniform(size=len(score)) < score**2, np.repeat(np.arange(events), each)
    )


def calibration(tracks: Judged) -> Calibration:
    found = calibrate(MODEL, tracks)
    assert found
    return found


def test_the_curve_is_that_by_which_tracks_were_drawn() -> None:
    found = calibration(judged(np.random.default_rng(1), 600))
    at: FloatArray = np.arange(1, 10) / 10
    np.testing.assert_allclose(found.curve(at), at**2, atol=0.08)


def test_the_error_before_is_that_of_the_scores_and_after_it_is_small() -> None:
    """The mean of |s - s^2| over uniform scores is 1/6."""
    found = calibration(judged(np.random.default_rng(2), 600))
    assert found.error_before == pytest.approx(1 / 6, abs=0.03)
    assert found.error_after is not None
    assert found.error_after < 0.04
    assert sum(one.right.trials for one in found.before) == found.tracks == 3000
    assert sum(one.right.trials for one in found.after) == 3000
    assert sum(one.right.hits for one in found.after) == found.right


def test_bins_cover_the_probability_of_their_tracks() -> None:
    dice = np.random.default_rng(3)
    covered, count = 0, 0
    for _ in range(30):
        for one in calibration(judged(dice, 150)).before:
            assert one.low <= one.stated <= one.high
            # The mean of s^2 over a tenth, of which a bin has about as many everywhere.
            mean = (one.high**3 - one.low**3) / (3 * (one.high - one.low))
            covered += one.right.low <= mean <= one.right.high
            count += 1
    assert covered >= 0.9 * count


def test_probabilities_are_of_other_events() -> None:
    """Of two events, one with right tracks and one with wrong ones, each tells of the other."""
    event = np.repeat(np.array([0, 1]), 9)
    found = calibration(Judged(np.full(18, 0.5), event == 0, event))
    assert [one.stated for one in found.after] == pytest.approx([0.05, 0.95])
    assert [one.right.value for one in found.after] == [1.0, 0.0]
    assert found.error_after == pytest.approx(0.95)


def test_one_event_has_no_error_after_and_no_tracks_no_calibration() -> None:
    found = calibration(judged(np.random.default_rng(5), 1))
    assert (found.after, found.error_after) == ((), None)
    empty = np.zeros(0)
    assert calibrate(MODEL, Judged(empty, empty > 0, empty.astype(np.int64))) is None


@pytest.mark.parametrize("right", [0, 3, 8])
def test_with_one_score_the_probability_is_that_of_jeffreys(right: int) -> None:
    curve = fit(np.full(8, 0.4), np.arange(8) < right)
    assert curve.scores == (0.4,)
    assert curve.probabilities == pytest.approx([(right + 0.5) / 9])


@pytest.mark.parametrize("all_right", [True, False])
def test_where_all_are_alike_the_score_says_nothing(all_right: bool) -> None:
    curve = fit(np.arange(20) / 20, np.full(20, all_right))
    assert curve.probabilities == pytest.approx([20.5 / 21 if all_right else 0.5 / 21] * 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40))
def test_curves_rise_and_never_say_never(rows: list[tuple[int, bool]]) -> None:
    score: FloatArray = np.array([row[0] / 9 for row in rows])
    right: BoolArray = np.array([row[1] for row in rows])
    stated = fit(score, right)(np.arange(-20, 40) / 20)
    assert (np.diff(stated) >= 0).all()
    assert stated[0] > 0
    assert stated[-1] < 1


def test_knots_are_where_the_curve_bends() -> None:
    dice = np.random.default_rng(6)
    tracks = judged(dice, 100)
    curve = fit(tracks.score, tracks.right)
    assert len(curve.scores) < 100
    assert (np.diff(curve.scores) > 0).all()


def judge_all(scenes: Scenes, model: Drawn, reviewed: Drawn) -> Judged:
    views, boxes, tracks = labels(scenes, model, score=_scores(model))
    given = answers(scenes, reviewed, ["right"] * scenes.events)
    (compared,) = compare(given, views, boxes)
    return judge(compared, tracks, given)


def _scores(drawn: Drawn) -> FloatArray:
    """Scores of the tracks that rise with their place."""
    tracks = int((drawn.t_ns == 0).sum())
    return np.asarray(np.arange(tracks) / tracks)


def test_tracks_are_right_where_a_reviewer_has_them() -> None:
    scenes = Scenes(50)
    dice = np.random.default_rng(7)
    model = draw(dice, scenes, missed=0.3, extra=0.5)
    found = judge_all(scenes, model, draw(dice, scenes))
    first = model.t_ns == 0
    assert found.right.tolist() == (model.track_id[first] <= scenes.objects).tolist()
    assert found.event.tolist() == model.event[first].tolist()
    assert found.score.tolist() == _scores(model).tolist()


@pytest.mark.parametrize(("kept", "right"), [(1, False), (2, True), (4, True)])
def test_half_of_the_boxes_are_enough(kept: int, right: bool) -> None:
    scenes = Scenes(1, objects=1, frames=4)
    drawn = draw(np.random.default_rng(1), scenes)
    some = slice(0, kept)
    partly = Drawn(
        drawn.event[some],
        drawn.track_id[some],
        drawn.t_ns[some],
        drawn.name[some],
        drawn.xywh[some],
    )
    assert judge_all(scenes, drawn, partly).right.tolist() == [right]


def test_boxes_without_a_track_are_an_error() -> None:
    scenes = Scenes(2)
    drawn = draw(np.random.default_rng(1), scenes)
    views, boxes, tracks = labels(scenes, drawn)
    given = answers(scenes, drawn, ["right"] * 2)
    (compared,) = compare(given, views, boxes)
    with pytest.raises(ValueError, match="20 boxes of model have no track"):
        judge(compared, tracks.slice(0, 4), given)
    both = pa.concat_tables([tracks, replaced(tracks, "spec_digest", "t")])
    with pytest.raises(ValueError, match="several specifications"):
        judge(compared, both, given)


def test_answers_without_frames_judge_no_tracks() -> None:
    scenes = Scenes(1)
    views, boxes, _ = labels(scenes, draw(np.random.default_rng(1), scenes))
    assert compare(verdicts(answer("event 0000")), views, boxes) == []
