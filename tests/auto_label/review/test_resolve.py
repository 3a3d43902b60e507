"""Which answers stand, whatever the order in which they came."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auto_label.review.resolve import (
    answered,
    counting,
    event_verdicts,
    known,
    standing,
    values,
)
from tests.auto_label.review.simulated import answer, box, verdicts


def stands(*rows: dict[str, Any], lead: str | None = None) -> Any:
    """What stands of the only event, as verdict, agreed, voters and the reviewer of the boxes."""
    (one,) = standing(verdicts(*rows), lead).to_pylist()
    return one["verdict"], one["agreed"], one["voters"], one["reviewer"]


def test_without_verdicts_nothing_stands() -> None:
    for rows in ([], [answer(skipped=True)], [answer(skipped=True, verdict=None)]):
        assert len(standing(verdicts(*rows))) == 0
        assert len(event_verdicts(verdicts(*rows))) == 0
        assert len(answered(verdicts(*rows))) == 0
    assert {"agreed", "voters"} <= set(standing(verdicts()).column_names)


def test_the_newest_state_of_an_annotation_counts() -> None:
    old, new = answer(verdict="wrong"), answer(updated_unix_ns=5, boxes=[box(3.0)])
    found = standing(verdicts(new, old)).to_pylist()
    assert [(one["verdict"], one["boxes"]) for one in found] == [("right", new["boxes"])]


def test_an_annotation_that_was_given_to_another_reviewer_is_theirs() -> None:
    rows = answer(annotation="7"), answer(reviewer="bo", annotation="7", updated_unix_ns=1)
    assert stands(*rows) == ("right", 1, 1, "bo")


def test_of_a_reviewer_and_task_the_newest_annotation_counts() -> None:
    rows = [answer(annotation="1", verdict="wrong"), answer(annotation="2", updated_unix_ns=1)]
    assert stands(*rows) == ("right", 1, 1, "ada")
    skipped = answer(annotation="3", updated_unix_ns=2, skipped=True)
    assert len(standing(verdicts(*rows, skipped))) == 0
    assert len(counting(verdicts(*rows, skipped))) == 1


def test_a_reviewer_has_one_vote_however_many_tasks_show_the_camera() -> None:
    rows = [answer(task=f"{k}", verdict="wrong", updated_unix_ns=k) for k in range(3)]
    assert stands(*rows, answer(reviewer="bo", updated_unix_ns=9)) == ("right", 1, 2, "bo")


def test_the_verdict_of_most_reviewers_stands_over_newer_ones_and_the_lead() -> None:
    rows = [answer(reviewer=name, updated_unix_ns=1) for name in ("ada", "bo")]
    last = answer(reviewer="cy", verdict="wrong", updated_unix_ns=5)
    assert stands(*rows, last, lead="cy") == ("right", 2, 3, "bo")


def test_between_equal_counts_the_lead_decides_else_the_newest() -> None:
    rows = [
        answer(reviewer="ada", verdict="wrong", updated_unix_ns=1),
        answer(reviewer="bo", updated_unix_ns=2),
    ]
    assert stands(*rows) == ("right", 1, 2, "bo")
    assert stands(*rows, lead="ada") == ("wrong", 1, 2, "ada")
    assert stands(*rows, lead="nobody") == ("right", 1, 2, "bo")


def test_a_lead_who_gave_none_of_the_tied_verdicts_does_not_decide() -> None:
    names = [("ada", "wrong"), ("bo", "wrong"), ("cy", "right"), ("di", "right")]
    rows = [
        answer(reviewer=name, verdict=verdict, updated_unix_ns=age)
        for age, (name, verdict) in enumerate(names)
    ]
    unsure = answer(reviewer="eve", verdict="unsure", updated_unix_ns=9)
    assert stands(*rows, unsure, lead="eve") == ("right", 2, 5, "di")


def test_the_boxes_are_those_of_the_lead_if_they_agree() -> None:
    rows = [answer(reviewer=name, updated_unix_ns=k) for k, name in enumerate(("ada", "bo"))]
    assert stands(*rows, lead="ada")[-1] == "ada"
    assert stands(*rows)[-1] == "bo"


def test_equally_old_answers_are_decided_by_reviewer_and_annotation() -> None:
    rows = [answer(reviewer="ada", verdict="wrong"), answer(reviewer="bo")]
    assert stands(*rows) == stands(*rows[::-1]) == ("right", 1, 2, "bo")
    both = [answer(annotation="1", verdict="wrong"), answer(annotation="2")]
    assert stands(*both) == stands(*both[::-1]) == ("right", 1, 1, "ada")


def test_boxes_stand_without_a_verdict() -> None:
    rows = [answer(reviewer=name, verdict=None, updated_unix_ns=k) for k, name in enumerate("ab")]
    skipped = answer(reviewer="c", skipped=True, updated_unix_ns=7)
    assert stands(*rows, skipped) == (None, 0, 0, "b")
    assert stands(*rows, answer(reviewer="d", updated_unix_ns=-1)) == ("right", 1, 1, "d")


def test_all_unsure_is_a_verdict() -> None:
    rows = [answer(reviewer=name, verdict="unsure") for name in ("ada", "bo")]
    assert stands(*rows) == ("unsure", 2, 2, "bo")
    assert event_verdicts(verdicts(*rows))["verdict"].to_pylist() == ["unsure"]


def test_each_camera_has_its_answer_and_the_event_one_verdict() -> None:
    rows = [
        answer("b"),
        answer("a", camera="rear", verdict="wrong", updated_unix_ns=1),
        answer("a", camera="front", verdict="right"),
        answer("a", "bo", camera="front", verdict="right"),
    ]
    found = standing(verdicts(*rows)).to_pylist()
    assert [(one["event_id"], one["camera"], one["verdict"]) for one in found] == [
        ("a", "front", "right"),
        ("a", "rear", "wrong"),
        ("b", "front", "right"),
    ]
    # The newest vote of ada is by the rear camera, that of bo by the front one: a tie.
    assert event_verdicts(verdicts(*rows)).to_pylist() == [
        {"event_id": "a", "verdict": "wrong", "agreed": 1, "voters": 2},
        {"event_id": "b", "verdict": "right", "agreed": 1, "voters": 1},
    ]
    assert event_verdicts(verdicts(*rows), lead="bo")["verdict"].to_pylist() == ["right", "right"]


def test_a_camera_that_does_not_show_it_does_not_make_an_event_unsure() -> None:
    rows = [answer(), answer(camera="rear", verdict="unsure", updated_unix_ns=9)]
    assert event_verdicts(verdicts(*rows))["verdict"].to_pylist() == ["right"]


def test_a_verdict_that_nobody_can_give_is_an_error() -> None:
    with pytest.raises(ValueError, match="'maybe'"):
        standing(verdicts(answer(verdict="maybe")))


few = st.sampled_from
rows_of = st.lists(
    st.builds(
        lambda event, reviewer, changed: answer(event, reviewer, **changed),
        few(["a", "b"]),
        few(["ada", "bo", "cy"]),
        st.fixed_dictionaries(
            {
                "camera": few(["front", "rear"]),
                "verdict": few(["right", "wrong", "unsure", None]),
                "skipped": st.booleans(),
                "updated_unix_ns": st.integers(0, 3),
                "annotation": few(["1", "2", "3"]),
                "comment": few([None, "late"]),
                "seconds": few([None, 1.0]),
            }
        ),
    ),
    max_size=12,
)
leads = few([None, "ada", "bo"])


@settings(max_examples=60, deadline=None)
@given(rows_of.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))), leads)
def test_what_stands_does_not_depend_on_the_order_of_rows(
    rows: tuple[list[dict[str, Any]], list[dict[str, Any]]], lead: str | None
) -> None:
    one, two = (verdicts(*each) for each in rows)
    assert standing(one, lead).equals(standing(two, lead))
    assert event_verdicts(one, lead).equals(event_verdicts(two, lead))
    assert counting(one).equals(counting(two))


@settings(max_examples=60, deadline=None)
@given(rows_of.filter(bool), leads, few(["right", "wrong", "unsure", None]), st.data())
def test_an_older_state_changes_nothing(
    rows: list[dict[str, Any]], lead: str | None, verdict: str | None, data: st.DataObject
) -> None:
    of = data.draw(few(rows))
    older = {**of, "verdict": verdict, "updated_unix_ns": -1, "boxes": [box(1.0)]}
    before, after = verdicts(*rows), verdicts(*rows, older)
    assert standing(before, lead).equals(standing(after, lead))
    assert event_verdicts(before, lead).equals(event_verdicts(after, lead))


@settings(max_examples=60, deadline=None)
@given(rows_of, leads)
def test_counts_add_up(rows: list[dict[str, Any]], lead: str | None) -> None:
    table: pa.Table = verdicts(*rows)
    for one in standing(table, lead).to_pylist():
        assert 0 <= one["agreed"] <= one["voters"] <= 3
        assert (one["verdict"] is None) == (one["voters"] == 0)
        assert not one["skipped"]


def test_known_is_what_two_reviewers_or_the_lead_said() -> None:
    rows = verdicts(
        answer("two"),
        answer("two", "bo"),
        answer("one"),
        answer("lead", "eve", verdict="wrong"),
        answer("unsure", "eve", verdict="unsure"),
        answer("tied"),
        answer("tied", "bo", verdict="wrong"),
        answer("outvoted", "eve"),
        answer("outvoted", verdict="wrong"),
        answer("outvoted", "bo", verdict="wrong"),
    )
    found = known(standing(rows, "eve"), "eve")
    assert values(found, "event_id", "verdict") == [
        ("lead", "wrong"),
        ("outvoted", "wrong"),
        ("two", "right"),
    ]
    assert values(known(standing(rows)), "event_id") == [("outvoted",), ("two",)]
