"""MCAP files of drives: what other libraries read of them, and the same bytes every time."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from schemas.times import NS_PER_S
from synth.fleet import FleetSpec, write_fleet
from synth.mcap import GEARS, LATENCY_NS
from synth.recorded import Drive, simulate
from tests.message_logs import ROS2

SPEC = FleetSpec(1, 0.1, 3, format="mcap")


@pytest.fixture(scope="module")
def drive() -> Drive:
    return simulate(SPEC, 0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mcap")
    report = write_fleet(SPEC, str(folder), truth=False)
    return folder / report.logs[0]


def test_the_mcap_library_reads_what_was_sensed(path: Path, drive: Drive) -> None:
    found: dict[str, list[float]] = {}
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for _, channel, message, decoded in reader.iter_decoded_messages(
            topics=["/imu", "/gnss", "/odometry"]
        ):
            stamp = decoded.header.stamp
            stamp_ns = stamp.sec * NS_PER_S + stamp.nanosec
            assert 0 <= message.log_time - stamp_ns - LATENCY_NS < 10
            value = {
                "/imu": lambda m: m.linear_acceleration.x,
                "/gnss": lambda m: m.latitude,
                "/odometry": lambda m: m.twist.twist.linear.x,
            }[channel.topic](decoded)
            found.setdefault(channel.topic, []).append(value)
    sensed = drive.sensed
    assert found["/imu"] == sensed["accel_x_mps2"].tolist()
    assert found["/odometry"] == sensed["speed_mps"][::2].tolist()
    assert found["/gnss"] == sensed["lat_deg"][::10].tolist()


def test_states_are_json(path: Path, drive: Drive) -> None:
    with path.open("rb") as file:
        states = [
            json.loads(message.data)
            for _, _, message in make_reader(file).iter_messages(topics=["/vehicle"])
        ]
    assert [GEARS[state["gear"]] for state in states] == drive.sensed["gear"][::2].tolist()
    assert [state["brake_on"] for state in states] == drive.sensed["brake_on"][::2].tolist()
    assert [state["heading_rad"] for state in states] == drive.sensed["heading_rad"][::2].tolist()


def test_the_definitions_are_those_of_ros(path: Path) -> None:
    """rosbags deserializes the bytes by its own definitions."""
    with path.open("rb") as file:
        for schema, _, message in make_reader(file).iter_messages(
            topics=["/imu", "/gnss", "/odometry"]
        ):
            assert schema is not None
            made = ROS2.deserialize_cdr(message.data, schema.name)
            assert bytes(ROS2.serialize_cdr(made, schema.name)) == message.data


def test_equal_specs_give_equal_bytes(path: Path, tmp_path: Path) -> None:
    report = write_fleet(SPEC, str(tmp_path), truth=False)
    assert (tmp_path / report.logs[0]).read_bytes() == path.read_bytes()
    assert fsspec.filesystem("file").size(str(path)) > 10_000
    assert np.isfinite(path.stat().st_size)
