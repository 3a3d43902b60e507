"""Tasks of a project of Label Studio: sent there once each, and read back with their answers.

A task has a key of ours in its data, by which it is found again.
"""

from __future__ import annotations

import functools
import json
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from auto_label.review.tasks import KEY
from pipeline.label_studio.connection import Connection
from pipeline.label_studio.projects import users
from schemas.errors import CorruptError

MOST_TASKS, MOST_BYTES = 250, 8_000_000
"""Of a request that imports; a task that is larger goes alone."""

_READERS = 8
"""Threads that read tasks: on an object store reading one takes longer than importing it."""

_TASKS_A_PAGE = 100
_FIRST = 0
_WITH_IDS = {"return_task_ids": "true"}
_OWN_KEY = re.compile(rb'"%s"\s*:\s*"([^"\\]*)"' % KEY.encode())


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
    for identifier, key in _keys(server, project):
        if key:
            found.setdefault(key, identifier)
    return found


def import_tasks(
    server: Connection,
    keys: Sequence[str],
    read: Callable[[str], bytes],
    *,
    projects: list[int],
    further: Callable[[], int],
    most: int,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> int:
    """Sends tasks that are in none of some projects yet, with their predictions.

    It may be interrupted at any point: what has arrived is not sent again the next time. Only one
    import into a project may run at a time.

    Args:
        server: the server.
        keys: of the tasks, in the order in which they are sent.
        read: returns the task of a key: a JSON object with `data`, in which KEY is the key, and
            `predictions`. It is called in threads, and only for tasks that are not there.
        projects: the ids of the projects, which are filled one after the other; further ones are
            added.
        further: makes a project and returns its id.
        most: the number of tasks that a project has at most.
        on_progress: called with the number of keys whose task is there.

    Returns:
        The number of tasks that were added.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses, such as tasks that do not fit the labelling configuration.
        CorruptError: a task has another key.
    """
    there = [list(_keys(server, project)) for project in projects]
    known = {key for own in there for _, key in own}
    missing = [key for key in dict.fromkeys(keys) if key not in known]
    total = len(set(keys))
    on_progress(total - len(missing))
    added = place = 0
    while place < len(projects) or added < len(missing):
        if place == len(projects):
            projects.append(further())
            there.append([])
        room = max(most - len(there[place]), 0)
        before = total - len(missing) + added

        def told(done: int, before: int = before) -> None:
            on_progress(before + done)

        sent = missing[added : added + room]
        _import(server, projects[place], there[place], sent, read=read, on_progress=told)
        added += len(sent)
        place += 1
    return added


def _import(
    server: Connection,
    project: int,
    there: Sequence[tuple[int, str]],
    keys: Sequence[str],
    *,
    read: Callable[[str], bytes],
    on_progress: Callable[[int], None],
) -> None:
    """Sends tasks to a project that has others, given by id and key, and deletes doubles."""
    start = newest = there[-1][0] if there else _FIRST
    ours = [key for _, key in there if key]
    added, doubtful = 0, False
    with closing(_read_ahead(keys, read)) as tasks:
        for batch in _batches(tasks):
            new = len(batch)
            sending = _Batch(server, project, newest, batch)
            answer = server.send(
                "POST", f"/api/projects/{project}/import", sending.body, params=_WITH_IDS
            )
            newest = max((answer or {}).get("task_ids") or [newest])
            doubtful = doubtful or sending.tries > 1
            added += new
            on_progress(added)
    if len(set(ours)) < len(ours):
        _delete_doubles(server, project, _FIRST)
    elif added and (doubtful or count_tasks(server, project) != len(there) + added):
        _delete_doubles(server, project, start)


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
            for _, key in _keys(self.server, self.project, self.newest):
                self.tasks.pop(key, None)
        self.tries += 1
        return b"[" + b",".join(self.tasks.values()) + b"]" if self.tasks else None


def _read_ahead(
    keys: Iterable[str], read: Callable[[str], bytes]
) -> Generator[tuple[str, bytes], None, None]:
    """Yields keys and their tasks, and reads those of the next request meanwhile."""
    waiting: deque[tuple[str, Future[bytes]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            for key in keys:
                waiting.append((key, pool.submit(read, key)))
                if len(waiting) > MOST_TASKS:
                    first, task = waiting.popleft()
                    yield first, task.result()
            for key, task in waiting:
                yield key, task.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _batches(tasks: Iterable[tuple[str, bytes]]) -> Iterator[dict[str, bytes]]:
    """Yields the tasks of each request, as JSON by key.

    Raises:
        CorruptError: a task has another key.
    """
    batch: dict[str, bytes] = {}
    size = 0
    for key, task in tasks:
        own = _OWN_KEY.search(task)
        if own is None or own[1] != key.encode():
            raise CorruptError(f"the task {key} says that it is another one; make it again")
        if batch and (len(batch) == MOST_TASKS or size + len(task) + 2 > MOST_BYTES):
            yield batch
            batch, size = {}, 0
        batch[key] = task
        size += len(task) + 1
    if batch:
        yield batch


def _delete_doubles(server: Connection, project: int, newest: int) -> None:
    """Deletes tasks whose key an older one has, if nobody has worked on them.

    A server that was too slow for the time limit of a request, or for a proxy, goes on with it and
    may store its tasks after we have looked for them, and have sent them again. So it does where
    the process that sent them was killed, and the next one looks at once.
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


def annotated(
    server: Connection,
    project: int,
    since: str | None = None,
    on_task: Callable[[], None] = lambda: None,
) -> Iterator[Answered]:
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
        on_task: called for each task that is read, of which there are `count_tasks`.

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
        on_task()
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


def count_tasks(server: Connection, project: int, since: str | None = None) -> int:
    """Returns the number of tasks of a project, or of those changed at `since` or later.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses, or there is no such project.
    """
    query = _query(_FIRST, since)
    found = server.get(
        "/api/tasks", project=project, page=1, page_size=1, include="id", query=query
    )
    return int(found["total"])


def _keys(server: Connection, project: int, newest: int = _FIRST) -> Iterator[tuple[int, str]]:
    """Yields the id and the key of the tasks with an id above `newest`, by their ids."""
    for task in _pages(server, project, newest, include="id,data"):
        yield int(task["id"]), _key(task)


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
        page = server.get(
            "/api/tasks", project=project, page=1, page_size=_TASKS_A_PAGE, resolve_uri="false",
            query=_query(newest, since), **params,
        )  # fmt: skip
        found = page["tasks"]
        yield from found
        if not found or len(found) >= page["total"]:  # a server may give less than we ask for
            return
        newest = int(found[-1]["id"])


def _query(newest: int, since: str | None) -> str:
    """Returns what asks for the tasks with an id above `newest`, changed at `since` or later."""
    filters = [_filter("id", "greater", "Number", newest)]
    if since is not None:
        filters.append(_filter("updated_at", "greater_or_equal", "Datetime", _time(since)))
    query = {"filters": {"conjunction": "and", "items": filters}, "ordering": ["tasks:id"]}
    return json.dumps(query)


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
