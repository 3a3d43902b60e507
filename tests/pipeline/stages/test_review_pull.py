"""Review pull: answers become rows, each state once, and nothing else is changed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ReviewPullConfig, ReviewPushConfig
from pipeline.graph.execute import execute
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from pipeline.stages.review_pull import plan_review_pull
from pipeline.stages.review_push import plan_review_push
from schemas.errors import UsageError
from tests.auto_label.review.reviewed import annotated, choice, drawn
from tests.pipeline.stages.conftest import Small

Exported = list[dict[str, Any]]


@pytest.fixture
def exported(labelled: Small, tmp_path: Path) -> Exported:
    """An export in which each task has an answer, and the first one a box too."""
    media = tmp_path / "media"
    labelled.run(plan_review_push, ReviewPushConfig(out=str(media)))
    tasks = [json.loads(path.read_text()) for path in sorted(media.glob("*.json"))]
    found = [
        annotated(task, choice("verdict", "right"), id=number) for number, task in enumerate(tasks)
    ]
    placed = {"frame": 3, "enabled": False, "x": 10, "y": 20, "width": 30, "height": 40}
    found[0]["annotations"][0]["result"].append(drawn("n", [placed], "car"))
    return found


def config(exported: object, folder: Path) -> ReviewPullConfig:
    path = folder / "export.json"
    path.write_text(json.dumps(exported))
    return ReviewPullConfig(input=str(path))


def test_each_answer_is_a_row_and_the_lake_holds_its_promises(
    labelled: Small, exported: Exported, tmp_path: Path
) -> None:
    labelled.run(plan_review_pull, config(exported, tmp_path))
    rows = {row["task"]: row for row in labelled.rows("verdicts")}
    assert len(rows) == len(exported)
    assert {row["verdict"] for row in rows.values()} == {"right"}
    data = exported[0]["data"]
    (box,) = rows[data["fleetmill"]]["boxes"]
    assert box["t_ns"] == data["frames_ns"][2]
    assert (box["x_px"], box["y_px"]) == pytest.approx((6.4, 9.6))
    assert verify(labelled.url).problems == ()
    assert not list(Path(labelled.url, "work").glob("*/*"))


def test_an_answer_is_taken_once_and_a_changed_one_again(
    labelled: Small, exported: Exported, tmp_path: Path
) -> None:
    """Both states stay."""
    labelled.run(plan_review_pull, config(exported, tmp_path))
    assert labelled.run(plan_review_pull, config(exported, tmp_path)).tasks == 0
    changed = copy.deepcopy(exported)
    changed[1]["annotations"][0] |= {
        "updated_at": "2026-11-02T00:00:00Z",
        "result": [choice("verdict", "wrong")],
    }
    assert labelled.run(plan_review_pull, config(changed, tmp_path)).tasks == 1
    key = exported[1]["data"]["fleetmill"]
    states = [row["verdict"] for row in labelled.rows("verdicts") if row["task"] == key]
    assert sorted(states) == ["right", "wrong"]
    assert verify(labelled.url).problems == ()


def test_two_pulls_at_once_double_nothing(
    labelled: Small, exported: Exported, tmp_path: Path
) -> None:
    """Both are planned before either is committed, one of fewer answers."""
    works = []
    for number, part in enumerate((exported, exported[:1])):
        (tmp_path / str(number)).mkdir()
        lake = Lake.open(labelled.url)
        chosen = config(part, tmp_path / str(number))
        works.append((lake, chosen, plan_review_pull(lake, chosen)))
    for lake, chosen, work in works:
        execute(lake, "review_pull", chosen.model_dump(mode="json"), work)
    assert len(labelled.rows("verdicts")) == len(exported)
    assert verify(labelled.url).problems == ()


def test_what_others_put_into_the_project_is_left_out(
    labelled: Small, exported: Exported, tmp_path: Path
) -> None:
    foreign = [{"id": 1, "data": {"text": "a"}, "annotations": [{}]}, {"id": 2}, 5, None]
    report = labelled.run(plan_review_pull, config([*foreign, *exported], tmp_path))
    assert any(note.startswith("4 tasks of") for note in report.notes)
    assert len(labelled.rows("verdicts")) == len(exported)
    assert not labelled.rows("rejects")


def test_a_bad_answer_costs_itself_alone(
    labelled: Small, exported: Exported, tmp_path: Path
) -> None:
    """Of a task that was changed, of another lake, without a time, or with a wrong number."""
    bad = [copy.deepcopy(exported[number % len(exported)]) for number in range(5)]
    for number, one in enumerate(bad):
        one["annotations"][0]["id"] = 100 + number
    bad[0]["data"]["frames_ns"][0] = -1
    bad[1]["data"]["drive_id"] = "another"
    bad[2]["annotations"][0]["updated_at"] = "soon"
    bad[3]["annotations"][0]["lead_time"] = "long"
    bad[4]["annotations"] = "none"
    labelled.run(plan_review_pull, config([*exported, *bad], tmp_path))
    rejects = labelled.rows("rejects")
    assert len(rejects) == 5
    for reject in rejects:
        assert (reject["stage"], reject["reason"]) == ("review_pull", "corrupt")
    assert len(labelled.rows("verdicts")) == len(exported)
    assert verify(labelled.url).problems == ()
    labelled.run(plan_review_pull, config([*exported, *bad], tmp_path))
    assert len(labelled.rows("rejects")) == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [("{}", "is dict, not a list"), ("[", "cannot be read"), ("[" * 100_000, "cannot be read")],
)
def test_a_file_that_is_no_export_is_bad_usage(
    labelled: Small, tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "export.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=words):
        plan_review_pull(labelled.lake(), ReviewPullConfig(input=str(path)))
