"""Storage: one suite over every kind of store, local and remote."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from schemas.ids import digest
from tests.deploy.s3.store import Store
from transforms.storage import (
    TEMPORARY,
    FileSystem,
    filesystem,
    get,
    is_local,
    names,
    normal,
    put,
    put_new,
    remove,
    replacing,
)
from transforms.timing import recording


class VersionedFileSystem(MemoryFileSystem):  # type: ignore[misc] # fsspec is not typed
    """A store whose `cat_file` takes a version as its second argument, as that of s3fs does."""

    protocol = "versioned"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = MemoryFileSystem._strip_protocol(path.removeprefix("versioned://"))
        return stripped

    def cat_file(
        self,
        path: str,
        version_id: str | None = None,
        start: int | None = None,
        end: int | None = None,
    ) -> bytes:
        assert version_id is None
        content: bytes = super().cat_file(path, start=start, end=end)
        return content


fsspec.register_implementation("versioned", VersionedFileSystem, clobber=True)


@pytest.fixture(params=["local", "memory", "versioned", pytest.param("s3", marks=pytest.mark.s3)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a folder of each kind of store, which does not exist yet."""
    if request.param == "local":
        yield str(tmp_path / "a folder#1")
        return
    url = f"{request.param}://{digest(str(tmp_path))}"
    if request.param == "s3":
        started: Store = request.getfixturevalue("store")
        url = started.url(digest(str(tmp_path)))
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield url
    remove(url)


def test_an_object_is_read_back_whole_and_by_range(root: str) -> None:
    content = bytes(range(256)) * 300
    put(f"{root}/deep/er/object", content)
    url = f"{root}/deep/er/object"
    assert get(url) == content
    for start, end in [(0, 1), (10, 70_000), (5, 5), (100, None), (None, 9), (76_799, 99_999)]:
        assert get(url, start, end) == content[slice(start, end)]


def test_an_absent_object_is_not_found(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        get(f"{root}/none")


def test_put_replaces(root: str) -> None:
    put(f"{root}/object", b"a longer text")
    put(f"{root}/object", b"new")
    assert get(f"{root}/object") == b"new"
    put(f"{root}/object", b"")
    assert get(f"{root}/object") == b""
    assert names(root) == ["object"]


def test_put_new_never_replaces(root: str) -> None:
    assert put_new(f"{root}/object", b"first")
    assert not put_new(f"{root}/object", b"second")
    assert get(f"{root}/object") == b"first"
    assert names(root) == ["object"]


def test_put_new_counts_an_equal_object_as_written(root: str) -> None:
    """The answer to a write may be lost, and the write repeated."""
    assert put_new(f"{root}/object", b"same")
    assert put_new(f"{root}/object", b"same")
    assert names(root) == ["object"]


def test_put_new_lets_one_of_many_threads_through(root: str) -> None:
    for number in range(20):
        url = f"{root}/{number}"
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda k, url=url: put_new(url, b"%d" % k), range(8)))
        assert sum(won) == 1
        assert get(url) == b"%d" % won.index(True)


def test_a_replaced_file_appears_when_the_block_ends(root: str) -> None:
    url = f"{root}/object"
    with replacing(url) as out:
        out.write(b"new ")
        out.write(memoryview(b"content"))
        assert out.tell() == 11
        assert "object" not in names(root)
    assert get(url) == b"new content"
    with replacing(url) as out:
        out.write(b"newer")
        assert get(url) == b"new content"
    assert get(url) == b"newer"
    assert names(root) == ["object"]


class StoppedError(Exception):
    """Whatever goes wrong while a file is written."""


def stop_within(url: str) -> None:
    """Fails while it writes a file."""
    with replacing(url) as out:
        out.write(b"half")
        out.flush()
        raise StoppedError


def test_an_error_leaves_nothing(root: str) -> None:
    put(f"{root}/old", b"old")
    for name in ("old", "new"):
        with pytest.raises(StoppedError):
            stop_within(f"{root}/{name}")
    assert names(root) == ["old"]
    assert get(f"{root}/old") == b"old"


def test_threads_do_not_share_their_success_or_failure(root: str) -> None:
    """One thread's error neither drops nor publishes what another is writing."""
    inside, failed = threading.Barrier(2), threading.Event()

    def fail() -> None:
        with replacing(f"{root}/failed") as out:
            out.write(b"half")
            inside.wait()
            raise StoppedError

    def succeed() -> None:
        with replacing(f"{root}/written") as out:
            out.write(b"first half, ")
            inside.wait()
            assert failed.wait(10)
            put(f"{root}/meanwhile", b"x")
            assert get(f"{root}/meanwhile") == b"x"
            out.write(b"second half")

    with ThreadPoolExecutor(2) as pool:
        success, failure = pool.submit(succeed), pool.submit(fail)
        assert isinstance(failure.exception(), StoppedError)
        failed.set()
        success.result()
    assert names(root) == ["meanwhile", "written"]
    assert get(f"{root}/written") == b"first half, second half"


def test_names_are_sorted_and_those_of_the_folder_alone(root: str) -> None:
    assert names(root) == []
    for name in ("b", "a", "folder/inside", f"{TEMPORARY}1"):
        put(f"{root}/{name}", b"x")
    assert names(root) == sorted([f"{TEMPORARY}1", "a", "b", "folder"])
    assert names(f"{root}/folder/") == ["inside"]


def test_remove_takes_a_folder_and_nothing_else(root: str) -> None:
    remove(f"{root}/none")
    for name in ("folder/a", "folder/deep/b", "folder2/c"):
        put(f"{root}/{name}", b"x")
    remove(f"{root}/folder")
    assert names(root) == ["folder2"]
    assert names(f"{root}/folder") == []


@pytest.mark.parametrize("write", [put, put_new])
def test_writes_and_removals_of_one_folder_survive_each_other(
    root: str, write: Callable[[str, bytes], object]
) -> None:
    put(f"{root}/other", b"x")
    stop = threading.Event()

    def add() -> int:
        number = 0
        while not stop.is_set():
            write(f"{root}/folder/{number % 50}", b"x")
            number += 1
        return number

    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(add)
        try:
            for _ in range(20):
                remove(f"{root}/folder")
        finally:
            stop.set()
        assert adding.result() > 0
    remove(f"{root}/folder")
    assert names(root) == ["other"]


def test_time_in_the_store_is_charged_to_read_and_put(root: str) -> None:
    def steps(work: Any) -> set[str]:
        with recording() as times:
            work()
        return set(times.milliseconds())

    def replace() -> None:
        with replacing(f"{root}/c") as out:
            out.write(b"x")

    assert steps(lambda: put(f"{root}/a", b"x")) == {"other", "put"}
    assert steps(lambda: put_new(f"{root}/b", b"x")) == {"other", "put"}
    assert steps(replace) == {"other", "put"}
    assert steps(lambda: get(f"{root}/a")) == {"other", "read"}


def test_normal_urls_are_absolute_and_have_no_trailing_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert normal("lake/") == normal("lake") == f"{tmp_path}/lake"
    assert normal("file:///lake/") == "/lake"
    assert normal("s3://bucket/lake//") == "s3://bucket/lake"
    assert normal(normal("lake")) == normal("lake")


def test_only_this_machines_files_are_local(root: str, tmp_path: Path) -> None:
    assert is_local(root) == (root == str(tmp_path / "a folder#1"))
    assert is_local(f"file://{tmp_path}")
    assert filesystem(f"{tmp_path}/x")[1] == f"{tmp_path}/x"


def test_arguments_have_the_names_that_fsspec_gives_them() -> None:
    """Every keyword that we pass is a parameter of fsspec's own method, and of those of s3fs."""
    kinds = [fsspec.AbstractFileSystem, fsspec.get_filesystem_class("s3")]
    for name, ours in inspect.getmembers(FileSystem, inspect.isfunction):
        if name.startswith("_"):
            continue
        given = inspect.signature(ours).parameters.values()
        keywords = {each.name for each in given if each.kind is each.KEYWORD_ONLY}
        for kind in kinds:
            method = getattr(kind, name)
            if issubclass(kind, AsyncFileSystem):  # whose methods wrap those
                method = getattr(kind, f"_{name}", method)
            theirs = inspect.signature(method)
            assert keywords <= set(theirs.parameters), (kind, name)
