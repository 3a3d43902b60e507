"""The tree that formats claim from, and what formats share."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from schemas.errors import UnreadableError, UsageError
from transforms.readers import FORMATS, HEAD_BYTES, VIDEO_SUFFIXES, Tree, is_encrypted
from transforms.readers.discover import RECORDING_SUFFIXES

SIZES = {"b.mp4": 9, "a/c.mp4": 7, "a.mp4": 5}


class CountingFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Counts reads."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        self.reads += 1
        content: bytes = super().cat_file(path, start=start, end=end)
        return content


def test_paths_are_sorted_and_their_sizes_known() -> None:
    tree = Tree(MemoryFileSystem(), "/drive", SIZES)
    assert tree.paths == ("a.mp4", "a/c.mp4", "b.mp4")
    assert [tree.size(path) for path in tree.paths] == [5, 7, 9]
    assert tree.without(["a.mp4", "unknown"]).paths == ("a/c.mp4", "b.mp4")
    assert tree.paths == ("a.mp4", "a/c.mp4", "b.mp4")


@pytest.mark.parametrize("root", ["/", "/drive", "/drive/"])
def test_uris_of_local_files_are_plain_paths(root: str) -> None:
    tree = Tree(fsspec.filesystem("file"), root, SIZES)
    folder = root.rstrip("/")
    assert tree.uri("a/c.mp4") == f"{folder}/a/c.mp4"
    assert tree.uri("") == (folder or "/")


def test_uris_of_remote_files_open_again() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/readers/a b#1.mp4", b"content")
    uri = Tree(fs, "/readers", {"a b#1.mp4": 7}).uri("a b#1.mp4")
    assert uri == "memory:///readers/a b#1.mp4"
    with fsspec.open(uri) as file:
        assert file.read() == b"content"
    fs.rm("/readers", recursive=True)


def test_a_head_is_read_once_and_is_shared_with_what_is_left_of_the_tree() -> None:
    fs = CountingFileSystem()
    content = bytes(range(256)) * 64
    fs.pipe_file("/heads/a.mp4", content)
    tree = Tree(fs, "/heads", {"a.mp4": len(content), "b.mp4": 1})
    assert tree.head("a.mp4") == content[:HEAD_BYTES]
    assert tree.head("a.mp4", 5) == content[:5]
    assert tree.without(["b.mp4"]).head("a.mp4", 9) == content[:9]
    assert fs.reads == 1
    fs.rm("/heads", recursive=True)


def test_a_missing_file_is_unreadable_and_named(tmp_path: Path) -> None:
    tree = Tree(fsspec.filesystem("file"), str(tmp_path), {"gone.mp4": 1})
    with pytest.raises(UnreadableError, match=r"gone\.mp4: cannot be read .*permissions"):
        tree.head("gone.mp4")


@pytest.mark.parametrize(
    ("path", "encrypted"),
    [
        ("EncryptedClips/a.mp4", True),
        ("car/TeslaCam/EncryptedClips/2026/a.mp4", True),
        ("EncryptedClips", True),
        ("TeslaCam/SavedClips/a.mp4", False),
        ("NotEncryptedClips/EncryptedClips.mp4", False),
        ("", False),
    ],
)
def test_encrypted_clips_are_known_by_their_folder(path: str, encrypted: bool) -> None:
    assert is_encrypted(path) is encrypted


def test_suffixes_are_lower_case_and_videos_are_recordings() -> None:
    assert set(VIDEO_SUFFIXES) < set(RECORDING_SUFFIXES)
    assert len(set(RECORDING_SUFFIXES)) == len(RECORDING_SUFFIXES)
    assert all(s.startswith(".") and s == s.lower() for s in RECORDING_SUFFIXES)


def test_formats_claim_in_order_with_the_least_specific_last() -> None:
    assert list(FORMATS)[-1] == "video"
    with pytest.raises(UsageError, match=r"unknown format 'betamax'; choose one of: .*teslacam"):
        FORMATS.load("betamax")
