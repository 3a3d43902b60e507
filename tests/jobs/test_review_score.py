"""`fleetmill review score`: the answers in a lake, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.lake.tables import Lake
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call
from tests.pipeline.lake.whole import make_whole
from tests.weights import offline


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake in which one event has boxes and an answer.

    The model has a box on two frames, and the reviewer left the first one.
    """
    with offline():
        return make_whole(tmp_path_factory.mktemp("whole"))


def test_answers_are_compared_with_triggers_and_labels(lake: Lake) -> None:
    done = call("review", "score", "--lake", lake.url, "--json")
    assert done.code == 0, done.err
    (trigger,) = [one for one in done.document["triggers"] if one["answered"]]
    assert (trigger["trigger"], trigger["right"], trigger["wrong"]) == ("honk", 1, 0)
    assert trigger["precision"]["value"] == 1
    assert trigger["precision"]["low"] < 0.5
    (scored,) = done.document["classes"]
    counts = [scored[f"{kind}_positives"] for kind in ("true", "false")]
    assert (scored["class_name"], counts, scored["false_negatives"]) == ("car", [1, 1], 0)
    assert (scored["precision"]["value"], scored["recall"]["value"]) == (0.5, 1.0)
    assert scored["mean_iou"] == pytest.approx(1.0)
    (reviewer,) = done.document["agreement"]["reviewers"]
    assert (reviewer["reviewer"], reviewer["answers"], reviewer["seconds"]) == ("ann", 1, 1.5)
    answered = {row["event_id"] for row in lake.read("verdicts").to_pylist()}
    assert not answered & {one["event_id"] for one in done.document["relabel"]}


def test_the_tables_say_the_same(lake: Lake) -> None:
    done = call("review", "score", "--lake", lake.url, "--lead", "ann", "--most", 1)
    assert done.code == 0, done.err
    assert "honk" in done.out
    assert "0.500" in done.out


def test_labels_of_another_policy_than_asked_for_are_not_scored(lake: Lake) -> None:
    done = call("review", "score", "--lake", lake.url, "--privacy", "none", "--json")
    assert done.code == 0
    assert not any(one["true_positives"] for one in done.document["classes"])


def test_without_answers_it_says_what_to_do(chain: Chain, tmp_path: Path) -> None:
    done = call("review", "score", "--lake", chain.lake)
    assert done.code == 2
    assert "fleetmill review pull" in done.err
    assert call("review", "score", "--lake", tmp_path / "none").code != 0
