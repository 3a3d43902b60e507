"""A fleet on disk: equal bytes, real files, and truth that joins with what a reader reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from schemas.errors import UsageError
from schemas.recording import Recording
from synth.fleet import FleetReport, FleetSpec, write_fleet
from synth.truth import TABLES
from transforms.readers import FORMATS, ReadOptions
from transforms.readers.discover import discover

BLIND = FleetSpec(drives=2, minutes=4.0, seed=5, video=False, events_per_minute=3)
SEEING = FleetSpec(2, 0.06, 5, width=160, height=120, cameras=("front", "left_repeater"))


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _read(folder: Path, format_: str) -> dict[str, Recording]:
    found = discover([str(folder)])
    assert found.rejects == ()
    assert {log.format for log in found.logs} == {format_}
    reader = FORMATS.load(format_)()
    return {log.name: reader.read(log, ReadOptions()) for log in found.logs}


def _rows(folder: Path, table: str, log_name: str) -> pa.Table:
    whole = pq.read_table(folder / "truth" / f"{table}.parquet")
    return whole.filter(pc.equal(whole["log_name"], log_name))


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FleetReport]:
    """Writes two drives without pictures."""
    folder = tmp_path_factory.mktemp("blind")
    return folder, write_fleet(BLIND, str(folder), truth=True)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FleetReport]:
    """Writes two short drives with pictures, the second by night."""
    folder = tmp_path_factory.mktemp("seeing")
    return folder, write_fleet(SEEING, str(folder), truth=True)


@pytest.mark.parametrize("spec", [SEEING, BLIND], ids=["seeing", "blind"])
def test_equal_specs_give_equal_bytes(
    spec: FleetSpec,
    seeing: tuple[Path, FleetReport],
    blind: tuple[Path, FleetReport],
    tmp_path: Path,
) -> None:
    """Two runs of one spec differ in no byte of any file."""
    first = seeing[0] if spec.video else blind[0]
    write_fleet(spec, str(tmp_path), truth=True)
    assert _digests(tmp_path) == _digests(first)


def test_another_seed_gives_other_drives(blind: tuple[Path, FleetReport], tmp_path: Path) -> None:
    """The seed matters."""
    other = FleetSpec(drives=1, minutes=4.0, seed=6, video=False, events_per_minute=3)
    write_fleet(other, str(tmp_path), truth=True)
    mine = pq.read_table(tmp_path / "truth" / "ego.parquet")["x_m"].to_numpy()
    theirs = pq.read_table(blind[0] / "truth" / "ego.parquet")["x_m"].to_numpy()
    assert not np.array_equal(mine, theirs[: len(mine)])


def test_a_drive_is_the_same_in_a_larger_fleet(
    blind: tuple[Path, FleetReport], tmp_path: Path
) -> None:
    """Adding drives changes none of those before."""
    write_fleet(FleetSpec(1, 4.0, 5, video=False, events_per_minute=3), str(tmp_path), truth=False)
    assert _digests(tmp_path).items() <= _digests(blind[0]).items()


def test_signals_are_the_truth_within_noise(blind: tuple[Path, FleetReport]) -> None:
    """What the reader reads is the truth, 20 ms and the stated noise aside."""
    folder, report = blind
    recordings = _read(folder, "teslacam")
    assert set(recordings) == set(report.logs)
    bounds = {
        "speed_mps": (0.06, 0.3),
        "accel_x_mps2": (0.18, 1.0),
        "accel_y_mps2": (0.18, 1.0),
        "steering_angle_rad": (0.01, 0.1),
        "accelerator_frac": (0.005, 0.2),
        "lat_deg": (2e-5, 6e-5),
        "lon_deg": (3e-5, 9e-5),
    }
    for name, recording in recordings.items():
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
    """Noise 0 leaves only interpolation between frames."""
    spec = FleetSpec(1, 1.5, 9, video=False, noise=0, gaps=0)
    write_fleet(spec, str(tmp_path), truth=True)
    (recording,) = _read(tmp_path, "teslacam").values()
    true = _rows(tmp_path, "signals", recording.log.name)
    for name, limit in (("speed_mps", 1e-3), ("accel_x_mps2", 0.1), ("accel_y_mps2", 0.1)):
        channel = next(c for c in recording.signals if c.name == name)
        gap = channel.values - np.interp(channel.t_ns, true["t_ns"].to_numpy(), true[name])
        assert np.abs(gap).max() < limit


def test_events_show_in_the_signals(blind: tuple[Path, FleetReport]) -> None:
    """Events of the truth are seen in what was recorded."""
    folder, report = blind
    events = pq.read_table(folder / "truth" / "events.parquet").to_pylist()
    assert sum(report.events.values()) == len(events) > 10
    recordings = _read(folder, "teslacam")
    brakes = 0
    for event in events:
        recording = recordings[event["log_name"]]
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


def test_frame_times_are_those_of_a_car(blind: tuple[Path, FleetReport]) -> None:
    """Steps, time base and hidden first frames are those of real files."""
    folder, _ = blind
    videos = [
        video for recording in _read(folder, "teslacam").values() for video in recording.videos
    ]
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


def test_pictures_decode_frame_by_frame(seeing: tuple[Path, FleetReport]) -> None:
    """A decoder yields every frame of the index; days are bright, nights dark."""
    folder, report = seeing
    assert report.files == 4
    recordings = _read(folder, "teslacam")
    brightness = {}
    for name, recording in recordings.items():
        assert {video.camera for video in recording.videos} == set(SEEING.cameras)
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


def test_boxes_lie_on_frames_and_in_the_picture(seeing: tuple[Path, FleetReport]) -> None:
    """Boxes join with frames by time and stay inside the picture."""
    folder, _ = seeing
    for name, recording in _read(folder, "teslacam").items():
        boxes = _rows(folder, "boxes", name)
        assert boxes.num_rows > 50
        for camera in SEEING.cameras:
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


@pytest.mark.parametrize("video", [True, False])
def test_bare_videos(tmp_path: Path, video: bool) -> None:
    """The video format is one constant-rate MP4 a drive."""
    spec = FleetSpec(1, 0.05, 2, format="video", width=160, height=120, video=video)
    report = write_fleet(spec, str(tmp_path), truth=True)
    recordings = _read(tmp_path, "video")
    assert set(recordings) == set(report.logs)
    (clip,) = recordings[report.logs[0]].videos
    assert clip.camera == "front"
    assert not clip.variable_rate
    assert clip.t_ns.tolist() == [k * 40_000_000 for k in range(75)]
    seen = pq.read_table(tmp_path / "truth" / "boxes.parquet")
    assert set(seen["t_ns"].to_pylist()) <= set(clip.t_ns.tolist())
    assert bool(seen.num_rows) == video


def test_truth_tables_have_their_schemas(blind: tuple[Path, FleetReport]) -> None:
    """The files have the documented columns."""
    for name, schema in TABLES.items():
        assert pq.read_schema(blind[0] / "truth" / f"{name}.parquet") == schema


def test_clock_offset_moves_the_stamps(blind: tuple[Path, FleetReport], tmp_path: Path) -> None:
    """A day's offset changes the date and nothing else of the name."""
    spec = FleetSpec(1, 4.0, 5, video=False, events_per_minute=3, clock_offset_s=86_400.0)
    report = write_fleet(spec, str(tmp_path), truth=False)
    assert report.logs[0][-8:] == blind[1].logs[0][-8:]
    assert report.logs[0] != blind[1].logs[0]
    assert report.truth is None


def test_any_filesystem_will_do() -> None:
    """A fleet can be written to memory:// and discovered there."""
    lines: list[str] = []
    spec = FleetSpec(1, 0.05, 2, video=False)
    report = write_fleet(spec, "memory://synth-fleet", truth=True, progress=lines.append)
    assert report.truth == "memory:///synth-fleet/truth"
    assert len(lines) == 1
    assert discover(["memory://synth-fleet"]).logs[0].name == report.logs[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drives": 0}, "drives is 0"),
        ({"minutes": float("nan")}, "minutes"),
        ({"width": 641}, "even"),
        ({"cameras": ("back",)}, "front"),
        ({"cameras": ("front", "roof")}, "roof"),
        ({"format": "tape"}, "teslacam"),
    ],
)
def test_bad_specs_are_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    """The message names the field or the choices."""
    fields: dict[str, Any] = {"drives": 1, "minutes": 1.0, "seed": 1} | change
    with pytest.raises(UsageError, match=said):
        write_fleet(FleetSpec(**fields), str(tmp_path), truth=False)
