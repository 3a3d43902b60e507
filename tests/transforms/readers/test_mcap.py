"""The MCAP reader: a drive against its truth in every encoding, cuts, damage, and real files."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, IndexType

from pipeline.stages.recording_rows import log_rows
from schemas.errors import CorruptError, DataError, EmptyError, UnreadableError
from schemas.recording import LogHeader, Segment
from schemas.records import LogRef, Member
from schemas.times import NS_PER_S, Span
from tests.message_logs import (
    COMPRESSIONS,
    START_NS,
    Written,
    check_truth,
    damages,
    drive,
    shuffled,
    without_summary,
    write_mcap,
)
from tests.transforms.readers.claims import logs_of
from transforms.messages.log import MessageLog
from transforms.readers import OpenLog, ReadOptions
from transforms.readers.mcap import Mcap

SECONDS = 8.0


def opened(path: Path, **options: Any) -> MessageLog:
    """Opens the one log of a folder or file."""
    folder = path if path.is_dir() else path.parent
    (log,) = logs_of(Mcap(), str(folder))
    return Mcap().open(log, ReadOptions(**options))


@dataclass(frozen=True, slots=True)
class Cut:
    """An open log that is read by other segments."""

    log: OpenLog
    segments: tuple[Span, ...]

    @property
    def header(self) -> LogHeader:
        return self.log.header

    def read(self, span: Span) -> Segment:
        return self.log.read(span)


def cut(log: OpenLog, at: Sequence[int]) -> Cut:
    """Cuts a log at some times."""
    end = log.header.duration_ns
    edges = [0, *sorted({t for t in at if 0 < t < end}), end]
    return Cut(log, tuple(Span(a, b) for a, b in itertools.pairwise(edges)))


def rows(log: OpenLog) -> dict[str, list[dict[str, Any]]]:
    """The rows of a log by table, and its counts and rejects."""
    made = log_rows(log)
    tables = {name: table.to_pylist() for name, table in made.tables.items()}
    totals: dict[str, list[int]] = {}
    for count in made.counts:
        total = totals.setdefault(count.of, [0, 0, 0])
        for at, name in enumerate(("kept", "filtered", "rejected")):
            total[at] += getattr(count, name)
    return {
        **tables,
        "counts": [dict(totals)],
        "rejects": [{r.reason: r.detail} for r in made.rejects],
    }


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("fix", ["sensor_msgs/NavSatFix", "protobuf", "json"])
def test_a_drive_gives_its_truth_in_every_encoding(tmp_path: Path, version: int, fix: str) -> None:
    write_mcap(tmp_path / "a.mcap", drive(SECONDS, version=version, fix=fix))
    log = opened(tmp_path)
    made = log_rows(log)
    check_truth(made.tables["signals"])
    header = log.header
    assert (header.start_ns, header.clock, header.platform) == (START_NS, "utc", "robot")
    assert header.joint_names == ("knee", "hip")
    assert header.software == "recorder 1"
    joints = made.tables["joints"].to_pylist()
    assert [row["t_ns"] for row in joints] == [k * NS_PER_S // 20 for k in range(160)]
    assert joints[30]["position"] == pytest.approx([1.5, -1.5])
    assert joints[30]["velocity"] == [1, -1]
    (count,) = made.counts
    assert (count.of, count.kept, count.total) == ("messages", 1440, 1440)
    assert not made.rejects


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda c: c.name)
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("indexed", [True, False])
def test_however_a_file_is_laid_out_it_gives_the_same_rows(
    tmp_path: Path, compression: CompressionType, chunked: bool, indexed: bool
) -> None:
    messages = drive(2.0)
    plain = write_mcap(tmp_path / "a.mcap", messages, chunk_bytes=1 << 20)
    expected = rows(opened(plain))
    index = IndexType.ALL if indexed else IndexType.NONE
    write_mcap(
        plain, messages, compression=compression, use_chunking=chunked, index_types=index,
        use_statistics=indexed, use_summary_offsets=indexed,
    )  # fmt: skip
    assert rows(opened(plain)) == expected


@pytest.fixture(scope="module")
def messages() -> list[Written]:
    """A drive whose messages come and go: some topics pause longer than any tolerance."""
    dice = random.Random(5)  # noqa: S311 - the same every time
    pauses = {topic: dice.uniform(1, 5) for topic in ("/imu", "/odom", "/fix", "/joint_states")}
    rates = {"/imu": 100, "/odom": 50, "/fix": 10, "/joint_states": 20}

    def keep(topic: str, number: int) -> bool:
        s = number / rates[topic]
        return not pauses[topic] < s < pauses[topic] + 3.5 and dice.random() < 0.7

    return shuffled(drive(12.0, keep=keep), dice, 300_000_000)


@settings(max_examples=40, deadline=None)
@given(at=st.lists(st.integers(0, 12 * NS_PER_S), max_size=6), chunk_bytes=st.integers(500, 40_000))
def test_however_a_log_is_cut_it_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory,
    messages: list[Written],
    at: list[int],
    chunk_bytes: int,
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.mcap"
    write_mcap(path, messages, chunk_bytes=chunk_bytes)
    log = opened(path, native=True)
    whole, pieces = rows(log), rows(cut(log, at))
    for name, expected in whole.items():
        if name == "channels":  # one after the other in each segment
            assert sorted(pieces[name], key=str) == sorted(expected, key=str)
        else:
            assert pieces[name] == expected, name


def test_a_log_is_cut_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mcap(tmp_path / "a.mcap", drive(SECONDS), chunk_bytes=2000)
    expected = rows(opened(path))
    monkeypatch.setattr("transforms.messages.log.SEGMENT_BYTES", path.stat().st_size // 8)
    log = opened(path)
    assert 3 < len(log.segments) < 9
    assert log.segments[0].start_ns == 0
    assert log.segments[-1].end_ns == log.header.duration_ns
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(log.segments))
    assert rows(log) == expected


def test_a_file_that_was_split_is_one_log(tmp_path: Path) -> None:
    whole, split = tmp_path / "whole", tmp_path / "split"
    whole.mkdir()
    split.mkdir()
    messages = drive(SECONDS)
    write_mcap(whole / "a.mcap", messages)
    for number in range(11):  # the tenth comes after the second, whatever their names say
        part = messages[number * 140 : (number + 1) * 140]
        write_mcap(split / f"drive_{number}.mcap", part)
    one, other = rows(opened(whole)), rows(opened(split))
    for name in ("signals", "joints", "counts"):
        assert [{**row, "log_id": ""} for row in one[name]] == [
            {**row, "log_id": ""} for row in other[name]
        ]
    (log,) = logs_of(Mcap(), str(split))
    assert (log.name, len(log.members)) == ("drive", 11)


def test_a_file_that_lost_its_end_gives_what_comes_before(tmp_path: Path) -> None:
    """As after a power cut: no summary, and the last chunk is torn."""
    path = tmp_path / "a.mcap"
    messages = drive(SECONDS)
    write_mcap(path, messages, chunk_bytes=5000)
    content = without_summary(path)
    path.write_bytes(content)
    log = opened(path)
    made = log_rows(log)
    check_truth(made.tables["signals"])
    assert [count.kept for count in made.counts] == [len(messages)]
    assert [reject.reason for reject in made.rejects] == ["corrupt"]
    path.write_bytes(content[:-10])
    torn = log_rows(opened(path))
    (count,) = torn.counts
    assert 0.95 * len(messages) < count.kept < len(messages)
    (reject,) = torn.rejects
    assert "is cut off" in reject.detail
    assert "the last message" in reject.detail


def test_a_chunk_that_is_damaged_costs_its_own_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    messages = drive(SECONDS)
    write_mcap(path, messages, chunk_bytes=5000, compression=CompressionType.NONE)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    made = log_rows(opened(path))
    (count,) = made.counts
    assert 0.9 * len(messages) < count.kept < len(messages)
    (reject,) = made.rejects
    assert "chunk at byte" in reject.detail


def test_files_that_are_none_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    write_mcap(path, [])
    with pytest.raises(CorruptError, match="no message"):
        opened(path)
    path.write_bytes(b"")
    with pytest.raises(EmptyError):
        opened(path)
    path.write_bytes(b"not an mcap file")
    with pytest.raises(CorruptError, match="does not begin"):
        opened(path)


class Failing(LocalFileSystem):  # type: ignore[misc] # fsspec is not typed
    """A store whose reads fail behind the first few."""

    protocol = "failing"
    reads = 0

    def open(self, *args: Any, **options: Any) -> Any:
        file = super().open(*args, **options)
        whole = file.read

        def read(size: int = -1) -> bytes:
            Failing.reads -= 1
            if Failing.reads < 0:
                raise ConnectionResetError(104, "reset by peer")
            return bytes(whole(size))

        file.read = read
        return file


def test_a_store_that_fails_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    """Whichever of the reads fails: no damage is taken from it."""
    fsspec.register_implementation("failing", Failing, clobber=True)
    path = write_mcap(tmp_path / "a.mcap", drive(2.0), chunk_bytes=5000)
    uri = f"failing://{path}"
    log = LogRef("mcap", "a", uri, (Member("a", uri, path.stat().st_size),), "0")
    Failing.reads = 10_000
    expected = rows(Mcap().open(log, ReadOptions()))
    needed = 10_000 - Failing.reads
    for number in range(needed):
        Failing.reads = number
        with pytest.raises(UnreadableError, match="reset by peer"):
            rows(Mcap().open(log, ReadOptions()))
    Failing.reads = needed
    assert rows(Mcap().open(log, ReadOptions())) == expected


def test_whatever_is_damaged_is_read_or_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    read = 0
    for seed, compression in enumerate(COMPRESSIONS):
        write_mcap(path, drive(2.0), chunk_bytes=5000, compression=compression)
        for content in damages(path.read_bytes(), seed):
            path.write_bytes(content)
            try:
                read += bool(log_rows(opened(path)).tables)
            except DataError:
                continue
    assert read > 60


def test_real_files_are_read_or_rejected(data: Path, tmp_path: Path) -> None:
    """Recordings of ROS 2 without a topic that is read; with native channels some are."""
    files = sorted((data / "rosbag2" / "mcap").rglob("*.mcap"))
    assert len(files) == 10
    path = tmp_path / "a.mcap"
    outcomes: dict[str, str] = {}
    for seed, file in enumerate(files):
        for number, content in enumerate([file.read_bytes(), *damages(file.read_bytes(), seed)]):
            path.write_bytes(content)
            try:
                made = log_rows(opened(path, native=True))
            except DataError as error:
                outcome = error.reason
            else:
                outcome = f"{made.counts[0].total} messages"
            if not number:
                outcomes[file.name] = outcome
    assert outcomes["cdr_test_0.mcap"] == "7 messages"
    assert outcomes["talker.mcap"] == "20 messages"
    assert outcomes["wbag_0.mcap"] == "unsupported"
