"""Tasks on Label Studio: sent once whatever happens, and read back with their answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from auto_label.review.tasks import KEY
from pipeline.label_studio import connection, tasks
from pipeline.label_studio.connection import Connection, Tell, connect
from pipeline.label_studio.projects import numbered, project_id, projects
from pipeline.label_studio.tasks import (
    MOST_TASKS,
    Answered,
    annotated,
    import_tasks,
    latest_change,
    task_keys,
)
from schemas.errors import CorruptError, FleetError
from tests.deploy.s3.store import FAILURES, proxying
from tests.label_studio import CONFIG, EMAIL, LabelStudio

pytestmark = pytest.mark.review

NUMBER = 2 * MOST_TASKS + 50


def verdict(choice: str) -> list[dict[str, Any]]:
    value = {"choices": [choice]}
    return [{"from_name": "verdict", "to_name": "video", "type": "choices", "value": value}]


def made(number: int = NUMBER, start: int = 0) -> Iterator[dict[str, Any]]:
    """Yields tasks with one prediction each."""
    for index in range(start, start + number):
        prediction = {"model_version": "yolox", "score": 0.5, "result": verdict("right")}
        yield {
            "data": {KEY: f"key-{index}", "video": "https://host/a.mp4"},
            "predictions": [prediction],
        }


def push(
    server: Connection,
    project: int,
    made: Iterable[Mapping[str, Any]],
    on_progress: Callable[[int], None] = lambda _done: None,
) -> int:
    texts = {task["data"][KEY]: json.dumps(task).encode() for task in made}
    return sent(server, project, list(texts), texts.__getitem__, on_progress)


def sent(
    server: Connection,
    project: int,
    keys: Sequence[str],
    read: Callable[[str], bytes],
    on_progress: Callable[[int], None] = lambda _done: None,
) -> int:
    """Sends tasks to one project, without a limit."""

    def further() -> int:
        raise AssertionError("one project is enough")

    return import_tasks(
        server, keys, read, projects=[project], further=further, most=10**6,
        on_progress=on_progress,
    )  # fmt: skip


def keys(number: int = NUMBER) -> set[str]:
    return {f"key-{index}" for index in range(number)}


@pytest.fixture
def project(server: Connection, request: pytest.FixtureRequest) -> int:
    """A project of the test."""
    return project_id(server, request.node.name[-50:], CONFIG)


def check(label_studio: LabelStudio, server: Connection, project: int, number: int) -> None:
    """Checks that each task is there once, with its prediction."""
    assert task_keys(server, project).keys() == keys(number)
    counts = label_studio.ask("GET", f"/api/tasks?project={project}&page_size=1")
    assert (counts["total"], counts["total_predictions"]) == (number, number)


def answer(label_studio: LabelStudio, task: int, **fields: Any) -> dict[str, Any]:
    body = {"result": verdict("wrong"), "lead_time": 2.5, **fields}
    given: dict[str, Any] = label_studio.ask("POST", f"/api/tasks/{task}/annotations/", body)
    return given


def test_tasks_are_imported_once(
    label_studio: LabelStudio, server: Connection, project: int
) -> None:
    done: list[int] = []
    assert push(server, project, made(), done.append) == NUMBER
    assert done == [0, MOST_TASKS, 2 * MOST_TASKS, NUMBER]
    check(label_studio, server, project, NUMBER)
    done.clear()
    assert push(server, project, made(NUMBER + 5), done.append) == 5
    assert done == [NUMBER, NUMBER + 5]
    assert push(server, project, made(NUMBER + 5)) == 0
    check(label_studio, server, project, NUMBER + 5)


def test_a_key_that_is_given_twice_is_sent_once(server: Connection, project: int) -> None:
    done: list[int] = []
    texts = {task["data"][KEY]: json.dumps(task).encode() for task in made(3)}
    given = [*texts, *texts]
    assert sent(server, project, given, texts.__getitem__, done.append) == 3
    assert done == [0, 3]
    assert len(task_keys(server, project)) == 3


def test_projects_are_filled_one_after_the_other(
    server: Connection, request: pytest.FixtureRequest
) -> None:
    """Also where some are there from before, and one lost tasks."""
    title = request.node.name[-40:]
    texts = {task["data"][KEY]: json.dumps(task).encode() for task in made(11)}
    order = sorted(texts, key=lambda key: int(key.removeprefix("key-")))

    def pushed(number: int, done: list[int]) -> tuple[int, list[list[str]]]:
        found = projects(server, title)

        def further() -> int:
            return project_id(server, numbered(title, len(found) + 1), CONFIG)

        added = import_tasks(
            server, order[:number], texts.__getitem__, projects=found, further=further, most=4,
            on_progress=done.append,
        )  # fmt: skip
        assert projects(server, title) == found
        return added, [list(task_keys(server, each)) for each in found]

    done: list[int] = []
    assert pushed(3, done) == (3, [order[:3]])
    assert pushed(10, done) == (7, [order[:4], order[4:8], order[8:10]])
    assert done == [0, 3, 3, 4, 8, 10]
    second = projects(server, title)[1]
    lost = task_keys(server, second)[order[5]]
    server.send("DELETE", f"/api/tasks/{lost}/")
    added, there = pushed(11, done)
    assert added == 2
    assert there == [order[:4], [order[4], order[6], order[7], order[5]], order[8:11]]
    assert pushed(11, done)[0] == 0


def test_tasks_that_are_there_are_not_read(server: Connection, project: int) -> None:
    push(server, project, made(3))
    texts = {task["data"][KEY]: json.dumps(task).encode() for task in made(2, start=3)}
    assert sent(server, project, sorted(keys(5)), texts.__getitem__) == 2


def test_a_task_with_another_key_is_refused(server: Connection, project: int) -> None:
    """It would be sent again each time, as its key is never there."""
    (text,) = [json.dumps(task).encode() for task in made(1)]
    for other in (text, b"{}"):
        with pytest.raises(CorruptError, match="key-1"):
            sent(server, project, ["key-1"], lambda _key, other=other: other)  # type: ignore[misc]
    assert task_keys(server, project) == {}


def test_requests_are_limited_by_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(number: int) -> list[dict[str, bytes]]:
        tasks_ = ((task["data"][KEY], json.dumps(task).encode()) for task in made(number))
        return list(tasks._batches(tasks_))

    assert [len(batch) for batch in batches(NUMBER)] == [MOST_TASKS, MOST_TASKS, 50]
    monkeypatch.setattr(tasks, "MOST_BYTES", 1000)
    assert sum(len(batch) for batch in batches(20)) == 20
    assert all(len(b"[" + b",".join(batch.values()) + b"]") <= 1000 for batch in batches(20))
    monkeypatch.setattr(tasks, "MOST_BYTES", 10)
    assert [len(batch) for batch in batches(3)] == [1, 1, 1]


def test_an_interrupted_import_goes_on(
    label_studio: LabelStudio, server: Connection, project: int
) -> None:
    def interrupt(done: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(server, project, made(), interrupt)
    assert len(task_keys(server, project)) == MOST_TASKS
    assert push(server, project, made()) == NUMBER - MOST_TASKS
    check(label_studio, server, project, NUMBER)


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.2, 0.4])
def test_the_server_may_be_killed_during_an_import(
    label_studio: LabelStudio, server: Connection, project: int, restarting: Tell, after_s: float
) -> None:
    """Whichever request it is that the kill hits."""
    killers: list[threading.Timer] = []

    def kill_later(done: int) -> None:
        if done == MOST_TASKS:
            killers.append(threading.Timer(after_s, label_studio.kill))
            killers[0].start()

    patient = connect(label_studio.url, restarting)
    assert push(patient, project, made(), kill_later) == NUMBER
    killers[0].join()
    assert task_keys(patient, project).keys() == keys()
    check(label_studio, server, project, NUMBER)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", FAILURES)
def test_requests_may_fail_before_and_after_they_are_done(
    label_studio: LabelStudio, server: Connection, project: int, way: str
) -> None:
    """A proxy before the server makes each request fail twice: by a 5xx, or a cut connection."""
    number = MOST_TASKS + 5
    with proxying(label_studio.url) as (url, proxy):
        proxy.fails, proxy.ways = 1.0, (way,)
        assert push(connect(url), project, made(number)) == number
        assert task_keys(connect(url), project).keys() == keys(number)
        assert proxy.failed[way] > 10
    check(label_studio, server, project, number)


def test_tasks_of_a_request_that_was_done_late_are_deleted(
    label_studio: LabelStudio,
    server: Connection,
    project: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a proxy with a short time limit does: we look, send again, and then they arrive."""
    late = list(made(5))
    refused: list[str] = []

    def arrive_late(self: Connection, method: str, path: str, *rest: Any) -> Any:
        if method == "POST" and not refused:
            refused.append(path)
            raise connection._PassingError("504 Gateway Timeout")
        done = once(self, method, path, *rest)
        if method == "DELETE" and len(refused) == 1:
            refused.append(path)
            raise connection._PassingError("the answer was lost")
        if method == "POST":
            label_studio.ask("POST", path, late)
            newest = max(
                task["id"]
                for task in label_studio.ask("GET", f"/api/tasks?project={project}")["tasks"]
            )
            answer(label_studio, newest)
        return done

    once = Connection._once
    monkeypatch.setattr(Connection, "_once", arrive_late)
    monkeypatch.setattr(connection, "WAITS_S", (0.0,))
    assert push(server, project, made(5)) == 5
    left = label_studio.ask("GET", f"/api/tasks?project={project}")["tasks"]
    assert [task["data"][KEY] for task in left] == [*sorted(keys(5)), "key-4"]
    assert len(refused) == 2


def test_tasks_of_a_push_that_was_killed_may_arrive_during_the_next_one(
    label_studio: LabelStudio,
    server: Connection,
    project: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server is at work on its last request still when the next push looks."""
    late = [list(made(5))]

    def arrive_late(self: Connection, method: str, path: str, *rest: Any) -> Any:
        if method == "POST" and late:
            label_studio.ask("POST", path, late.pop())
        return once(self, method, path, *rest)

    once = Connection._once
    monkeypatch.setattr(Connection, "_once", arrive_late)
    assert push(server, project, made(6)) == 6
    assert not late
    check(label_studio, server, project, 6)


def test_doubles_of_an_earlier_push_are_deleted(
    label_studio: LabelStudio, server: Connection, project: int
) -> None:
    """Such as those that arrived after its end; what somebody has worked on stays."""
    push(server, project, made(3))
    for _ in range(2):
        label_studio.ask("POST", f"/api/projects/{project}/import", list(made(2)))
    assert push(server, project, made(3)) == 0
    check(label_studio, server, project, 3)


def test_tasks_that_do_not_fit_the_project_are_refused(server: Connection, project: int) -> None:
    with pytest.raises(FleetError, match=r'400 Bad Request.*"video.*" key is expected'):
        push(server, project, [{"data": {KEY: "key"}}])
    with pytest.raises(FleetError, match="404 Not Found"):
        push(server, project + 1000, made(1))


def test_tasks_of_others_have_no_key(
    label_studio: LabelStudio, server: Connection, project: int
) -> None:
    others = [{"data": {"video": "a", **key}} for key in ({}, {KEY: 5}, {KEY: ""})]
    label_studio.ask("POST", f"/api/projects/{project}/import", others)
    assert push(server, project, made(2)) == 2
    assert task_keys(server, project).keys() == keys(2)


def test_answers_come_back(label_studio: LabelStudio, server: Connection, project: int) -> None:
    """All of them, with who gave them and when, also those that were cancelled."""
    assert latest_change(server, project) is None
    push(server, project, made(3))
    ids = task_keys(server, project)
    assert list(annotated(server, project)) == []
    given = answer(label_studio, ids["key-0"])
    answer(label_studio, ids["key-0"], result=[], was_cancelled=True, lead_time=None)
    (found,) = annotated(server, project)
    assert found.identifier == ids["key-0"]
    assert found.data == {KEY: "key-0", "video": "https://host/a.mp4"}
    first, second = sorted(found.annotations, key=lambda each: each.identifier)
    assert (first.identifier, first.by, first.result) == (given["id"], EMAIL, verdict("wrong"))
    assert (first.lead_time_s, first.was_cancelled) == (2.5, False)
    assert (first.created_at, first.updated_at) == (given["created_at"], given["updated_at"])
    assert (second.lead_time_s, second.was_cancelled, second.result) == (None, True, [])
    assert second.updated_at < found.updated_at == latest_change(server, project)


def test_answers_come_back_as_they_change(
    label_studio: LabelStudio, server: Connection, project: int
) -> None:
    push(server, project, made(4))
    ids = task_keys(server, project)
    answers = [answer(label_studio, ids[f"key-{index}"]) for index in range(4)]

    def changed(since: str | None) -> dict[str, Answered]:
        return {found.data[KEY]: found for found in annotated(server, project, since)}

    since = latest_change(server, project)
    assert changed(since).keys() == {"key-3"}
    label_studio.ask("PATCH", f"/api/annotations/{answers[1]['id']}/", {"result": verdict("right")})
    label_studio.ask("DELETE", f"/api/annotations/{answers[2]['id']}/")
    label_studio.ask("DELETE", f"/api/tasks/{ids['key-3']}/")
    found = changed(since)
    assert found.keys() == {"key-1", "key-2"}
    (edited,) = found["key-1"].annotations
    assert edited.identifier == answers[1]["id"]
    assert edited.updated_at > answers[1]["updated_at"]
    assert edited.result == verdict("right")
    assert found["key-2"].annotations == ()
    assert changed(None).keys() == {"key-0", "key-1"}
    assert changed("2026-01-01T00:00:00Z").keys() == {"key-0", "key-1", "key-2"}


def test_reading_is_stable_while_others_work_and_the_server_is_killed(
    label_studio: LabelStudio,
    server: Connection,
    project: int,
    restarting: Tell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tasks of pages that are read change, and go, before the next page."""
    monkeypatch.setattr(tasks, "_TASKS_A_PAGE", 4)
    push(server, project, made(9))
    ids = task_keys(server, project)
    for identifier in ids.values():
        answer(label_studio, identifier)
    reading = annotated(connect(label_studio.url, restarting), project)
    found = [next(reading)]
    for index in range(3):
        label_studio.ask("DELETE", f"/api/tasks/{ids[f'key-{index}']}/")
    answer(label_studio, ids["key-3"])
    label_studio.kill()
    found += reading
    assert [each.identifier for each in found] == sorted(ids.values())
    assert {each.data[KEY] for each in found} == keys(9)


def test_users_who_are_gone_have_a_name(
    server: Connection, project: int, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(server, project, made(1))
    (task,) = task_keys(server, project).values()
    answer(label_studio, task)
    monkeypatch.setattr(tasks, "users", lambda _server: {})
    (found,) = annotated(server, project)
    assert [each.by for each in found.annotations] == ["user 1"]
