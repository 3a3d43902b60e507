"""TeslaCam folders as our reader and PyAV read them, against the simulated drive."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from synth.fleet import FleetSpec, write_fleet
from synth.recorded import simulate
from tests.recording import Recording
from tests.synth.conftest import Fleet, recordings


def _rows(folder: Path, table: str, log_name: str) -> pa.Table:
    whole = pq.read_table(folder / "truth" / f"{table}.parquet")
    return whole.filter(pc.equal(whole["log_name"], log_name))


def test_signals_are_the_truth_within_noise(blind: Fleet, blind_logs: dict[str, Recording]) -> None:
    _, folder, report = blind
    assert set(blind_logs) == set(report.logs)
    bounds = {
        "speed_mps": (0.06, 0.3),
        "accel_x_mps2": (0.18, 1.0),
        "accel_y_mps2": (0.18, 1.0),
        "steering_angle_rad": (0.01, 0.1),
        "accelerator_frac": (0.005, 0.2),
        "lat_deg": (2e-5, 6e-5),
        "lon_deg": (3e-5, 9e-5),
    }
    for name, recording in blind_logs.items():
        true = _rows(folder, "signals", name)
        t_ns = true["t_ns"].to_numpy()
        channels = {channel.name: channel for channel in recording.signals}
        assert abs(recording.duration_ns - int(t_ns[-1])) < 200_000_000
        for signal, (rms, most) in bounds.items():
            channel = channels[signal]
            gap = channel.values - np.interp(channel.t_ns, t_ns, true[signal].to_numpy())
            assert np.sqrt(np.mean(gap**2)) < rms, signal
            assert np.abs(gap).max() < most, signal
        for signal in ("brake_on", "blinker_left", "engaged"):
            channel = channels[signal]
            held = np.searchsorted(t_ns, channel.t_ns + 10_000_000, side="right") - 1
            assert (true[signal].to_numpy()[held] == channel.values).mean() > 0.99, signal
        heading = channels["heading_rad"]
        expected = np.interp(heading.t_ns, t_ns, np.unwrap(true["heading_rad"].to_numpy()))
        turn = np.abs((heading.values - expected + np.pi) % (2 * np.pi) - np.pi)
        assert np.degrees(turn.max()) < 3


def test_without_noise_signals_are_exact(tmp_path: Path) -> None:
    spec = FleetSpec(1, 1.5, 9, video=False, noise=0, gaps=0)
    write_fleet(spec, str(tmp_path), truth=True)
    (recording,) = recordings(tmp_path, "teslacam").values()
    true = _rows(tmp_path, "signals", recording.log.name)
    for name, limit in (("speed_mps", 1e-3), ("accel_x_mps2", 0.1), ("accel_y_mps2", 0.1)):
        channel = next(c for c in recording.signals if c.name == name)
        gap = channel.values - np.interp(channel.t_ns, true["t_ns"].to_numpy(), true[name])
        assert np.abs(gap).max() < limit


def test_events_show_in_the_signals(blind: Fleet, blind_logs: dict[str, Recording]) -> None:
    _, folder, report = blind
    events = pq.read_table(folder / "truth" / "events.parquet").to_pylist()
    assert sum(report.events.values()) == len(events) > 10
    brakes = 0
    for event in events:
        recording = blind_logs[event["log_name"]]
        accel = next(c for c in recording.signals if c.name == "accel_x_mps2")
        inside = accel.values[(accel.t_ns >= event["start_ns"]) & (accel.t_ns < event["end_ns"])]
        json.loads(event["params"])
        if event["type"] == "hard_brake":
            brakes += 1
            assert inside.min() <= -4.5
        if event["type"] == "aeb":
            (annotation,) = recording.annotations
            assert annotation.reason == "vehicle_auto_emergency_braking"
            assert event["start_ns"] <= annotation.t_ns <= event["end_ns"]
    assert brakes


def test_gaps_are_silent_and_clear_of_events(tmp_path: Path) -> None:
    spec = FleetSpec(1, 4.0, 5, video=False, noise=0, gaps=8.0, events_per_minute=3)
    write_fleet(spec, str(tmp_path), truth=False)
    (recording,) = recordings(tmp_path, "teslacam").values()
    frames = np.concatenate([video.t_ns for video in recording.videos])
    speed = next(c for c in recording.signals if c.name == "speed_mps")
    silent = np.setdiff1d(frames, speed.t_ns)
    assert 0.02 < len(silent) / len(frames) < 0.2
    drive = simulate(spec, 0)
    assert drive.script.events
    for event in drive.script.events:
        start_ns, end_ns = (step * 10_000_000 for step in (event.start, event.end))
        assert not ((silent > start_ns - 1_400_000_000) & (silent < end_ns + 1_400_000_000)).any()


def test_frame_times_are_those_of_a_car(blind_logs: dict[str, Recording]) -> None:
    videos = [video for recording in blind_logs.values() for video in recording.videos]
    assert len(videos) == 8
    for video in videos:
        steps = np.diff(video.t_ns) / 1e9
        assert steps.min() >= 0.0014
        assert steps.max() <= 0.0549
        assert len(np.unique(steps)) > 20
        assert np.mean(steps) == pytest.approx(1 / 36, rel=0.02)
        assert video.variable_rate
        assert video.time_base == (1, 10_000)
        assert video.pts[0] == 0
        with av.open(video.uri) as container:
            first = next(container.demux(video=0))
            assert first.is_discard
            assert first.pts is not None
            assert -1100 <= first.pts <= -28


def test_pictures_decode_frame_by_frame(seeing: Fleet, seeing_logs: dict[str, Recording]) -> None:
    spec, _, report = seeing
    assert report.files == 4
    brightness = {}
    for name, recording in seeing_logs.items():
        assert {video.camera for video in recording.videos} == set(spec.cameras)
        for video in recording.videos:
            with av.open(video.uri) as container:
                times, means = [], []
                for frame in container.decode(video=0):
                    times.append(frame.pts)
                    means.append(frame.to_ndarray(format="gray").mean())
            assert times == video.pts.tolist()
            assert len(times) > 60
            assert (video.width, video.height) == (160, 120)
            assert np.diff(np.flatnonzero(video.is_keyframe)).max(initial=0) <= 72
            brightness[name, video.camera] = float(np.mean(means))
    day, night = report.logs
    assert min(v for (log, _), v in brightness.items() if log == day) > 90
    assert max(v for (log, _), v in brightness.items() if log == night) < 40


def test_the_folder_is_laid_out_as_on_the_drive_of_a_car(blind: Fleet) -> None:
    _, folder, report = blind
    for name in report.logs:
        assert name.split("/")[1:3] == ["TeslaCam", "SavedClips"]
        files = sorted(path.name for path in (folder / name).iterdir())
        assert files[-1] == "event.json"
        assert len(files) == 5
        assert all(file.endswith("-front.mp4") for file in files[:-1])
        assert files[0].startswith(name.rsplit("/", 1)[1])
        event = json.loads((folder / name / "event.json").read_text())
        assert event["camera"] == "0"


def test_without_a_hard_brake_the_drive_was_saved_by_hand(
    seeing_logs: dict[str, Recording],
) -> None:
    for recording in seeing_logs.values():
        (annotation,) = recording.annotations
        assert annotation.reason == "user_interaction_dashcam_icon_tapped"
        assert annotation.t_ns <= recording.duration_ns


def test_clock_offset_moves_the_stamps(blind: Fleet, tmp_path: Path) -> None:
    spec = FleetSpec(1, 4.0, 5, video=False, events_per_minute=3, clock_offset_s=86_400.0)
    report = write_fleet(spec, str(tmp_path), truth=False)
    assert report.logs[0][-8:] == blind[2].logs[0][-8:]
    assert report.logs[0] != blind[2].logs[0]
    assert report.truth is None
