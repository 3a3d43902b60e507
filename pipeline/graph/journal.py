"""The journal of a run: its tasks and their results, as files in the lake.

    work/<run>/000000.todo   a page of tasks, one line of JSON each
    work/<run>/<task>.next   a page of the follow-up tasks of one task
    work/<run>/<task>.begun  the number of attempts at a task
    work/<run>/<task>.done   the result of a task; written once all its files are complete
    work/<run>/dropped.json  the keys of the tasks that another run overtook

Edges of the graph carry the place of a task in the journal, never the task itself, which may be
large. A task that is done is not run again, neither by a second attempt nor by the next run of
the same command. The progress of a run is the number of `.done` files. The journal is deleted
when its run is over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import TypeAdapter

from pipeline.graph.stage import Task, TaskResult
from pipeline.lake.intents import is_committed
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.ids import canonical
from transforms.storage import filesystem, get, names, put

PAGE_TASKS = 200
"""Tasks on a page; one worker lists a page."""

TODO, NEXT, BEGUN, DONE = ".todo", ".next", ".begun", ".done"
DROPPED = "dropped.json"

READERS = 16
"""Results that are read at a time; an object store takes tens of milliseconds for each."""

Place = tuple[str, int, int]
"""The place of a task: its page, and the bytes [start, end) of it."""

T = TypeVar("T")

_RESULT = TypeAdapter(TaskResult)


def journals_url(lake_url: str) -> str:
    """Returns the folder of a lake's journals, whose names are those of their runs."""
    return f"{lake_url}/work"


class Journal:
    """The journal of one run. Small and picklable; making one does no I/O.

    Args:
        lake_url: the lake.
        run_id: the run; a run with the same id continues where that one stopped.
    """

    def __init__(self, lake_url: str, run_id: str) -> None:
        self._lake_url = lake_url
        self.run_id = run_id
        self.folder = f"{journals_url(lake_url)}/{run_id}"

    def plan(self, tasks: Sequence[Task]) -> list[str]:
        """Writes the pages of the tasks and returns their names. Equal keys are one task."""
        distinct = list({task.key: task for task in tasks}.values())
        pages = []
        for first in range(0, len(distinct), PAGE_TASKS):
            pages.append(f"{first // PAGE_TASKS:06d}{TODO}")
            self._write_page(pages[-1], distinct[first : first + PAGE_TASKS])
        return pages

    def follow(self, key: str, tasks: Sequence[Task]) -> str:
        """Writes the follow-up tasks of a task and returns the name of their page, "" for none."""
        if not tasks:
            return ""
        self._write_page(key + NEXT, list({task.key: task for task in tasks}.values()))
        return key + NEXT

    def places(self, page: str) -> Iterator[Place]:
        """Yields the places of the tasks of a page."""
        start = 0
        for line in self._read(page).splitlines(keepends=True):
            yield page, start, start + len(line)
            start += len(line)

    def task(self, place: Place, kind: type[T]) -> T:
        """Reads a task and validates it as `kind`."""
        return TypeAdapter(kind).validate_json(self._read(*place))

    def begin(self, key: str) -> int:
        """Records that an attempt at a task begins; returns the number of earlier attempts."""
        try:
            before = int(self._read(key + BEGUN))
        except FileNotFoundError:
            before = 0
        put(f"{self.folder}/{key}{BEGUN}", str(before + 1).encode())
        return before

    def record(self, result: TaskResult) -> None:
        """Records the result of a task, which makes it done."""
        put(f"{self.folder}/{result.key}{DONE}", canonical(asdict(result)))

    def result(self, key: str) -> TaskResult | None:
        """Reads the result of a task; None if it is not done, or one of its files is missing."""
        try:
            result = _RESULT.validate_json(self._read(key + DONE))
        except FileNotFoundError:
            return None
        fs, root = filesystem(self._lake_url)
        try:
            complete = all(fs.size(f"{root}/{name}") == size for name, size in result.files())
        except FileNotFoundError:
            return None
        return result if complete else None

    def drop(self, results: Sequence[TaskResult]) -> None:
        """Records the tasks that the commit leaves out, because another run overtook them."""
        if results:
            put(f"{self.folder}/{DROPPED}", canonical([result.key for result in results]))

    def dropped(self) -> int:
        """Counts the tasks that the commit left out."""
        try:
            return len(json.loads(self._read(DROPPED)))
        except FileNotFoundError:
            return 0

    def is_over(self) -> bool:
        """Tells whether the run is committed, by this process or another."""
        return is_committed(Lake(self._lake_url), self.run_id)

    def done(self) -> int:
        """Counts the tasks that are done."""
        return sum(name.endswith(DONE) for name in names(self.folder))

    def results(self, expected: int) -> list[TaskResult]:
        """Reads the results of all tasks, in the order of their keys.

        Raises:
            LakeError: their number is not the expected one.
        """
        found = [name for name in names(self.folder) if name.endswith(DONE)]
        if len(found) != expected:
            raise LakeError(
                f"{self.folder} holds {len(found)} results, not {expected}; was it deleted "
                "meanwhile, or do two tasks share a key? Run the same command again"
            )
        with ThreadPoolExecutor(READERS) as pool:
            return [_RESULT.validate_json(text) for text in pool.map(self._read, found)]

    def _write_page(self, page: str, tasks: Sequence[Task]) -> None:
        lines = [canonical(_fields(task)) + b"\n" for task in tasks]
        put(f"{self.folder}/{page}", b"".join(lines))

    def _read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        return get(f"{self.folder}/{name}", start, end)


def _fields(task: Any) -> dict[str, Any]:
    fields: dict[str, Any] = asdict(task)
    return fields
