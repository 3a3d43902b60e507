"""The smallest log of every format, to be damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.message_logs import drive, write_bag, write_db3, write_mcap
from transforms.video.sei import Telemetry, encode_sei

FRAMES = 12
VIDEOS = ("a.mp4", "a.mov", "a.mkv", "a.avi", "a.ts", "a.h264", "a.hevc")
"""A container each; the codec follows from the name."""


def write_video(path: Path, *, telemetry: bool = False, width: int = 64) -> None:
    """Writes a short video of moving noise, with telemetry before every slice if asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = {".avi": "mpeg4", ".hevc": "libx265"}.get(path.suffix, "libx264")
    # An elementary stream has no times, so none of its pictures may be out of order.
    options = {"preset": "ultrafast", "x265-params": "log-level=none:bframes=0", "bf": "0"}
    dice = np.random.default_rng(5)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, 48, "yuv420p", 5
        noise = dice.integers(0, 255, (48, width, 3), dtype=np.uint8)
        pictures = [np.roll(noise, k, axis=1) for k in range(FRAMES)]
        frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]
        packets = [packet for frame in [*frames, None] for packet in stream.encode(frame)]
        for k, packet in enumerate(packets):
            if not telemetry:
                container.mux(packet)
                continue
            sei = encode_sei(Telemetry(frame_seq_no=k, speed_mps=10.0, heading_rad=0.01 * k))
            copy = av.Packet(b"\0\0\0\1" + sei + bytes(packet))
            copy.stream, copy.time_base = stream, packet.time_base
            copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            container.mux(copy)


def write_teslacam(root: Path) -> None:
    """Writes a saved clip of one camera."""
    folder = root / "TeslaCam" / "SavedClips" / "2026-03-17_17-52-09"
    write_video(folder / "2026-03-17_17-50-00-front.mp4", telemetry=True)
    event = {
        "timestamp": "2026-03-17T17:51:00",
        "city": "Berlin",
        "est_lat": "52.5",
        "est_lon": "13.4",
        "reason": "user_interaction_honk",
        "camera": "0",
    }
    (folder / "event.json").write_text(json.dumps(event))


def write_videos(root: Path) -> None:
    """Writes bare videos in every container."""
    for name in VIDEOS:
        write_video(root / name)


def write_lerobot(root: Path) -> None:
    """Writes a data set with one episode and one camera."""
    key = "observation.images.top"
    features = {
        "observation.state": {"dtype": "float32", "names": ["hip", "knee"]},
        key: {"dtype": "video"},
    }
    metadata = {"codebase_version": "v2.1", "fps": 25, "robot_type": "arm", "features": features}
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(metadata))
    vectors = np.arange(2 * FRAMES, dtype=np.float32)
    table = pa.table(
        {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 2),
            "action": pa.ListArray.from_arrays(
                pa.array(range(0, 2 * FRAMES + 1, 2), pa.int32()), pa.array(vectors)
            ),
            "timestamp": pa.array((np.arange(FRAMES) / 25).astype(np.float32)),
            "frame_index": pa.array(range(FRAMES)),
        }
    )
    episode = root / "data" / "chunk-000" / "episode_000000.parquet"
    episode.parent.mkdir(parents=True)
    pq.write_table(table, episode)
    write_video(root / "videos" / "chunk-000" / key / "episode_000000.mp4")


def write_comma2k19(root: Path) -> None:
    """Writes a segment with a video and two signals."""
    segment = root / "b0c9d2329ad1606b|2018-08-02--08-34-47" / "40"
    write_video(segment / "video.hevc")
    t_s = 1000.0 + np.arange(FRAMES) / 20
    arrays: dict[str, Any] = {
        "processed_log/CAN/speed/t": t_s,
        "processed_log/CAN/speed/value": np.linspace(0, 30, FRAMES)[:, None],
        "processed_log/CAN/steering_angle/t": t_s,
        "processed_log/CAN/steering_angle/value": np.linspace(-9, 9, FRAMES),
        "global_pose/frame_times": t_s,
        "global_pose/frame_positions": np.full((FRAMES, 3), 4e6),
        "global_pose/frame_velocities": np.zeros((FRAMES, 3)),
        "global_pose/frame_orientations": np.full((FRAMES, 4), 0.5),
    }
    for name, array in arrays.items():
        (segment / name).parent.mkdir(parents=True, exist_ok=True)
        with (segment / name).open("wb") as file:
            np.save(file, array)


def write_messages(root: Path) -> None:
    """A drive in chunks and one outside of them, in each encoding."""
    root.mkdir(parents=True, exist_ok=True)
    for number, fix in enumerate(("sensor_msgs/NavSatFix", "protobuf", "json")):
        messages = drive(0.5, version=1 + number % 2, fix=fix)
        write_mcap(root / f"{fix[:4]}.mcap", messages, use_chunking=number > 0)


def write_bags(root: Path) -> None:
    """A bag of ROS 1 and one of ROS 2."""
    root.mkdir(parents=True, exist_ok=True)
    write_bag(root / "one.bag", drive(0.5, version=1), "lz4")
    write_db3(root / "two.db3", drive(0.5))


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "teslacam": write_teslacam,
    "comma2k19": write_comma2k19,
    "lerobot": write_lerobot,
    "mcap": write_messages,
    "rosbag": write_bags,
    "video": write_videos,
}
"""A writer a format."""
