"""Files of messages: which are one log, and how their chunks are joined."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import CorruptError, UnreadableError
from schemas.records import LogRef, Member
from tests.message_logs import Memory, drive
from tests.transforms.readers.claims import tree_of
from transforms.messages.files import open_files, opened_file, split_claims
from transforms.messages.source import Chunk, Found
from transforms.readers import ReadOptions


def test_files_that_are_numbered_in_one_folder_are_one_log(tmp_path: Path) -> None:
    names = ["a_0.x", "a_2.x", "a_10.x", "b.x", "c_1.x", "deep/a_0.x", "deep/a_1.X", "d_.x", "e.y"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    claims = split_claims(tree_of(str(tmp_path)), ".x")
    assert {claim.name: claim.paths for claim in claims} == {
        "a": ("a_0.x", "a_2.x", "a_10.x"),
        "b.x": ("b.x",),
        "c_1.x": ("c_1.x",),
        "d_.x": ("d_.x",),
        "deep/a": ("deep/a_0.x", "deep/a_1.X"),
    }
    assert {claim.name: claim.base for claim in claims}["deep/a"] == "deep/"


class File:
    """A container in memory."""

    def __init__(self, source: Memory, broken: str = "") -> None:
        self.topics, self.chunks, self.software = source.topics, source.chunks, "memory"
        self.broken = broken
        self._source = source

    def read(self, chunk: Chunk) -> dict[str, Found]:
        return self._source.read(chunk)


def log(number: int) -> LogRef:
    members = tuple(Member(f"a_{k}", f"a_{k}", 1) for k in range(number))
    return LogRef("mcap", "a", "a", members, "0")


def test_chunks_of_several_files_are_in_the_order_of_time() -> None:
    messages = drive(8.0)
    # The second file was recorded first.
    files = [File(Memory(messages[700:])), File(Memory(messages[:700]), "cut off")]
    joined = open_files(log(2), files, ReadOptions())
    whole = open_files(log(1), [File(Memory(messages))], ReadOptions())
    assert joined.header.duration_ns == whole.header.duration_ns
    (own,), (expected,) = joined.segments, whole.segments
    assert joined.read(own).counts == whole.read(expected).counts
    assert [reject.detail.split(";")[0] for reject in joined.read(own).rejects] == ["a_1: cut off"]


def test_a_file_without_a_message_is_corrupt() -> None:
    with pytest.raises(CorruptError, match="a_1: it holds no message"):
        open_files(log(2), [File(Memory(drive(1.0))), File(Memory([]))], ReadOptions())


def test_a_read_that_fails_is_for_the_next_run(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="reading failed"), opened_file(str(tmp_path / "a")):
        pass
    path = tmp_path / "b"
    path.write_bytes(b"abc")
    with opened_file(str(path)) as file:
        assert file.read() == b"abc"

    def fail() -> None:
        with opened_file(str(path)):
            raise ConnectionResetError(104, "reset")

    with pytest.raises(UnreadableError, match="reset"):
        fail()
