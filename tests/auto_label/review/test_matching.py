"""Matching against every frame assigned on its own, and look-ups against a dictionary."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from auto_label.overlap import iou
from auto_label.review.matching import (
    MATCH_IOU,
    Lookup,
    frames_of,
    match,
    match_boxes,
    reviewed_boxes,
    views_of,
)
from schemas.arrays import FloatArray, IntArray
from tests.auto_label.review.simulated import answer, box, verdicts

pairs_of = st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), max_size=20)


@settings(deadline=None)
@given(pairs_of, pairs_of)
def test_a_lookup_finds_what_a_dictionary_finds(
    known: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    def columns(rows: list[tuple[int, int]]) -> tuple[IntArray, IntArray]:
        table = np.array(rows, dtype=np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    rows = {pair: known.index(pair) for pair in known}
    found = Lookup(*columns(known)).find(*columns(asked))
    assert found.tolist() == [rows.get(pair, -1) for pair in asked]


def crowd(dice: np.random.Generator, count: int) -> tuple[IntArray, FloatArray]:
    """Boxes in 12 groups that overlap much."""
    xywh = np.column_stack([dice.uniform(0, 40, (count, 2)), dice.uniform(30, 50, (count, 2))])
    return dice.integers(0, 12, count), xywh


def assigned(
    group_a: IntArray, a: FloatArray, group_b: IntArray, b: FloatArray
) -> Iterator[tuple[int, float]]:
    """Yields the number of pairs of every group and the sum of their IoU."""
    for group in range(12):
        overlap = iou(a[group_a == group], b[group_b == group])
        worth = np.where(overlap >= MATCH_IOU, 100 + overlap, 0.0)
        chosen = worth[linear_sum_assignment(worth, maximize=True)]
        pairs = int((chosen > 0).sum())
        yield pairs, chosen.sum() - 100 * pairs


@pytest.mark.parametrize("seed", range(10))
def test_every_group_is_assigned_as_on_its_own(seed: int) -> None:
    dice = np.random.default_rng(seed)
    (group_a, a), (group_b, b) = crowd(dice, 70), crowd(dice, 50)
    found = match(group_a, a, group_b, b)
    assert len(set(found.first.tolist())) == len(set(found.second.tolist())) == len(found.iou)
    assert (group_a[found.first] == group_b[found.second]).all()
    assert found.iou.tolist() == [
        iou(a[[i]], b[[j]])[0, 0] for i, j in zip(found.first, found.second, strict=True)
    ]
    assert (found.iou >= MATCH_IOU).all()
    for group, (pairs, total) in enumerate(assigned(group_a, a, group_b, b)):
        own = group_a[found.first] == group
        assert own.sum() == pairs
        assert found.iou[own].sum() == pytest.approx(total)


def test_more_pairs_are_better_than_closer_ones() -> None:
    """Two pairs that fit well would leave one box on each side alone."""
    a = np.array([[0.0, 0, 60, 60], [20, 0, 60, 60], [40, 0, 60, 60]])
    b = a + np.array([18.0, 0, 0, 0])
    none = np.zeros(3, dtype=np.int64)
    found = match(none, a, none, b)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]


def test_nothing_matches_nothing() -> None:
    none, some = np.empty((0, 4)), np.array([[0.0, 0, 5, 5]])
    zero = np.zeros(1, dtype=np.int64)
    for a, b in ((none, none), (none, some), (some, none), (some, some + 99)):
        assert len(match(zero[: len(a)], a, zero[: len(b)], b).iou) == 0


def test_boxes_match_on_one_frame_of_one_view_and_class() -> None:
    base = [box(0), box(100, t_ns=5), box(200, name="person")]
    other = [box(0, t_ns=5), box(102, t_ns=5), box(200)]
    one = verdicts(answer("a", boxes=base), answer("b", boxes=[box(0)]))
    two = verdicts(answer("a", boxes=other), answer("b"))
    found = match_boxes(reviewed_boxes(one), reviewed_boxes(two))
    assert (found.first.tolist(), found.second.tolist()) == ([1], [1])


def test_rows_find_the_answer_on_their_camera() -> None:
    table = verdicts(answer("a", frames_ns=[3, 4]), answer("a", camera="rear", frames_ns=[5]))
    view, t_ns = frames_of(table)
    assert (view.tolist(), t_ns.tolist()) == ([0, 0, 1], [3, 4, 5])
    asked = verdicts(answer("a", camera="rear"), answer("c"), answer("a"))
    assert views_of(asked, table).tolist() == [1, -1, 0]
    assert views_of(asked, verdicts()).tolist() == [-1, -1, -1]
    assert len(frames_of(verdicts())[0]) == len(reviewed_boxes(verdicts()).view) == 0
