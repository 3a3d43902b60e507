"""What labellers get to see: the order, the quotas and the control tasks."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from auto_label.review.tasks import task_key
from pipeline.config import MineConfig, ReviewPullConfig, ReviewPushConfig
from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import read_rows
from pipeline.stages.label import plan_label
from pipeline.stages.mine import plan_mine
from pipeline.stages.review_choice import ORDER, choose, ordered_tasks
from pipeline.stages.review_pull import plan_review_pull
from pipeline.stages.review_push import plan_review_push
from pipeline.stages.selection import latest_samples
from schemas.errors import UsageError
from schemas.tables import TABLES
from tests.auto_label.review.reviewed import annotated, choice
from tests.pipeline.stages.conftest import LABEL, Small
from tests.weights import offline

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def labelled_once(mined_once: Small, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A lake with more events than that of the other tests."""
    folder = tmp_path_factory.mktemp("events")
    shutil.copytree(mined_once.url, folder / "lake")
    small = Small(mined_once.fleet, str(folder / "lake"))
    small.run(plan_mine, MineConfig(params={"uniform_sample": {"every_s": 3.0}}))
    with offline():
        small.run(plan_label, LABEL)
    assert len(selection(small.lake())) >= 6
    return small


def selection(lake: Lake) -> Rows:
    query = "\n".join([latest_samples("blur"), "SELECT * FROM selection ORDER BY event_id"])
    rows: Rows = read_rows(lake, query).to_pylist()
    return rows


def config(**keys: Any) -> ReviewPushConfig:
    return ReviewPushConfig(out="media", **keys)


def chosen(lake: Lake, known: Sequence[str] = (), **keys: Any) -> list[str]:
    """Returns the events that are chosen, one camera each."""
    rows = selection(lake)
    names = {task_key(row["event_id"], "front"): row["event_id"] for row in rows}
    keyed = {event_id: key for key, event_id in names.items()}
    new, _ = choose(lake, rows, {keyed[one] for one in known}, config(**keys))
    return [names[key] for key in new]


def box(x: float, name: str = "car", model: str = "one", score: float = 0.9) -> dict[str, Any]:
    return {
        "camera": "front", "track_id": 1, "t_ns": 5, "class": name, "x_px": x, "y_px": 0.0,
        "w_px": 10.0, "h_px": 10.0, "score": score, "source": model, "source_version": "1",
    }  # fmt: skip


@pytest.fixture
def write(labelled: Small) -> Callable[[Mapping[int, Rows]], tuple[Lake, list[str]]]:
    """Gives events boxes, by their place, and returns the lake and all events.

    The models looked at one frame of each of these events.
    """

    def add(boxes: Mapping[int, Rows]) -> tuple[Lake, list[str]]:
        lake, rows = labelled.lake(), selection(labelled.lake())
        tables: dict[str, Rows] = {"boxes": [], "tracks": [], "views": []}
        for place, own in boxes.items():
            of = {"event_id": rows[place]["event_id"], "spec_digest": rows[place]["label_digest"]}
            for number, one in enumerate(own):
                track = one | of | {"track_id": number}
                tables["boxes"].append(track)
                span = {"start_ns": 5, "end_ns": 5, "boxes": 1}
                tables["tracks"].append(
                    {name: (track | span)[name] for name in TABLES["tracks"].schema.names}
                )
            for model in ("one", "two"):
                view = {"camera": "front", "width_px": 64, "height_px": 48, "t_ns": [5]}
                source = {"source": model, "source_version": "1", "spec_digest": model}
                tables["views"].append({"event_id": of["event_id"], **view, **source})
        files = [
            file
            for name, made in tables.items()
            for file in lake.write(
                name, TABLES[name].conform(pa.Table.from_pylist(made, TABLES[name].schema)), name
            )
        ]
        commit(lake, RunRow("drawn", "drawn", "d", "{}", 1), files)
        return labelled.lake(), [row["event_id"] for row in rows]

    return add


def test_a_random_order_is_the_same_each_time_and_adds_what_is_new(labelled: Small) -> None:
    lake = labelled.lake()
    events = [row["event_id"] for row in selection(lake)]
    found = chosen(lake)
    assert sorted(found) == events
    assert found == chosen(lake)
    assert found != events
    assert chosen(lake, found) == []
    assert chosen(lake, found[1:2]) == [found[0], *found[2:]]


def test_what_models_are_unsure_about_comes_first(write: Any) -> None:
    lake, events = write({0: [box(0, score=0.95)], 1: [box(0, score=0.5)], 2: [box(0, score=0.3)]})
    assert chosen(lake, order="uncertainty")[:3] == [events[1], events[2], events[0]]


def test_what_models_see_differently_comes_first(write: Any) -> None:
    """A half of the boxes, all, none; a class that one of them does not know does not count."""
    two = [box(0), box(3, model="two")]  # IoU 0.54
    lake, events = write(
        {
            0: [*two, box(20), box(28, model="two")],
            1: [box(0), box(0, "person", "two"), box(9, "dog", "two")],
            2: [*two, box(40, "dog", "two")],
            3: [box(0, "person")],
        }
    )
    found = chosen(lake, order="disagreement")
    assert set(found[:2]) == {events[1], events[3]}
    assert found[2:4] == [events[0], events[2]]


def test_rare_classes_and_triggers_come_first(write: Any) -> None:
    lake, events = write({place: [box(0)] for place in range(3)})
    rows = {row["event_id"]: row["trigger"] for row in selection(lake)}
    times = Counter(rows.values())
    found = chosen(lake, order="rarity")
    # Among events of the same classes the rarest trigger comes first.
    for same in (events[:3], events[3:]):
        counts = [times[rows[one]] for one in found if one in same]
        assert counts == sorted(counts)


def test_without_anything_to_order_by_the_order_is_random(labelled: Small) -> None:
    lake, rows = labelled.lake(), selection(labelled.lake())
    for order in ("uncertainty", "disagreement"):
        new, (note,) = choose(lake, rows, set(), config(order=order))
        assert new == choose(lake, rows, set(), config())[0]
        assert "their order is random" in note


def test_quotas_count_what_is_in_review_already(labelled: Small) -> None:
    lake, rows = labelled.lake(), selection(labelled.lake())
    trigger = {row["event_id"]: row["trigger"] for row in rows}
    times = Counter(trigger.values())
    name = max(times, key=lambda one: (times[one], one))
    assert times[name] > 1
    first = chosen(lake, quota=["1"])
    assert Counter(trigger[one] for one in first) == dict.fromkeys(times, 1)
    assert chosen(lake, first, quota=["1"]) == []
    more = chosen(lake, first, quota=["1", f"{name}=2"])
    assert [trigger[one] for one in more] == [name]
    assert chosen(lake, quota=[f"{name}=0"]) == [
        one for one in chosen(lake) if trigger[one] != name
    ]
    assert chosen(lake, most=2) == chosen(lake)[:2]
    assert chosen(lake, chosen(lake)[:2], most=2) == []
    with pytest.raises(UsageError, match="no labelled event is of this trigger"):
        chosen(lake, quota=["honk=3"])


def answered(labelled: Small, folder: Path, events: set[str], by: Sequence[str]) -> None:
    """Has reviewers answer the tasks of some events, all of them alike."""
    tasks = [json.loads(path.read_text()) for path in sorted((folder / "media").glob("*.json"))]
    exported = []
    for number, task in enumerate(tasks):
        if task["data"]["event_id"] in events:
            said = choice("verdict", "right")
            given = [
                annotated(task, said, id=100 * number + k, completed_by={"id": k, "email": name})
                for k, name in enumerate(by)
            ]
            exported.append(given[0] | {"annotations": [one["annotations"][0] for one in given]})
    (folder / "export.json").write_text(json.dumps(exported))
    labelled.run(plan_review_pull, ReviewPullConfig(input=str(folder / "export.json")))


def push(labelled: Small, folder: Path, **keys: Any) -> list[str]:
    """Pushes into a folder and returns the keys of its tasks in their order."""
    out = folder / "media"
    labelled.run(plan_review_push, ReviewPushConfig(out=str(out), **keys))
    return ordered_tasks(str(out))


def test_tasks_whose_answer_is_known_check_reviewers(labelled: Small, tmp_path: Path) -> None:
    """They are as many as asked for, each once, and look like any other task."""
    first = push(labelled, tmp_path, most=2)
    assert len(first) == 2
    known = {row["event_id"] for row in selection(labelled.lake())}
    answered(labelled, tmp_path, known, ("ann", "bo"))
    keys = push(labelled, tmp_path, most=4, control=0.5)
    assert keys[:2] == first
    views = {event_id: task_key(event_id, "front", control=True) for event_id in known}
    control = [key for key in keys if key in views.values()]
    assert len(keys) == 6
    assert len(control) == 2
    assert keys[2] not in control
    tasks = {key: json.loads((tmp_path / "media" / f"{key}.json").read_text()) for key in keys}
    for key in control:
        task = tasks[key]
        other = tasks[task_key(task["data"]["event_id"], "front")]
        for one in (task, other):
            assert one["data"].pop("video").endswith(f"{one['data'].pop('fleetmill')}.mp4")
        assert task == other
    # All that is known was asked.
    assert len(push(labelled, tmp_path, most=6, control=0.5)) == 8


def test_what_the_lead_reviewer_answered_needs_no_second_one(
    labelled: Small, tmp_path: Path
) -> None:
    push(labelled, tmp_path, most=1)
    (first,) = [json.loads(one.read_text()) for one in (tmp_path / "media").glob("*.json")]
    answered(labelled, tmp_path, {first["data"]["event_id"]}, ("ann",))
    lake, rows = labelled.lake(), selection(labelled.lake())
    key = first["data"]["fleetmill"]
    new, (note,) = choose(lake, rows, {key}, config(control=0.3))
    assert "0 of" in note
    led, _ = choose(lake, rows, {key}, config(control=0.3, lead="ann"))
    assert [one for one in led if one not in new] == [
        task_key(first["data"]["event_id"], "front", control=True)
    ]
    kept = push(labelled, tmp_path, control=0.3, lead="ann")
    (tmp_path / "media" / f"{led[-1]}.json").unlink()
    assert push(labelled, tmp_path) == kept


def test_a_folder_without_an_order_is_taken_as_it_is(labelled: Small, tmp_path: Path) -> None:
    keys = push(labelled, tmp_path)
    assert (tmp_path / "media" / ORDER).read_text().split() == keys
    (tmp_path / "media" / ORDER).unlink()
    assert push(labelled, tmp_path) == sorted(keys)
