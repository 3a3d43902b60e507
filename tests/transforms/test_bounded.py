"""Files that a user names: read up to a size, and only if they are files."""

from __future__ import annotations

import os
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from schemas.errors import UsageError
from tests.hostile_server import WHOLE, hostile_server
from transforms import bounded
from transforms.bounded import RefusedError, blocks, read_configuration


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with hostile_server() as address:
        yield address


def read(url: object, limit: int = 1000) -> bytes:
    return read_configuration("--config", str(url), limit)


def test_a_file_is_read_up_to_the_limit_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"a" * 1000)
    assert read(path) == b"a" * 1000 == read(f"file://{path}")
    with pytest.raises(UsageError, match=r"--config .*c\.toml: longer than 999 bytes; give a sho"):
        read(path, 999)
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    with pytest.raises(UsageError, match="longer than 1000 bytes"):
        read(tmp_path / "sparse")


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"x")
    (tmp_path / "link").symlink_to("c.toml")
    assert read(tmp_path / "link") == b"x"


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        names = {
            "fifo": r"a pipe, as /dev/stdin and <\(\.\.\.\) are",
            "link": "a pipe",
            "socket": "a socket",
            ".": "a folder",
            "/dev/zero": "a device",
            f"file://{tmp_path}/fifo": "a pipe",
            f"local://{tmp_path}/fifo": "a pipe",
            f"simplecache::{tmp_path}/fifo": "a pipe",
            f"simplecache::file://{tmp_path}/fifo": "a pipe",
            f"zip://a.toml::{tmp_path}/fifo": "a pipe",
            "filecache::/dev/zero": "a device",
        }
        for name, kind in names.items():
            url = name if "::" in name or "://" in name else tmp_path / name
            with pytest.raises(UsageError, match=f"{kind}.*, and not a regular file; save it to"):
                read(url)


def test_a_pipe_that_took_the_place_of_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    checked: list[int] = []

    def check(mode: int) -> None:
        checked.append(mode)
        if len(checked) > 1:
            original(mode)

    original = bounded._check_regular
    monkeypatch.setattr(bounded, "_check_regular", check)
    with pytest.raises(UsageError, match="a pipe"):
        read(tmp_path / "fifo")


def test_a_missing_or_closed_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--config .*gone: no such file; correct the path"):
        read(tmp_path / "gone")
    with pytest.raises(UsageError, match="cannot be read"):
        read("nonsense://x")
    with pytest.raises(UsageError, match="cannot be read"):
        read("a\0b")


def test_members_of_archives_are_read_up_to_the_limit(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small", b"x")
        archive.writestr("bomb", bytes(50 << 20))
    assert read(f"zip://small::{tmp_path}/a.zip") == b"x"
    with pytest.raises(UsageError, match="longer than 1000 bytes"):
        read(f"zip://bomb::{tmp_path}/a.zip")


def test_other_stores_are_read(tmp_path: Path) -> None:
    with fsspec.open("memory://bounded/c.toml", "wb") as file:
        file.write(b"a" * 2000)
    assert len(read("memory://bounded/c.toml", 2000)) == 2000
    with pytest.raises(UsageError, match="longer than 1999 bytes"):
        read("memory://bounded/c.toml", 1999)
    assert tmp_path.exists()


def test_a_server_is_read_as_far_as_it_may_be(server: str) -> None:
    assert read(f"{server}/whole") == WHOLE
    with pytest.raises(UsageError, match="longer than 1000 bytes"):
        read(f"{server}/endless")
    for path in ("short", "file", "circle"):
        with pytest.raises(UsageError, match=f"/{path}: cannot be read: "):
            read(f"{server}/{path}")
    with pytest.raises(UsageError, match="/gone: no such file"):
        read(f"{server}/gone")


def test_a_chain_to_a_server_is_refused(server: str) -> None:
    for chain in ("simplecache", "zip://a.toml", "filecache"):
        with pytest.raises(UsageError, match="reached through another address; download that"):
            read(f"{chain}::{server}/endless")


def test_a_server_that_drips_is_left_in_time(server: str) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        list(blocks(f"{server}/drip", 1 << 20, 1.0))
    assert time.monotonic() - start < 60


def test_the_limit_is_that_of_all_blocks(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(3 << 20))
    assert [len(block) for block in blocks(str(path), 3 << 20, 60)] == [1 << 20] * 3
    with pytest.raises(RefusedError):
        list(blocks(str(path), (3 << 20) - 1, 60))
