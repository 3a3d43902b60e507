"""Bare video files: one log a file, no signals, no clock."""

from __future__ import annotations

import re
from typing import ClassVar

from schemas.recording import Recording
from schemas.records import Count, LogRef
from transforms.readers import Claim, ReadOptions, Tree
from transforms.video.demux import index_video

SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts",
    ".hevc", ".h265", ".265", ".h264", ".264",
)  # fmt: skip

CAMERAS = (
    "left_repeater",
    "right_repeater",
    "left_pillar",
    "right_pillar",
    "front_left",
    "front_right",
    "rear_left",
    "rear_right",
    "front",
    "back",
    "rear",
    "left",
    "right",
)
"""Names of cameras that a file's or its folder's name may carry, the longer first."""


class BareVideo:
    """Reads any video file that no other format claims."""

    name: ClassVar[str] = "video"
    version: ClassVar[int] = 1

    def claim(self, tree: Tree) -> list[Claim]:
        """Recognises videos by suffix, so that a broken one is told as broken."""
        return [
            Claim(path, tree.uri(path), (path,), path[: path.rfind("/") + 1])
            for path in tree.paths
            if path.lower().endswith(SUFFIXES) and "EncryptedClips" not in path.split("/")
        ]

    def read(self, log: LogRef, options: ReadOptions) -> Recording:
        """Reads one file.

        Raises:
            DataError: the file is unusable.
        """
        del options  # There is nothing native in a bare video.
        video = index_video(log.members[0].uri, camera_of(log.name), 0)
        return Recording(
            log=log,
            drive_id=log.name,
            vehicle_id="unknown",
            platform="vehicle",
            duration_ns=video.duration_ns,
            clock="none",
            videos=(video,),
            counts=(
                Count("ingest", "video files", kept=1),
                Count("ingest", "video frames", kept=len(video.t_ns)),
            ),
        )


def camera_of(path: str) -> str:
    """Names the camera by the file's name, then by its folder's; "front" by default.

    >>> camera_of("drive-1/back.mp4"), camera_of("left_repeater/000.mkv"), camera_of("a.mp4")
    ('back', 'left_repeater', 'front')
    """
    folder, _, name = path.rpartition("/")
    for text in (name.rpartition(".")[0], folder.rpartition("/")[2]):
        for camera in CAMERAS:
            if re.search(rf"(?<![a-z]){camera}(?![a-z])", text.lower()):
                return camera
    return "front"
