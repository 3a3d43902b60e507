"""The LeRobot reader: real episodes against pyarrow and PyAV, and damaged data sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import CorruptError, DataError, EmptyError, UnreadableError, UnsupportedError
from schemas.records import LogRef
from schemas.times import NS_PER_S
from tests.recording import Recording
from tests.transforms.readers.claims import logs_of
from transforms.readers import ReadOptions
from transforms.readers.discover import discover
from transforms.readers.lerobot import LeRobot

NAMES = ["hip", "knee", "wrist"]
KEY = "observation.images.cam_high"


def logs(root: str) -> list[LogRef]:
    """Claims the logs under a folder."""
    return logs_of(LeRobot(), root)


def read(log: LogRef, *, native: bool = False) -> Recording:
    """Reads a log."""
    return Recording.of(LeRobot().open(log, ReadOptions(native=native)))


def vectors(rows: int) -> pa.Array:
    """Makes joint positions: row r is r, r + 0.5, r + 1."""
    values = (np.arange(rows)[:, None] + [0, 0.5, 1]).astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3)


def table(rows: int = 10, **columns: Any) -> pa.Table:
    """Makes an episode's table; a column of None is left out."""
    made: dict[str, Any] = {
        "observation.state": vectors(rows),
        "action": vectors(rows),
        "timestamp": pa.array((np.arange(rows) / 10).astype(np.float32)),
        "frame_index": pa.array(range(rows)),
    }
    made |= {name.replace("__", "."): column for name, column in columns.items()}
    return pa.table({name: column for name, column in made.items() if column is not None})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Writes a data set that lists three episodes and has two, without cameras."""
    folder = tmp_path / "robots" / "set"
    (folder / "meta").mkdir(parents=True)
    info = {
        "codebase_version": "v2.1",
        "robot_type": "walker",
        "fps": 10,
        "total_episodes": 3,
        "features": {
            "observation.state": {"dtype": "float32", "names": {"motors": NAMES}},
            "action": {"dtype": "float32", "names": [NAMES]},
        },
    }
    (folder / "meta/info.json").write_text(json.dumps(info))
    (folder / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "walk"}\n')
    (folder / "data/chunk-000").mkdir(parents=True)
    for episode in (0, 2):
        pq.write_table(table(), folder / f"data/chunk-000/episode_{episode:06d}.parquet")
    return folder


def change_info(root: Path, **changes: Any) -> None:
    """Alters meta/info.json."""
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_real_episodes_equal_their_tables_and_videos(data: Path) -> None:
    found = logs(str(data / "lerobot"))
    assert [log.name for log in found] == [
        "g1/data/chunk-000/episode_000001",
        "g1/data/chunk-000/episode_000020",
    ]
    for log in found:
        recording = read(log)
        raw = pq.read_table(log.uri)
        assert recording.joints is not None
        assert (recording.platform, recording.vehicle_id) == ("robot", "Unitree_G1_Inspire")
        assert len(recording.joint_names) == len(set(recording.joint_names)) == 26
        assert recording.joint_names[0] == "kLeftShoulderPitch"
        assert recording.joints.velocity is None
        for ours, name in (
            (recording.joints.position, "observation.state"),
            (recording.joints.action, "action"),
        ):
            assert ours is not None
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours, np.array(raw.column(name).to_pylist(), np.float32))
        t_s = raw.column("timestamp").to_numpy().astype(np.float64)
        np.testing.assert_allclose(recording.joints.t_ns, t_s * NS_PER_S, rtol=0, atol=0.5)
        (video,) = recording.videos
        assert (video.camera, video.codec, len(video.t_ns)) == ("cam_high", "av1", raw.num_rows)
        with av.open(video.uri) as container:
            pts = sorted(p.pts for p in container.demux(video=0) if p.pts is not None)
        assert video.pts.tolist() == pts
        np.testing.assert_array_equal(video.t_ns, recording.joints.t_ns)
        assert recording.rejects == ()
        assert recording.joints.t_ns[-1] < recording.duration_ns


def test_episodes_that_are_not_there_are_no_logs(root: Path) -> None:
    names = [log.name for log in logs(str(root.parent))]
    assert names == ["set/data/chunk-000/episode_000000", "set/data/chunk-000/episode_000002"]
    for log in logs(str(root)):
        assert [member.name for member in log.members] == [
            "meta/info.json",
            f"{log.name}.parquet",
        ]


def test_a_data_set_that_grows_has_the_episodes_of_before_and_the_new_one(root: Path) -> None:
    """Recording goes on by rewriting what is said of all episodes."""
    before = {log.name: log.log_id for log in discover([str(root)]).logs}
    change_info(root, total_episodes=4, total_frames=40, splits={"train": "0:4"})
    (root / "meta/tasks.jsonl").write_text('{"task_index": 1, "task": "run"}\n')
    (root / "meta/episodes.jsonl").write_text('{"episode_index": 3}\n')
    pq.write_table(table(), root / "data/chunk-000/episode_000003.parquet")
    after = {log.name: log.log_id for log in discover([str(root)]).logs}
    assert len(after) == 3
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("change", [{"fps": 20}, {"features": {}}, {"robot_type": "arm"}])
def test_an_episode_that_is_described_anew_is_another_log(
    root: Path, change: dict[str, Any]
) -> None:
    """So a description that was wrong is corrected by the next run."""
    before = {log.log_id for log in discover([str(root)]).logs}
    change_info(root, **change)
    assert before.isdisjoint({log.log_id for log in discover([str(root)]).logs})


def test_a_description_that_is_none_is_told_apart_by_its_start(root: Path) -> None:
    ids = set()
    for text in ('{"codebase_version": ', '{"codebase_version": 1, ', '["codebase_version"]'):
        (root / "meta/info.json").write_text(text)
        ids |= {log.log_id for log in discover([str(root)]).logs}
    assert len(ids) == 6


def test_an_episode_reads_with_nested_names_and_native_columns(root: Path) -> None:
    recording = read(logs(str(root))[0], native=True)
    assert recording.joints is not None
    assert recording.joint_names == tuple(NAMES)
    assert recording.joints.position[3].tolist() == [3.0, 3.5, 4.0]
    assert recording.duration_ns == pytest.approx(NS_PER_S, abs=50)
    assert [channel.name for channel in recording.native] == ["frame_index"]
    assert read(logs(str(root))[0]).native == ()


def test_velocity_and_lists_and_missing_names(root: Path) -> None:
    velocity = pa.array([[1.0, 2.0, 3.0]] * 10)
    made = table(
        observation__velocity=velocity, action=None, observation__state=pa.array(range(10))
    )
    pq.write_table(made, root / "data/chunk-000/episode_000000.parquet")
    recording = read(logs(str(root))[0])
    joints = recording.joints
    assert joints is not None
    assert recording.joint_names == ("observation.state[0]",)
    assert joints.position.shape == (10, 1)
    assert joints.action is None
    assert joints.velocity is not None
    assert joints.velocity[9].tolist() == [1.0, 2.0, 3.0]


def test_an_unusable_or_missing_camera_is_a_reject(root: Path) -> None:
    cameras = {KEY: {"dtype": "video"}, "observation.images.wrist": {"dtype": "video"}}
    change_info(root, features=cameras)
    path = root / f"videos/chunk-000/{KEY}/episode_000000.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    log = logs(str(root))[0]
    recording = read(log)
    assert [reject.reason for reject in recording.rejects] == ["empty", "empty"]
    assert recording.rejects[0].uri == str(path)
    assert "observation.images.wrist" in recording.rejects[1].detail
    assert {reject.subject for reject in recording.rejects} == {log.log_id}


def test_another_version_is_unsupported_and_says_the_cure(tmp_path: Path) -> None:
    for name in ("meta/info.json", "data/chunk-000/file-000.parquet"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text('{"codebase_version": "v3.0"}')
    (log,) = logs(str(tmp_path))
    assert len(log.members) == 2
    with pytest.raises(UnsupportedError, match=r"v3\.0.*convert"):
        read(log)


def test_a_folder_with_some_other_info_json_is_left_alone(root: Path) -> None:
    (root / "meta/info.json").write_text('{"version": 1}')
    assert logs(str(root)) == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"codebase_version" ', CorruptError),
        ('["codebase_version"]', CorruptError),
        ('"codebase_version"' + "[" * 100_000, CorruptError),
        ("[" * 100_000 + '"codebase_version"', None),
        ('{"codebase_version": "v2.1", "fps": true, "features": {}}', CorruptError),
        ('{"codebase_version": "v2.1", "fps": NaN, "features": {}}', CorruptError),
        ('{"codebase_version": "v2.1", "fps": 30, "features": []}', CorruptError),
        ('{"codebase_version": {"a": 1}}', UnsupportedError),
    ],
)
def test_hostile_descriptions_are_data_errors(
    root: Path, text: str, error: type[DataError] | None
) -> None:
    found = logs(str(root))
    (root / "meta/info.json").write_text(text)
    with pytest.raises(error or DataError, match="info"):
        read(found[0])


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (table(0), "has 0 rows"),
        (table(timestamp=None), "timestamp"),
        (table(observation__state=None), "observation.state"),
        (table(timestamp=pa.array(["a"] * 10)), "timestamp"),
        (table(timestamp=pa.array([0.0] * 10)), "row 1"),
        (table(timestamp=pa.array([0.0, float("nan")] * 5)), "row 1"),
        (table(timestamp=pa.array([0.0, 1e300] * 5)), "row 1"),
        (table(timestamp=pa.array([0.0, None] * 5)), "null"),
        (table(observation__state=pa.array([[1.0], [1.0, 2.0]] * 5)), "observation.state"),
        (table(observation__state=pa.array([[1.0], None] * 5)), "observation.state"),
        (table(observation__state=pa.array([[1.0, None]] * 10)), "observation.state"),
        (table(observation__state=pa.array([["a"]] * 10)), "observation.state"),
        (table(observation__state=pa.array([{"a": 1}] * 10)), "observation.state"),
        (table(action=pa.array([[[1.0]]] * 10)), "action"),
    ],
)
def test_a_table_of_another_shape_is_corrupt(root: Path, made: pa.Table, why: str) -> None:
    pq.write_table(made, root / "data/chunk-000/episode_000000.parquet")
    with pytest.raises(CorruptError, match=why) as error:
        read(logs(str(root))[0])
    assert "episode_000000.parquet" in str(error.value)


def test_only_data_errors_escape_from_damaged_tables(root: Path) -> None:
    path = root / "data/chunk-000/episode_000000.parquet"
    content = path.read_bytes()
    log = logs(str(root))[0]
    rng = np.random.default_rng(0)
    damages: list[Callable[[], bytes]] = [
        lambda: content[: rng.integers(1, len(content))],
        lambda: rng.bytes(int(rng.integers(1, 300))),
        lambda: bytes(b ^ (rng.random() < 0.002) * int(rng.integers(256)) for b in content),
    ]
    refused = 0
    for turn in range(60):
        path.write_bytes(damages[turn % 3]())
        try:
            read(log)
        except DataError:
            refused += 1
    assert refused >= 40


def test_missing_files_say_so(root: Path) -> None:
    log = logs(str(root))[0]
    path = root / "data/chunk-000/episode_000000.parquet"
    path.write_bytes(b"")
    with pytest.raises(EmptyError, match="episode_000000"):
        read(log)
    path.unlink()
    with pytest.raises(UnreadableError, match="episode_000000"):
        read(log)
    shutil.rmtree(root / "meta")
    with pytest.raises(UnreadableError, match=r"info\.json"):
        read(log)


def test_reading_from_memory_gives_the_same(root: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(root), "/lerobot-set", recursive=True)
    one, two = read(logs(str(root))[0]), read(logs("memory:///lerobot-set")[0])
    memory.rm("/lerobot-set", recursive=True)
    assert one.joints is not None
    assert two.joints is not None
    np.testing.assert_array_equal(one.joints.position, two.joints.position)
    np.testing.assert_array_equal(one.joints.t_ns, two.joints.t_ns)
    assert (one.drive_id, one.counts) == (two.drive_id, two.counts)
