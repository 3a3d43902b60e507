"""Logs of messages, whatever contains them: which topics count, where messages are placed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.stages.recording_rows import log_rows
from schemas.errors import UnreadableError, UnsupportedError
from schemas.records import LogRef, Member
from schemas.times import NS_PER_S, Span
from tests.message_logs import (
    LOCATION_JSON,
    START_NS,
    Memory,
    Written,
    drive,
    ros_content,
    ros_schema,
    stamped,
)
from transforms.messages.log import MessageLog
from transforms.messages.maps import load_topic_maps
from transforms.messages.source import Chunk, Found
from transforms.readers import ReadOptions

LOG = LogRef("mcap", "a", "a.mcap", (Member("a", "a.mcap", 1),), "0")


def opened(messages: Sequence[Written], **options: Any) -> MessageLog:
    """Opens a log of messages."""
    return MessageLog(LOG, Memory(messages), ReadOptions(**options))


def test_a_message_without_a_stamp_of_its_own_is_placed_when_it_was_recorded() -> None:
    """Also one whose stamp is hours off: the clock of a sensor that was never set."""
    schema = ros_schema("sensor_msgs/Imu")
    made = []
    for number in range(200):
        t_ns = START_NS + number * 10_000_000
        stamp_ns = (t_ns - 50_000_000, 0, t_ns - 3600 * NS_PER_S)[number % 3]
        fields = {"header": stamped(stamp_ns), "angular_velocity": {"z": number / 100}}
        made.append(Written("/imu", schema, t_ns, ros_content("sensor_msgs/Imu", fields)))
    log = opened(made)
    (yaw,) = (c for c in log.read(log.segments[0]).signals if c.name == "yaw_rate_radps")
    assert log.header.start_ns == START_NS - 50_000_000
    order = np.argsort(yaw.values)
    expected = [10_000_000 * k + (0 if k % 3 == 0 else 50_000_000) for k in range(200)]
    assert yaw.t_ns[order].tolist() == expected


def test_no_fix_is_no_position() -> None:
    schema = ros_schema("sensor_msgs/NavSatFix")
    made = []
    for number in range(20):
        t_ns = START_NS + number * 100_000_000
        fields = {"header": stamped(t_ns), "latitude": 48.0, "status": {"status": -(number % 2)}}
        made.append(Written("/fix", schema, t_ns, ros_content("sensor_msgs/NavSatFix", fields)))
    log = opened(made)
    segment = log.read(log.segments[0])
    assert {c.name: len(c.t_ns) for c in segment.signals} == {
        "lat_deg": 10,
        "lon_deg": 10,
        "alt_m": 10,
    }


def test_of_topics_of_one_type_that_with_the_most_messages_counts() -> None:
    schema = ros_schema("sensor_msgs/Imu")
    made = [
        Written(
            topic,
            schema,
            START_NS + k * step,
            ros_content("sensor_msgs/Imu", {"angular_velocity": {"z": z}}),
        )
        for topic, step, number, z in (("/a", 50_000_000, 20, 1.0), ("/b", 10_000_000, 100, 2.0))
        for k in range(number)
    ]
    log = opened(made)
    segment = log.read(log.segments[0])
    (yaw,) = (c for c in segment.signals if c.name == "yaw_rate_radps")
    assert set(yaw.values.tolist()) == {2.0}
    assert [(c.kept, c.filtered) for c in segment.counts] == [(100, 20)]


def test_a_map_of_the_users_names_topics_of_its_own(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "car.toml").write_text(
        'name = "car"\ndescription = "d"\n'
        '[[row]]\nsignal = "brake_on"\ntopic = "/car"\nterms = ["brake.state"]\ntrue = [2]\n'
        '[[row]]\nsignal = "speed_mps"\ntopic = "/car"\nterms = ["kmh"]\nunit = "km/h"\n'
    )
    schema = replace(LOCATION_JSON, name="acme.Car")
    made = [
        Written("/car", schema, START_NS + k * 20_000_000, content)
        for k, content in enumerate([b'{"kmh": 36, "brake": {"state": 2}}', b'{"kmh": 72}'] * 20)
    ]
    with pytest.raises(UnsupportedError, match=r"none of its topics is read: /car"):
        opened(made)
    log = opened(made, topic_maps=load_topic_maps([str(maps)]))
    signals = log_rows(log).tables["signals"].to_pylist()
    assert [row["speed_mps"] for row in signals[:2]] == pytest.approx([10, 20])
    assert [row["brake_on"] for row in signals[:2]] == [True, False]


def test_native_channels_are_all_numbers_of_all_topics() -> None:
    made = [
        Written("/t", ros_schema("sensor_msgs/Temperature"), START_NS + k, ros_content(
            "sensor_msgs/Temperature", {"header": stamped(START_NS + k), "temperature": 20.5 + k}
        ))
        for k in range(3)
    ]  # fmt: skip
    log = opened(made, native=True)
    native = {channel.name: channel for channel in log.read(log.segments[0]).native}
    assert native["/t.temperature"].values.tolist() == [20.5, 21.5, 22.5]
    assert native["/t.temperature"].t_ns.tolist() == [0, 1, 2]
    assert "/t.variance" in native


def test_a_chunk_that_cannot_be_read_costs_its_own_messages_and_is_told_once() -> None:
    source = Memory(drive(4.0))
    source.damaged = {2}
    log = MessageLog(LOG, source, ReadOptions())
    end = log.header.duration_ns
    edges = [0, NS_PER_S // 2, NS_PER_S, 2 * NS_PER_S, end]
    segments = [log.read(Span(a, b)) for a, b in itertools.pairwise(edges)]
    assert [r.detail for s in segments for r in s.rejects] == ["the chunk 2 is damaged"]
    assert sum(count.kept for s in segments for count in s.counts) == 720 - 100


@pytest.mark.parametrize("away", [0, 2])
def test_a_chunk_that_cannot_be_read_for_now_fails_what_needs_it(away: int) -> None:
    """Also where only the origin of time depends on it, which would be another."""
    source = Memory(drive(4.0))
    source.away = {away}
    log = MessageLog(LOG, source, ReadOptions())
    with pytest.raises(UnreadableError):
        log.read(Span(0, NS_PER_S))


def test_counts_that_an_index_forges_cost_nothing() -> None:
    source = Memory(drive(4.0))
    for chunk in source.chunks:
        chunk.counts["/joint_states"] = 7  # type: ignore[index] # a Counter
    lacking = source.read

    def read(chunk: Chunk) -> dict[str, Found]:
        return {topic: own for topic, own in lacking(chunk).items() if topic != "/joint_states"}

    source.read = read  # type: ignore[method-assign]
    log = MessageLog(LOG, source, ReadOptions())
    segment = log.read(log.segments[0])
    assert log.header.joint_names == ()
    assert segment.joints is None
    assert segment.signals


def test_where_a_recording_breaks_off_is_told_with_its_last_segment() -> None:
    log = MessageLog(LOG, Memory(drive(4.0), broken=["a.mcap: cut off"]), ReadOptions())
    end = log.header.duration_ns
    first, last = (log.read(span) for span in (Span(0, NS_PER_S), Span(NS_PER_S, end)))
    assert not first.rejects
    (reject,) = last.rejects
    assert reject.detail.startswith("a.mcap: cut off; what is whole is kept, and the last message")


def test_a_segment_reads_the_chunks_that_bear_on_it_alone() -> None:
    """Those recorded within 2 s of it; and further ones of a topic that pauses, one by one."""
    source = Memory(drive(60.0, keep=lambda topic, n: topic != "/fix" or not 100 < n < 500))
    log = MessageLog(LOG, source, ReadOptions())
    assert log.header.duration_ns
    source.reads.clear()
    log.read(Span(30 * NS_PER_S, 31 * NS_PER_S))
    read = [source.chunks[place] for place in source.reads]
    seconds = sorted({(chunk.start_ns - START_NS) // NS_PER_S for chunk in read})
    # The last position before the pause is at 10 s, the first one behind it at 50 s; a chunk that
    # was recorded 2 s further away may hold a nearer one.
    assert set(seconds) <= {*range(7, 11), *range(27, 34), *range(49, 53)}
    assert seconds[0] <= 9
    assert seconds[-1] >= 49
    assert len(source.reads) < len(source.chunks) / 3


def test_joints_are_told_apart_by_their_names() -> None:
    """Messages may name them in another order, leave some out, or name further ones."""
    schema = ros_schema("sensor_msgs/JointState")
    names = [["a", "b"], ["b", "a"], ["b"], ["c", "a"]]
    made = [
        Written("/j", schema, START_NS + k, ros_content("sensor_msgs/JointState", {
            "header": stamped(START_NS + k), "name": own, "position": np.arange(len(own)) + 1.0
        }))
        for k, own in enumerate(names)
    ]  # fmt: skip
    log = opened(made)
    assert log.header.joint_names == ("a", "b")
    joints = log.read(log.segments[0]).joints
    assert joints is not None
    np.testing.assert_array_equal(joints.position, [[1, 2], [2, 1], [np.nan, 1], [2, np.nan]])
    assert joints.velocity is None
