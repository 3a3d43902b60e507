"""Tasks of a project of Label Studio: sent there once each, and read back with their answers.

A task has a key of ours in its data, by which it is found again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.label_studio.connection import Connection
from pipeline.label_studio.projects import users

KEY = "fleetmill"
"""The name of the key in a task's data."""

MOST_TASKS, MOST_BYTES = 100, 8_000_000
"""Of a request that imports; a task that is larger goes alone."""

_TASKS_A_PAGE = 100
_FIRST = 0


@dataclass(frozen=True, slots=True)
class Annotation:
    """An answer of a person to a task.

    `by` is the e-mail address or name of who made it, "" of a user who is gone. `result` holds
    the regions and choices. Times are ISO 8601 in UTC, `lead_time_s` is what the person took,
    None if the server does not know.
    """

    identifier: int
    by: str
    result: list[dict[str, Any]]
    was_cancelled: bool
    lead_time_s: float | None
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A task and all answers that it has, also those that were cancelled.

    `updated_at` is never before that of an answer, and moves on when one is deleted.
    """

    identifier: int
    data: dict[str, Any]
    updated_at: str
    annotations: tuple[Annotation, ...]


def task_keys(server: Connection, project: int) -> dict[str, int]:
    """Returns the id of the task by its key; tasks that others made have none and are left out.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses, or there is no such project.
    """
    found: dict[str, int] = {}
    for task in _pages(server, project, include="id,data"):
        if key := _key(task):
            found.setdefault(key, int(task["id"]))
    return found


def import_tasks(
    server: Connection,
    project: int,
    tasks: Iterable[Mapping[str, Any]],
    on_progress: Callable[[int], None] = lambda _done: None,
) -> int:
    """Sends tasks that are not there yet, with their predictions.

    It may be interrupted at any point: what has arrived is not sent again the next time. Only one
    import into a project may run at a time.

    Args:
        server: the server.
        project: the project's id.
        tasks: each with `data`, whose KEY is a text of its own, and `predictions`.
        on_progress: called with the number of tasks of those given that are there.

    Returns:
        The number of tasks that were added.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses, such as tasks that do not fit the labelling configuration.
    """
    there = task_keys(server, project)
    newest = max(there.values(), default=_FIRST)
    known, done, added, doubtful = set(there), 0, 0, False
    for batch, skipped in _batches(tasks, known):
        new = len(batch)
        if new:
            sending = _Batch(server, project, newest, batch)
            server.send("POST", f"/api/projects/{project}/import", sending.body)
            doubtful = doubtful or sending.tries > 1
        added += new
        done += new + skipped
        on_progress(done)
    if doubtful:
        _delete_doubles(server, project, newest)
    return added


@dataclass(slots=True)
class _Batch:
    """Tasks of one request, as JSON by key; `newest` is an id below those of the tasks."""

    server: Connection
    project: int
    newest: int
    tasks: dict[str, bytes]
    tries: int = 0

    def body(self) -> bytes | None:
        """Returns the tasks that have not arrived, None if all of them have."""
        if self.tries:
            for task in _pages(self.server, self.project, self.newest, include="id,data"):
                self.tasks.pop(_key(task), None)
        self.tries += 1
        return b"[" + b",".join(self.tasks.values()) + b"]" if self.tasks else None


def _batches(
    tasks: Iterable[Mapping[str, Any]], known: set[str]
) -> Iterator[tuple[dict[str, bytes], int]]:
    """Yields tasks that are not known, as JSON by key, and the number of known ones among them."""
    batch: dict[str, bytes] = {}
    size = skipped = 0
    for task in tasks:
        key = task["data"][KEY]
        if key in known:
            skipped += 1
            continue
        known.add(key)
        text = json.dumps(task, allow_nan=False).encode()
        if batch and (len(batch) == MOST_TASKS or size + len(text) > MOST_BYTES):
            yield batch, skipped
            batch, size, skipped = {}, 0, 0
        batch[key] = text
        size += len(text) + 1
    if batch or skipped:
        yield batch, skipped


def _delete_doubles(server: Connection, project: int, newest: int) -> None:
    """Deletes tasks whose key an older one has, if nobody has worked on them.

    A server that was too slow for the time limit of a request, or for a proxy, goes on with it and
    may store its tasks after we have looked for them, and have sent them again.
    """
    seen: set[str] = set()
    include = "id,data,total_annotations,cancelled_annotations,draft_exists"
    doubles = []
    for task in _pages(server, project, newest, fields="all", include=include):
        key = _key(task)
        worked = task["total_annotations"] or task["cancelled_annotations"] or task["draft_exists"]
        if key and key in seen and not worked:
            doubles.append(int(task["id"]))
        seen.add(key)
    for identifier in doubles:
        still_there = functools.partial(_if_there, server, project, identifier)
        server.send("DELETE", f"/api/tasks/{identifier}/", still_there)


def _if_there(server: Connection, project: int, identifier: int) -> bytes | None:
    """Returns the empty body that deletes a task, None if it is gone."""
    following = next(_pages(server, project, identifier - 1, include="id"), None)
    return b"" if following and following["id"] == identifier else None


def latest_change(server: Connection, project: int) -> str | None:
    """Returns the latest `updated_at` of all tasks, None if there is no task.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses, or there is no such project.
    """
    query = json.dumps({"ordering": ["-tasks:updated_at"]})
    found = server.get(
        "/api/tasks", project=project, page=1, page_size=1, include="updated_at", query=query
    )["tasks"]
    return str(found[0]["updated_at"]) if found else None


def annotated(server: Connection, project: int, since: str | None = None) -> Iterator[Answered]:
    """Yields the tasks that have been worked on, with their answers, in the order of their ids.

    Pages begin after the last id, so that tasks which come, change or go meanwhile shift nothing.
    A change during the reading may be missed, and one that the server is about to store: ask for
    `latest_change` before, and read the next time from a little before that. Tasks that were
    deleted do not come; task_keys shows which are left.

    Args:
        server: the server.
        project: the project's id.
        since: an `updated_at`; yields only tasks that were changed then or later, also those that
            have no answers, or no longer. None yields all tasks that have answers.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses, or there is no such project.
    """
    names = users(server)
    answer = "result,completed_by,was_cancelled,lead_time,created_at,updated_at"
    pages = _pages(
        server, project, since=since, fields="all", include=f"id,data,annotations,{answer}"
    )
    for task in pages:
        answers = task["annotations"]
        makers = {each["completed_by"] for each in answers} - {None}
        if not makers <= names.keys():  # somebody joined meanwhile, or left the organization
            gone = {identifier: f"user {identifier}" for identifier in makers}
            names = gone | names | users(server)
        if answers or since is not None:
            yield Answered(
                int(task["id"]),
                task["data"],
                task["updated_at"],
                tuple(_annotation(each, names) for each in answers),
            )


def _annotation(answer: Mapping[str, Any], names: Mapping[int, str]) -> Annotation:
    return Annotation(
        int(answer["id"]),
        names.get(answer["completed_by"], ""),
        answer["result"],
        answer["was_cancelled"],
        answer["lead_time"],
        answer["created_at"],
        answer["updated_at"],
    )


def _key(task: Mapping[str, Any]) -> str:
    """Returns the key of a task, "" if it is none of ours."""
    key = task["data"].get(KEY)
    return key if isinstance(key, str) else ""


def _pages(
    server: Connection,
    project: int,
    newest: int = _FIRST,
    since: str | None = None,
    **params: str,
) -> Iterator[dict[str, Any]]:
    """Yields the tasks with an id above `newest`, changed at `since` or later, by their ids."""
    while True:
        filters = [_filter("id", "greater", "Number", newest)]
        if since is not None:
            filters.append(_filter("updated_at", "greater_or_equal", "Datetime", _time(since)))
        query = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
        found = server.get(
            "/api/tasks", project=project, page=1, page_size=_TASKS_A_PAGE, resolve_uri="false",
            query=json.dumps(query), **params,
        )["tasks"]  # fmt: skip
        yield from found
        if len(found) < _TASKS_A_PAGE:
            return
        newest = int(found[-1]["id"])


def _filter(column: str, operator: str, kind: str, value: object) -> dict[str, object]:
    return {
        "filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value,
    }  # fmt: skip


def _time(updated_at: str) -> str:
    """Returns a time in the only form in which filters take it, which answers do not always have.

    >>> _time("2026-11-29T17:51:40Z")
    '2026-11-29T17:51:40.000000Z'
    """
    moment = datetime.fromisoformat(updated_at).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
