"""What the journal of a run costs: requests to the store, beyond the files that tasks write."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

import apache_beam as beam
import fsspec
import pytest
from apache_beam.testing import test_pipeline
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.graph.execute import build
from pipeline.graph.journal import PAGE_TASKS, Journal
from pipeline.graph.progress import POLL_PAGES, Progress
from pipeline.graph.transforms import CommitRun, ListTasks, RunStage
from pipeline.lake.tables import Lake
from tests.pipeline.graph.annotate import Annotate, Number, Remember
from tests.pipeline.graph.test_transforms import Range, Split

TASK_REQUESTS = 3
"""The task is read, its result is written, and read when its page is rolled up."""

PAGE_REQUESTS = 6
"""The page is written, read and listed; its results are listed, written rolled up, and read."""

RUN_REQUESTS = 1
"""The rolled-up pages are listed."""

TASKS = 2 * PAGE_TASKS + 50


class Counted(MemoryFileSystem):  # type: ignore[misc]
    """A store that counts the requests to it, by the method of fsspec."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    requests: ClassVar[Counter[str]] = Counter()
    within = threading.local()


def counted(name: str) -> Callable[..., Any]:
    """Counts the calls of a method, without those that other methods make."""
    method = getattr(MemoryFileSystem, name)

    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        if getattr(Counted.within, "one", False):
            return method(*arguments, **named)
        Counted.requests[name] += 1
        Counted.within.one = True
        try:
            return method(*arguments, **named)
        finally:
            Counted.within.one = False

    return call


REQUESTS = ("cat_file", "exists", "find", "info", "ls", "modified", "open", "pipe_file", "rm_file")
for request in REQUESTS:
    setattr(Counted, request, counted(request))
fsspec.register_implementation("counted", Counted)


@pytest.fixture
def lake() -> Iterator[Lake]:
    """A lake that is only written to; Delta is not part of what is counted."""
    Counted.requests.clear()
    yield Lake("counted://lake")
    Counted.store.clear()
    Counted.pseudo_dirs[:] = [""]


def overhead(tasks: int, pages: int) -> dict[str, int]:
    """Returns the requests beyond the files of the tasks, checked against their bound."""
    requests = Counter(Counted.requests)
    assert set(requests) == {"cat_file", "pipe_file", "ls"}, "nothing is looked up one by one"
    requests["pipe_file"] -= sum("/tables/" in path for path in Counted.store)
    requests["pipe_file"] -= sum(path.endswith(".next") for path in Counted.store)
    bound = TASK_REQUESTS * tasks + PAGE_REQUESTS * pages + RUN_REQUESTS
    assert requests.total() <= bound, requests
    return dict(requests)


def test_a_task_costs_three_requests(lake: Lake, tmp_path: Path) -> None:
    journal = Journal(lake.url, "r")
    pages = journal.plan([Number(value) for value in range(TASKS)])
    with test_pipeline.TestPipeline() as root:
        stage, finish = Annotate(str(tmp_path / "log")), Remember(str(tmp_path / "seen"))
        build(root, lake, journal, pages=pages, stage=stage, finish=finish)
    assert overhead(TASKS, len(pages)) == {
        "cat_file": 2 * TASKS + 2 * len(pages),
        "pipe_file": TASKS + 2 * len(pages),
        "ls": 2 * len(pages) + RUN_REQUESTS,
    }


def test_so_does_a_follow_up_task(lake: Lake, tmp_path: Path) -> None:
    """Also one that is the only one to follow from its task."""
    journal = Journal(lake.url, "r")
    ranges = [Range(start, start + 1) for start in range(TASKS)]
    with test_pipeline.TestPipeline() as root:
        tasks = root | ListTasks(journal, pages := journal.plan(ranges))
        split, more = tasks | RunStage(Split(str(tmp_path / "split")), lake, journal)
        annotated, _ = more | RunStage(Annotate(str(tmp_path / "log")), lake, journal)
        (split, annotated) | beam.Flatten() | CommitRun(Remember(str(tmp_path / "seen")), journal)
    overhead(2 * TASKS, len(pages))


def test_a_look_at_the_progress_costs_the_same_however_large_the_run_is(lake: Lake) -> None:
    journal = Journal(lake.url, "r")
    journal.plan([Number(value) for value in range(PAGE_TASKS * (POLL_PAGES + 5))])
    Counted.requests.clear()
    progress = Progress(journal)
    progress.look()
    assert Counted.requests == {"ls": 1 + POLL_PAGES}
    progress.look()
    assert Counted.requests == {"ls": 1 + 2 * POLL_PAGES}
