"""Video files without a known layout: each is one log, without signals and without a clock."""

from __future__ import annotations

import re
from typing import ClassVar

from schemas.recording import LogHeader
from schemas.records import Count, LogRef
from transforms.readers import VIDEO_SUFFIXES, Claim, ReadOptions, Tree, WholeLog, is_encrypted
from transforms.video.demux import index_video

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
"""Camera names that may be part of a file's or its folder's name, longer ones first."""


class BareVideo:
    """Reads any video file that no other format claims."""

    name: ClassVar[str] = "video"
    version: ClassVar[int] = 1

    def claim(self, tree: Tree) -> list[Claim]:
        """Claims videos by suffix, so that damaged files are rejected with their damage."""
        return [
            Claim(path, tree.uri(path), (path,), path[: path.rfind("/") + 1])
            for path in tree.paths
            if path.lower().endswith(VIDEO_SUFFIXES) and not is_encrypted(path)
        ]

    def open(self, log: LogRef, options: ReadOptions) -> WholeLog:
        """Opens one file.

        Raises:
            DataError: the file is unusable.
        """
        del options  # A video file has no native samples.
        video = index_video(log.members[0].uri, camera_of(log.name), 0)
        header = LogHeader(
            log=log,
            drive_id=log.name,
            vehicle_id="unknown",
            platform="vehicle",
            duration_ns=video.duration_ns,
            clock="none",
        )
        return WholeLog.of(
            header,
            videos=(video,),
            counts=(
                Count("ingest", "video files", kept=1),
                Count("ingest", "video frames", kept=len(video.t_ns)),
            ),
        )


def camera_of(path: str) -> str:
    """Infers the camera from the file's name, then from its folder's; "front" by default.

    >>> camera_of("drive-1/back.mp4"), camera_of("left_repeater/000.mkv"), camera_of("a.mp4")
    ('back', 'left_repeater', 'front')
    """
    folder, _, name = path.rpartition("/")
    for text in (name.rpartition(".")[0], folder.rpartition("/")[2]):
        for camera in CAMERAS:
            if re.search(rf"(?<![a-z]){camera}(?![a-z])", text.lower()):
                return camera
    return "front"
