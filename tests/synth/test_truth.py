"""Truth tables against the simulated drives and the written logs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from schemas.times import GRID_NS, Span, grid
from synth import truth
from synth.recorded import Drive, simulate
from synth.script import Injected
from tests.recording import Recording
from tests.synth.conftest import Fleet


def _rows(folder: Path, table: str, log_name: str) -> pa.Table:
    whole = pq.read_table(folder / "truth" / f"{table}.parquet")
    return whole.filter(pc.equal(whole["log_name"], log_name))


@pytest.fixture(scope="module")
def drive(blind: Fleet) -> Drive:
    return simulate(blind[0], 1)


def test_tables_have_their_schemas(blind: Fleet, seeing: Fleet) -> None:
    for _, folder, report in (blind, seeing):
        for name, schema in truth.TABLES.items():
            table = pq.read_table(folder / "truth" / f"{name}.parquet")
            assert table.schema == schema
            assert set(table["log_name"].to_pylist()) <= set(report.logs)


def test_the_ego_truth_is_the_motion_on_the_grid(blind: Fleet, drive: Drive) -> None:
    _, folder, report = blind
    rows = _rows(folder, "ego", report.logs[1])
    assert rows["t_ns"].to_pylist() == grid(Span(0, truth.duration_ns(drive))).tolist()
    seconds = rows["t_ns"].to_numpy() / 1e9
    for name in ("x_m", "y_m", "heading_rad", "speed_mps"):
        expected = np.interp(seconds, drive.motion.t_s, getattr(drive.motion, name))
        np.testing.assert_allclose(rows[name].to_numpy(), expected, atol=1e-9)


def test_true_signals_are_the_motion_and_null_without_a_lead(blind: Fleet, drive: Drive) -> None:
    _, folder, report = blind
    rows = _rows(folder, "signals", report.logs[1])
    assert set(np.diff(rows["t_ns"].to_numpy())) == {GRID_NS}
    np.testing.assert_array_equal(rows["speed_mps"].to_numpy(), drive.motion.speed_mps[::2])
    lead = drive.traffic.lead_distance_m[::2]
    assert pc.is_null(rows["lead_distance_m"]).to_pylist() == np.isnan(lead).tolist()
    assert rows["speed_mps"].null_count == 0
    assert set(rows["gear"].to_pylist()) == {"park", "drive"}


def test_events_are_those_of_the_script_in_order(blind: Fleet, drive: Drive) -> None:
    _, folder, report = blind
    rows = _rows(folder, "events", report.logs[1]).to_pylist()
    injected = [row for row in rows if row["type"] != "aeb"]
    assert [
        (row["type"], row["start_ns"], row["anchor_ns"], row["end_ns"]) for row in injected
    ] == [
        (event.type, *(step * 10_000_000 for step in (event.start, event.anchor, event.end)))
        for event in drive.script.events
    ]
    assert [row["start_ns"] for row in rows] == sorted(row["start_ns"] for row in rows)
    assert {row["drive"] for row in rows} == {drive.name}


def test_events_of_one_recording_are_listed_by_start(drive: Drive) -> None:
    extra = Injected("aeb", 0, 5, 9, {"b": 2.0, "a": 1.5})
    rows = truth.events(drive, "log", [extra]).to_pylist()
    assert rows[0]["type"] == "aeb"
    assert rows[0]["params"] == '{"a":1.5,"b":2.0}'
    assert rows[0]["end_ns"] == 90_000_000
    assert len(rows) == len(drive.script.events) + 1


def test_logs_are_as_long_as_their_truth(
    blind: Fleet, blind_logs: dict[str, Recording], drive: Drive
) -> None:
    recording = blind_logs[blind[2].logs[1]]
    assert abs(recording.duration_ns - truth.duration_ns(drive)) < 100_000_000


def test_without_pictures_there_are_no_boxes(blind: Fleet) -> None:
    assert pq.read_metadata(blind[1] / "truth" / "boxes.parquet").num_rows == 0


def test_boxes_lie_on_frames_and_in_the_picture(
    seeing: Fleet, seeing_logs: dict[str, Recording]
) -> None:
    spec, folder, _ = seeing
    for name, recording in seeing_logs.items():
        boxes = _rows(folder, "boxes", name)
        assert boxes.num_rows > 50
        for camera in spec.cameras:
            seen = boxes.filter(pc.equal(boxes["camera"], camera))
            t_ns = np.concatenate([v.t_ns for v in recording.videos if v.camera == camera])
            assert set(seen["t_ns"].to_pylist()) <= set(t_ns.tolist())
        x, y, w, h = (boxes[c].to_numpy() for c in ("x_px", "y_px", "w_px", "h_px"))
        assert (x >= 0).all()
        assert (y >= 0).all()
        assert (x + w <= 160 + 1e-9).all()
        assert (y + h <= 120 + 1e-9).all()
        assert (w > 0).all()
        assert (h > 0).all()
        hidden = boxes["occluded_frac"].to_numpy()
        assert ((hidden >= 0) & (hidden <= 1)).all()
