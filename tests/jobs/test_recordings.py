"""`fleetmill run` on real recordings: three formats in one lake."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.lake.tables import Lake
from tests.conftest import Finished, Fleetmill
from tests.weights import with_detector

pytestmark = pytest.mark.slow

CAN_FRAMES = 135_468
"""Frames on the buses of the comma2k19 segment, echoes included."""


def command(data: Path, lake: Path) -> list[str]:
    """The arguments of the run."""
    inputs = [data / "comma2k19", data / "lerobot" / "g1", data / "video"]
    given = [word for path in inputs for word in ("--input", str(path))]
    dbc = data / "dbc" / "toyota_2017.dbc"
    plan = ["--corpus", "first", "--topology", "dojo-tray", "--json"]
    return ["run", *given, "--dbc", str(dbc), "--lake", str(lake), *plan]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lake goes."""
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def first(fleetmill: Fleetmill, data: Path, lake: Path) -> Finished:
    """The run, with the detector's weights at hand."""
    done = fleetmill(*command(data, lake), FLEETMILL_MODELS=str(with_detector(data)))
    assert done.code == 0, done.err
    return done


def test_three_formats_share_a_lake(first: Finished, lake: Path) -> None:
    """A sensor-only vehicle, a robot and a bare video."""
    assert first.code == 0
    logs = Lake.open(str(lake)).read("logs").to_pylist()
    assert sorted(row["format"] for row in logs) == ["comma2k19", "lerobot", "lerobot", "video"]
    robots = [row for row in logs if row["platform"] == "robot"]
    assert [len(row["joint_names"]) for row in robots] == [26, 26]


def test_the_highway_clip_has_boxes_of_cars(first: Finished, lake: Path) -> None:
    """yolox_nano detects cars, and boxes are within the picture."""
    assert first.code == 0
    opened = Lake.open(str(lake))
    (video,) = [row for row in opened.read("logs").to_pylist() if row["format"] == "video"]
    events = opened.read("events").to_pylist()
    of_video = {row["event_id"] for row in events if row["log_id"] == video["log_id"]}
    boxes = [row for row in opened.read("boxes").to_pylist() if row["event_id"] in of_video]
    assert {row["source"] for row in boxes} == {"yolox_nano"}
    assert "car" in {row["class"] for row in boxes}
    assert all(row["x_px"] >= 0 and row["x_px"] + row["w_px"] <= 960 for row in boxes)
    assert all(row["y_px"] >= 0 and row["y_px"] + row["h_px"] <= 540 for row in boxes)


def test_every_can_frame_is_accounted_for(first: Finished) -> None:
    """Kept, filtered and rejected frames add up to all of them."""
    lines = [line for job in first.document["jobs"] for line in job["counts"]]
    (line,) = [line for line in lines if line["of"] == "CAN frames"]
    assert line["in"] == CAN_FRAMES == line["kept"] + line["filtered"] + line["rejected"]
    assert line["kept"] > 0


def test_speed_from_raw_can_is_the_speed_of_its_own_decoder(
    first: Finished, data: Path, lake: Path
) -> None:
    """The grid's speed is that of the processed channel at the same instants."""
    assert first.code == 0
    (segment,) = (data / "comma2k19").glob("*/*")
    processed = segment / "processed_log"
    opened = Lake.open(str(lake))
    (log,) = [row for row in opened.read("logs").to_pylist() if row["format"] == "comma2k19"]
    rows = [row for row in opened.read("signals").to_pylist() if row["log_id"] == log["log_id"]]
    t = np.load(processed / "CAN" / "speed" / "t")
    speed = np.load(processed / "CAN" / "speed" / "value")[:, 0]
    starts = [np.load(path)[0] for path in processed.glob("*/*/t")]
    grid = min(starts) + np.array([row["t_ns"] for row in rows]) / 1e9
    ours = np.array([np.nan if row["speed_mps"] is None else row["speed_mps"] for row in rows])
    error = ours - np.interp(grid, t, speed)
    assert np.nanmedian(np.abs(error)) < 0.1
    assert np.isnan(error).mean() < 0.02


def test_the_same_command_again_is_quick_and_finds_nothing_new(
    first: Finished, fleetmill: Fleetmill, data: Path, lake: Path
) -> None:
    """The same root hash, and less time than reading anything would take."""
    start = time.perf_counter()
    done = fleetmill(*command(data, lake), FLEETMILL_MODELS=str(with_detector(data)))
    seconds = time.perf_counter() - start
    assert done.code == 0, done.err
    assert all(job["tasks"] == 0 for job in done.document["jobs"])
    assert done.document["snapshot"]["root"] == first.document["snapshot"]["root"]
    took = sum(job["seconds"] for job in first.document["jobs"])
    assert seconds < max(15.0, took / 2)
