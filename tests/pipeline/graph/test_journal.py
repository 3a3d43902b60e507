"""The journal: tasks and results are read back as they were written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.graph.journal import PAGE_TASKS, Journal, Left, clear_journals
from pipeline.graph.stage import TaskResult
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.ids import digest
from schemas.records import AddFile, Count, Event
from tests.pipeline.graph.annotate import Annotate, Number, annotate


@dataclass(frozen=True, slots=True)
class Rich:
    """A task with fields of every kind that is allowed."""

    key: str
    events: tuple[Event, ...]
    files: tuple[tuple[str, tuple[str, ...]], ...]
    share: float


EVENT = Event("e", "l", "d", "t", 1, "p", -5, 0, 2**62, 0.1 + 0.2, '{"a":"é\\n\\u2028"}')
RICH = Rich(digest("rich"), (EVENT, EVENT), (("logs", ("a\nb", "c")), ("frames", ())), 1e-300)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path), "run")


def result(key: str, **changes: object) -> TaskResult:
    made = TaskResult(key, (), {}, (Count("s", "logs", 1),), "", {"shard": "a"})
    return replace(made, **changes)  # type: ignore[arg-type]


def test_tasks_are_read_back_from_their_places(journal: Journal) -> None:
    """In the order of their keys, whatever order they were planned in."""
    tasks = [Number(value) for value in range(2 * PAGE_TASKS + 1)]
    pages = journal.plan([*tasks, tasks[0]])
    assert pages == ["000000", "000001", "000002"] == journal.pages()
    places = [place for page in pages for place in journal.listed(page)]
    tasks.sort(key=lambda task: task.key)
    assert [journal.task(place, Number) for place in places] == tasks
    assert journal.plan(list(reversed(tasks))) == pages
    assert [place for page in pages for place in journal.listed(page)] == places


def test_fields_of_any_kind_are_read_back(journal: Journal) -> None:
    (page,) = journal.plan([RICH])
    (place,) = journal.listed(page)
    assert journal.task(place, Rich) == RICH


def test_a_task_of_another_type_is_an_error(journal: Journal) -> None:
    (page,) = journal.plan([RICH])
    (place,) = journal.listed(page)
    with pytest.raises(ValidationError):
        journal.task(place, Number)


def test_follow_up_tasks_have_a_page_of_their_own(journal: Journal) -> None:
    """They may be done already, if the task that they follow from is."""
    assert journal.follow("000000", "parent", []) == []
    assert journal.following(result("parent")) == []
    places = journal.follow("000000", "parent", [Number(1), Number(2), Number(1)])
    assert [journal.task(place, Number) for place in places] == [Number(1), Number(2)]
    again = journal.following(result("parent", next="000000/parent.2"))
    assert again == [(page, start, end, True) for page, start, end, _ in places]
    (deeper,) = journal.follow("000000/parent.2", "child", [Number(3)])
    assert deeper[0] == "000000/child.1"
    assert journal.task(deeper, Number) == Number(3)
    journal.record("000000/parent.2", result("child"))
    assert journal.done("000000") == (1, 3)


def test_a_listing_tells_which_tasks_are_done(journal: Journal) -> None:
    journal.plan([Number(value) for value in range(5)])
    journal.record("000000", result(Number(3).key))
    done = [journal.task(place, Number) for place in journal.listed("000000") if place[3]]
    assert done == [Number(3)]


def test_the_record_of_another_attempt_is_seen_and_replaced(journal: Journal) -> None:
    assert not journal.record("000000", result("a", detail={"n": 1}))
    assert journal.record("000000", result("a", detail={"n": 2}))
    assert not journal.record("000000/parent", result("b"))
    assert journal.result("000000", "a") == result("a", detail={"n": 2})
    assert journal.result("000000", "b") == journal.result("000000/parent", "b") == result("b")


def test_a_task_is_done_only_while_all_its_files_exist(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "tables" / "logs").mkdir(parents=True)
    (tmp_path / "packs").mkdir()
    table, pack = tmp_path / "tables" / "logs" / "a.parquet", tmp_path / "packs" / "p.tar"
    table.write_bytes(b"1234")
    pack.write_bytes(b"12")
    done = result("a", adds=(AddFile("logs", "a.parquet", 4, 1, "{}"),), blobs={"packs/p.tar": 2})
    assert journal.result("000000", "a") is None
    journal.record("000000", done)
    assert journal.result("000000", "a") == done
    pack.write_bytes(b"123")
    assert journal.result("000000", "a") is None, "another size"
    pack.write_bytes(b"12")
    table.unlink()
    assert journal.result("000000", "a") is None


def test_results_come_in_the_order_of_their_keys(journal: Journal) -> None:
    """And as often as they are asked for."""
    numbers = [Number(value) for value in range(PAGE_TASKS + 20)]
    for page in journal.plan(numbers):
        for place in journal.listed(page):
            journal.record(page, result(journal.task(place, Number).key))
    assert [journal.done(page) for page in journal.pages()] == [(PAGE_TASKS, 0), (20, 0)]
    journal.roll_up("000000", PAGE_TASKS)
    journal.roll_up("000001", 20)
    results = journal.results(2)
    keys = sorted(number.key for number in numbers)
    assert [found.key for found in results] == [found.key for found in results] == keys


def test_a_page_with_another_number_of_results_is_an_error(journal: Journal) -> None:
    journal.record("000000", result("a"))
    with pytest.raises(LakeError, match="000000 holds 1 results, not 2"):
        journal.roll_up("000000", 2)
    journal.roll_up("000000", 1)
    with pytest.raises(LakeError, match="holds the results of 1 pages, not 2"):
        journal.results(2)


def test_the_journals_of_committed_runs_are_cleared(tmp_path: Path) -> None:
    """A job that outlives its client can write into one after the run has deleted it."""
    lake = Lake.create(str(tmp_path / "lake"))
    run = annotate(lake, Annotate(str(tmp_path / "log")), range(3), 3).run_id
    late, other = (Path(lake.url, "work", name) for name in (run, "of-another-run"))
    for folder in (late, other):
        folder.mkdir(parents=True)
        (folder / "a.done").write_bytes(b"{}")
    clear_journals(lake)
    assert not late.exists()
    assert other.exists(), "a run that has not committed keeps its journal"


def test_a_journal_is_closed_with_what_the_commit_left(journal: Journal) -> None:
    journal.plan([Number(1)])
    assert journal.close() == Left()
    journal.plan([Number(1)])
    journal.leave(Left(dropped=2))
    assert journal.close() == Left(dropped=2)
    assert not Path(journal.folder).exists()
    assert journal.close() == Left(), "another process may have closed it"
