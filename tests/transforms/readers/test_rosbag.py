"""The reader of ROS bags: a drive against its truth, cuts, damage, and real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.stages.recording_rows import LogRows, log_rows
from schemas.errors import CorruptError, DataError, EmptyError
from tests.message_logs import (
    START_NS,
    check_truth,
    damages,
    drive,
    write_bag,
    write_db3,
    write_mcap,
)
from tests.transforms.readers.claims import logs_of
from transforms.messages.log import MessageLog
from transforms.readers import Format, ReadOptions
from transforms.readers.mcap import Mcap
from transforms.readers.rosbag import RosBag

SECONDS = 8.0


def opened(folder: Path, reader: Format | None = None, **options: Any) -> MessageLog:
    """Opens the one log of a folder."""
    (log,) = logs_of(reader or RosBag(), str(folder))
    found = (reader or RosBag()).open(log, ReadOptions(**options))
    assert isinstance(found, MessageLog)
    return found


def tables(made: LogRows) -> dict[str, Any]:
    """The rows of a log, without its id."""
    return {
        name: table.drop_columns(["log_id"]).to_pylist()
        for name, table in made.tables.items()
        if name != "logs"
    }


WRITERS: dict[str, Callable[[Path, float], Path]] = {
    "bag": lambda folder, s: write_bag(folder / "a.bag", drive(s, version=1)),
    "bag-bz2": lambda folder, s: write_bag(folder / "a.bag", drive(s, version=1), "bz2"),
    "bag-lz4": lambda folder, s: write_bag(folder / "a.bag", drive(s, version=1), "lz4"),
    "db3": lambda folder, s: write_db3(folder / "a.db3", drive(s)),
    "db3-old": lambda folder, s: write_db3(folder / "a.db3", drive(s), definitions=False),
}
"""Bags of every kind; that of a recorder before Iron has no definitions."""


@pytest.mark.parametrize("kind", WRITERS)
def test_a_drive_gives_its_truth_and_what_mcap_gives(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path, SECONDS)
    log = opened(tmp_path)
    made = log_rows(log)
    check_truth(made.tables["signals"])
    assert (log.header.start_ns, log.header.clock) == (START_NS, "utc")
    assert log.header.joint_names == ("knee", "hip")
    assert [(count.of, count.kept, count.total) for count in made.counts] == [
        ("messages", 1440, 1440)
    ]
    assert not made.rejects
    other = tmp_path / "mcap"
    other.mkdir()
    write_mcap(other / "a.mcap", drive(SECONDS))
    assert tables(made) == tables(log_rows(opened(other, Mcap())))


@pytest.mark.parametrize("suffix", ["bag", "db3"])
def test_a_bag_that_was_split_is_one_log(tmp_path: Path, suffix: str) -> None:
    messages = drive(SECONDS, version=1 if suffix == "bag" else 2)
    write = write_bag if suffix == "bag" else write_db3
    for number in range(3):
        write(tmp_path / f"drive_{number}.{suffix}", messages[number * 480 : (number + 1) * 480])
    made = log_rows(opened(tmp_path))
    check_truth(made.tables["signals"])
    assert sum(count.kept for count in made.counts) == 1440


def test_a_bag_without_its_index_gives_what_is_whole(tmp_path: Path) -> None:
    """As after a power cut: rosbag calls it unindexed."""
    path = write_bag(tmp_path / "a.bag", drive(SECONDS, version=1))
    expected = tables(log_rows(opened(tmp_path)))
    content = bytearray(path.read_bytes())
    at = content.index(b"index_pos=") + len(b"index_pos=")
    index = int.from_bytes(content[at : at + 8], "little")
    content[at : at + 8] = bytes(8)
    path.write_bytes(content[:index])
    made = log_rows(opened(tmp_path))
    assert tables(made) == expected
    (reject,) = made.rejects
    assert "it ends without an index; what is whole is kept" in reject.detail
    path.write_bytes(content[: index * 3 // 4])
    torn = log_rows(opened(tmp_path))
    assert 0.5 * 1440 < torn.counts[0].kept < 0.8 * 1440
    (reject,) = torn.rejects
    assert "is cut off" in reject.detail


@pytest.mark.parametrize("kind", WRITERS)
def test_whatever_is_damaged_is_read_or_rejected(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path, 2.0)
    read = 0
    for content in damages(path.read_bytes(), len(kind)):
        path.write_bytes(content)
        try:
            read += bool(log_rows(opened(tmp_path, native=True)).tables)
        except DataError:
            continue
    assert read > 10


@pytest.mark.parametrize("suffix", ["bag", "db3"])
def test_files_that_are_none_are_rejected(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"")
    with pytest.raises(EmptyError):
        opened(tmp_path)
    path.write_bytes(b"neither of both" * 100)
    with pytest.raises(CorruptError):
        opened(tmp_path)
    (write_bag if suffix == "bag" else write_db3)(path, [])
    with pytest.raises(CorruptError, match="record or copy it again"):
        opened(tmp_path)


def test_real_files_are_read_or_rejected(data: Path, tmp_path: Path) -> None:
    """The SQLite files hold what the MCAP files beside them do."""
    root = data / "rosbag2"
    for log in logs_of(RosBag(), str(root / "sqlite3")):
        made = log_rows(RosBag().open(log, ReadOptions(native=True))) if _read(log.name) else None
        if made is not None:
            (count,) = made.counts
            assert count.total == (7 if "cdr_test" in log.name else 20), log.name
    with pytest.raises(CorruptError, match="no message"):
        opened(root / "empty_bag")
    path = tmp_path / "a.db3"
    for seed, file in enumerate(sorted(root.rglob("*.db3"))):
        for content in damages(file.read_bytes(), seed)[::4]:
            path.write_bytes(content)
            try:
                log_rows(opened(tmp_path, native=True))
            except DataError:
                continue


def _read(name: str) -> bool:
    """Whether a recording has a topic with numbers: the others hold texts alone."""
    return "cdr_test" in name or "talker" in name
