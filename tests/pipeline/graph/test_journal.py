"""The journal: tasks and results are read back as they were written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.graph.journal import PAGE_TASKS, Journal
from pipeline.graph.stage import TaskResult
from schemas.errors import LakeError
from schemas.ids import digest
from schemas.records import AddFile, Count, Event
from tests.pipeline.graph.annotate import Number


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
    tasks = [Number(value) for value in range(2 * PAGE_TASKS + 1)]
    pages = journal.plan([*tasks, tasks[0]])
    assert len(pages) == 3
    places = [place for page in pages for place in journal.places(page)]
    assert [journal.task(place, Number) for place in places] == tasks


def test_fields_of_any_kind_are_read_back(journal: Journal) -> None:
    (page,) = journal.plan([RICH])
    (place,) = journal.places(page)
    assert journal.task(place, Rich) == RICH


def test_a_task_of_another_type_is_an_error(journal: Journal) -> None:
    (page,) = journal.plan([RICH])
    (place,) = journal.places(page)
    with pytest.raises(ValidationError):
        journal.task(place, Number)


def test_follow_up_tasks_have_a_page_of_their_own(journal: Journal) -> None:
    assert journal.follow("parent", []) == ""
    page = journal.follow("parent", [Number(1), Number(2), Number(1)])
    assert [journal.task(p, Number) for p in journal.places(page)] == [Number(1), Number(2)]


def test_attempts_are_counted(journal: Journal) -> None:
    assert [journal.begin("a") for _ in range(3)] == [0, 1, 2]
    assert journal.begin("b") == 0


def test_a_task_is_done_only_while_all_its_files_exist(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "tables" / "logs").mkdir(parents=True)
    (tmp_path / "packs").mkdir()
    table, pack = tmp_path / "tables" / "logs" / "a.parquet", tmp_path / "packs" / "p.tar"
    table.write_bytes(b"1234")
    pack.write_bytes(b"12")
    done = result("a", adds=(AddFile("logs", "a.parquet", 4, 1, "{}"),), blobs={"packs/p.tar": 2})
    assert journal.result("a") is None
    journal.record(done)
    assert journal.result("a") == done
    pack.write_bytes(b"123")
    assert journal.result("a") is None, "another size"
    pack.write_bytes(b"12")
    table.unlink()
    assert journal.result("a") is None


def test_results_come_in_the_order_of_their_keys(journal: Journal) -> None:
    keys = [digest(number) for number in range(40)]
    for key in keys:
        journal.record(result(key))
    assert journal.done() == 40
    assert [found.key for found in journal.results(40)] == sorted(keys)
    with pytest.raises(LakeError, match="holds 40 results, not 41"):
        journal.results(41)
