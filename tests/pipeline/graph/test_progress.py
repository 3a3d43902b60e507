"""The progress of a run: its counts, what they cost, and a store that fails now and then."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.graph import progress
from pipeline.graph.journal import PAGE_TASKS, Journal
from pipeline.graph.progress import POLL_PAGES, Progress, watching
from pipeline.graph.stage import TaskResult
from tests.pipeline.graph.annotate import Number


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path), "r")


def record(journal: Journal, page: str, key: str) -> None:
    journal.record(page, TaskResult(key, (), {}, (), "", {}))


def test_pages_of_a_large_run_are_listed_in_turn(journal: Journal) -> None:
    pages = journal.plan([Number(value) for value in range(PAGE_TASKS * (POLL_PAGES + 1))])
    look = Progress(journal).look
    assert look() == (0, 0)
    for page in pages:
        record(journal, page, "a")
    assert look() == (POLL_PAGES, 0), "the page that was left out, and all but one of the others"
    assert look() == (POLL_PAGES + 1, 0)


def test_tasks_that_are_done_are_reported_until_the_block_ends(journal: Journal) -> None:
    reported: list[int] = []
    seen = threading.Event()

    def tell(done: int, _following: int) -> None:
        reported.append(done)
        seen.set()

    (page,) = journal.plan([Number(1)])
    with watching(journal, tell):
        record(journal, page, "a")
        assert seen.wait(60)
    assert reported == [1]
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_a_store_that_fails_now_and_then_costs_no_progress(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises, and whichever of the requests fails."""
    outcomes = iter([OSError("reset"), None, TimeoutError(), RuntimeError("503"), KeyError("Key")])

    class Failing(Journal):
        def pages(self) -> list[str]:
            self.fail()
            return super().pages()

        def done(self, page: str) -> tuple[int, int]:
            self.fail()
            return super().done(page)

        def fail(self) -> None:
            if error := next(outcomes, None):
                raise error

    journal.plan([Number(1)])
    record(journal, "000000", "a")
    monkeypatch.setattr(progress, "_LOCAL_POLL_S", 0.01)
    seen = threading.Event()
    with watching(Failing(str(Path(journal.folder).parents[1]), "r"), lambda *_: seen.set()):
        assert seen.wait(60)
    assert next(outcomes, None) is None, "every error was met"
