"""The journal of a run: its tasks and their results, as files in the lake.

    work/<run>/<page>.todo         a page of tasks, a line each: the key and the task as JSON
    work/<run>/<page>/<task>.done  the result of a task; written once all its files are complete
    work/<run>/<page>/<task>.<number>.next  the follow-up tasks of a task, stored like a page
    work/<run>/<page>.results      the results of a page and of all that follows from it
    work/<run>/left.json           what the commit left for the next run

Edges of the graph carry the place of a task in the journal, never the task itself, which may be
large. A task that is done is not run again, neither by a second attempt nor by the next run of
the same command. The journal is deleted when its run is over.

A task costs three requests to the store beyond the files that it writes: its place is read, its
result is written, and its result is read again when its page is rolled up. The rest is some
requests for each page: which of its tasks are done is seen in one listing of its folder, and the
last step reads what the page came to from one file.
"""

from __future__ import annotations

import contextlib
import gzip
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

from pipeline.graph.stage import Task, TaskResult
from pipeline.lake.intents import is_committed
from pipeline.lake.runs import find_run
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.ids import canonical, digest
from schemas.redaction import redacted
from transforms.storage import filesystem, get_own, names, put, put_new, remove

PAGE_TASKS = 200
"""Tasks on a page; one worker lists a page."""

TODO, NEXT, DONE, RESULTS = ".todo", ".next", ".done", ".results"
LEFT = "left.json"

READERS = 16
"""Files that are read at a time; an object store takes tens of milliseconds for each."""

Place = tuple[str, int, int, bool]
"""The place of a task: its page, the bytes [start, end) of it, and whether an attempt before may
have done the task, so that its result is looked for."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Messages:
    """How many messages there were, and the first of them."""

    number: int = 0
    first: str = ""

    def __add__(self, messages: Sequence[str]) -> Messages:
        """Adds messages."""
        return Messages(self.number + len(messages), self.first or "".join(messages[:1]))


@dataclass(frozen=True, slots=True)
class Left:
    """What a commit leaves for the next run, and for the report of this one.

    `dropped` is the number of tasks that another run overtook, `retried` are the messages of
    rejects for which the environment is at fault, `internal` those for which a bug is, `private`
    those of what was not written because it could not be found what to hide.
    """

    dropped: int = 0
    retried: Messages = Messages()
    internal: Messages = Messages()
    private: Messages = Messages()


_RESULT = TypeAdapter(TaskResult)


def journals_url(lake_url: str) -> str:
    """Returns the folder of a lake's journals, whose names are those of their runs."""
    return f"{lake_url}/work"


class Journal:
    """The journal of one run. Small and picklable; making one does no I/O.

    A page is named by its number, `000012`; the follow-up tasks of one of its tasks are the
    page `000012/<task>.<how many>`. Results are kept by the numbered page, so no listing grows
    with the run, and pages of a few follow-up tasks are not rolled up one by one.

    Args:
        lake_url: the lake.
        run_id: the run; a run with the same id continues where that one stopped.
    """

    def __init__(self, lake_url: str, run_id: str) -> None:
        self._lake_url = lake_url
        self.run_id = run_id
        self.folder = f"{journals_url(lake_url)}/{run_id}"

    def plan(self, tasks: Sequence[Task]) -> list[str]:
        """Writes the pages of the tasks and returns their names. Equal keys are one task.

        Tasks are sorted by key, so that a run that is started again finds each on its page.
        """
        distinct = sorted({task.key: task for task in tasks}.values(), key=lambda task: task.key)
        pages = []
        for first in range(0, len(distinct), PAGE_TASKS):
            pages.append(f"{first // PAGE_TASKS:06d}")
            self._write_page(pages[-1], distinct[first : first + PAGE_TASKS])
        return pages

    def follow(self, page: str, key: str, tasks: Sequence[Task]) -> list[Place]:
        """Writes the follow-up tasks of a task on a page, and returns their places."""
        if not tasks:
            return []
        distinct = list({task.key: task for task in tasks}.values())
        following = f"{root_page(page)}/{key}.{len(distinct)}"
        content = self._write_page(following, distinct)
        return [(following, start, end, False) for _, start, end in _lines(content)]

    def listed(self, page: str) -> list[Place]:
        """Reads the places of the tasks of a numbered page, and which of them are done."""
        content = self._read(_file(page))
        done = set(self._results(page))
        return [(page, start, end, key + DONE in done) for key, start, end in _lines(content)]

    def following(self, result: TaskResult) -> list[Place]:
        """Reads the places of the tasks that follow from one that an attempt before has done."""
        if not result.next:
            return []
        content = self._read(_file(result.next))
        return [(result.next, start, end, True) for _, start, end in _lines(content)]

    def task(self, place: Place, kind: type[T]) -> T:
        """Reads a task and validates it as `kind`."""
        page, start, end, _ = place
        _, _, fields = self._read(_file(page), start, end).partition(b"\t")
        return TypeAdapter(kind).validate_json(fields)

    def record(self, page: str, result: TaskResult) -> bool:
        """Records the result of a task on a page, which makes it done.

        Returns:
            Whether another attempt had recorded one already; the newer one replaces it, for
            the files of the older one may be gone.
        """
        url = f"{self.folder}/{_done(page, result.key)}"
        # By the attempt `put_new` tells another's result from its own.
        content = canonical(asdict(result) | {"attempt": secrets.token_hex(8)})
        if put_new(url, content):
            return False
        put(url, content)
        return True

    def result(self, page: str, key: str) -> TaskResult | None:
        """Reads the result of a task; None if it is not done, or one of its files is missing.

        Vacuum deletes files that a run left for a day, and a lake may be restored from a copy.
        So each file is looked up, but only those of tasks that an attempt before has done:
        files that are written now are younger than what vacuum takes.
        """
        try:
            result = _RESULT.validate_json(self._read(_done(page, key)))
        except FileNotFoundError:
            return None
        fs, root = filesystem(self._lake_url)
        try:
            complete = all(fs.size(f"{root}/{name}") == size for name, size in result.files())
        except FileNotFoundError:
            return None
        return result if complete else None

    def roll_up(self, page: str, expected: int) -> None:
        """Writes the results of a numbered page, and of all that follows from it, to one file.

        Raises:
            LakeError: their number is not the expected one.
        """
        found = self._results(page)
        if len(found) != expected:
            raise LakeError(
                f"{self.folder}/{page} holds {len(found)} results, not {expected}; was it deleted "
                "meanwhile, or do two tasks share a key? Run the same command again"
            )
        with ThreadPoolExecutor(READERS) as pool:
            lines = pool.map(self._read, (f"{page}/{name}" for name in found))
            content = gzip.compress(b"\n".join(lines), mtime=0)
        put(f"{self.folder}/{page}{RESULTS}", content)

    def results(self, expected: int) -> Results:
        """Reads the results of all tasks, once each numbered page is rolled up.

        Raises:
            LakeError: the number of rolled-up pages is not the expected one.
        """
        found = [name for name in names(self.folder) if name.endswith(RESULTS)]
        if len(found) != expected:
            raise LakeError(
                f"{self.folder} holds the results of {len(found)} pages, not {expected}; was it "
                "deleted meanwhile? Run the same command again"
            )
        with ThreadPoolExecutor(READERS) as pool:
            return Results(list(pool.map(self._read, found)))

    def leave(self, left: Left) -> None:
        """Records what the commit leaves for the next run."""
        if left != Left():
            put(f"{self.folder}/{LEFT}", canonical(asdict(left)))

    def close(self) -> Left:
        """Deletes the journal; returns what the commit left."""
        left = Left()
        if LEFT in names(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another process closed it just now
                left = TypeAdapter(Left).validate_json(self._read(LEFT))
        remove(self.folder)
        return left

    def is_over(self) -> bool:
        """Tells whether the run is committed, by this process or another."""
        return is_committed(Lake(self._lake_url), self.run_id)

    @contextlib.contextmanager
    def unless_over(self) -> Iterator[None]:
        """Drops an error of the block if the run is over: its journal and scratch are deleted."""
        try:
            yield
        except Exception:
            if not self.is_over():
                raise

    def pages(self) -> list[str]:
        """Lists the numbered pages."""
        found = names(self.folder)
        return [name.removesuffix(TODO) for name in found if name.endswith(TODO)]

    def done(self, page: str) -> tuple[int, int]:
        """Counts the tasks of a numbered page, and of all that follows from it, that are done.

        Returns:
            Their number, and how many tasks are known to follow from those of the page.
        """
        found = names(f"{self.folder}/{page}")
        following = [name.split(".")[-2] for name in found if name.endswith(NEXT)]
        return sum(name.endswith(DONE) for name in found), sum(map(int, following))

    def _results(self, page: str) -> list[str]:
        return [name for name in names(f"{self.folder}/{page}") if name.endswith(DONE)]

    def _write_page(self, page: str, tasks: Sequence[Task]) -> bytes:
        lines = [b"%s\t%s\n" % (task.key.encode(), canonical(_fields(task))) for task in tasks]
        content = b"".join(lines)
        put(f"{self.folder}/{_file(page)}", content)
        return content

    def _read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        return get_own(f"{self.folder}/{name}", start, end)


def scratch_url(lake_url: str, config: Mapping[str, Any], *content: Any) -> str:
    """Returns the folder for what a job writes while it plans, and deletes when it is over.

    No other job has the same: its name depends on the configuration as well as the content.
    """
    made_for = canonical(redacted(dict(config))).decode("ascii")
    return f"{journals_url(lake_url)}/{digest('scratch', made_for, *content)}"


def clear_journals(lake: Lake) -> None:
    """Deletes the journals of committed runs.

    A run removes its own. But the job of a client that was killed lives on, and may write
    into the journal after the same command, started again, has committed the run.
    """
    for run_id in names(journals_url(lake.url)):
        if find_run(lake, run_id) is not None:
            remove(Journal(lake.url, run_id).folder)


class Results(Iterable[TaskResult]):
    """The results of a run, in the order of their pages and keys.

    Held compressed, at some hundred bytes a task, and decoded page by page each time that they
    are iterated over: a result is some kilobytes as Python objects.

    Args:
        pages: the rolled-up pages.
    """

    def __init__(self, pages: Sequence[bytes]) -> None:
        self._pages = pages

    def __iter__(self) -> Iterator[TaskResult]:
        """Yields the result of each task."""
        for page in self._pages:
            for line in gzip.decompress(page).splitlines():
                yield _RESULT.validate_json(line)


def root_page(page: str) -> str:
    """Returns the numbered page that a page of follow-up tasks belongs to.

    >>> root_page("000012/4c0f.60"), root_page("000012")
    ('000012', '000012')
    """
    return page.partition("/")[0]


def parent_of(page: str) -> str:
    """Returns the key of the task that a page follows from; "" for a numbered page.

    >>> parent_of("000012/4c0f.60"), parent_of("000012")
    ('4c0f', '')
    """
    return page.partition("/")[2].rpartition(".")[0]


def _file(page: str) -> str:
    return page + (NEXT if "/" in page else TODO)


def _done(page: str, key: str) -> str:
    return f"{root_page(page)}/{key}{DONE}"


def _lines(content: bytes) -> Iterator[tuple[str, int, int]]:
    """Yields the key and the place of each task of a page."""
    start = 0
    for line in content.splitlines(keepends=True):
        yield line.partition(b"\t")[0].decode(), start, start + len(line)
        start += len(line)


def _fields(task: Any) -> dict[str, Any]:
    fields: dict[str, Any] = asdict(task)
    return fields
