"""ROS bags: `.bag` of ROS 1 and `.db3` of ROS 2, of one file or of several that were split.

The messages are read as those of MCAP files: transforms.messages says which of their fields are our
signals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from schemas.records import LogRef, Member
from transforms.messages.bag_file import BagFile
from transforms.messages.files import Container, open_files, split_claims
from transforms.messages.log import MessageLog
from transforms.messages.sqlite_file import SqliteFile
from transforms.readers import Claim, ReadOptions, Tree

_CONTAINERS: Mapping[str, Callable[[Member], Container]] = {".bag": BagFile, ".db3": SqliteFile}


class RosBag:
    """The reader of ROS bags."""

    name: ClassVar[str] = "rosbag"
    version: ClassVar[int] = 1

    def claim(self, tree: Tree) -> list[Claim]:
        """Claims files by suffix, and joins those that were split."""
        return [claim for suffix in _CONTAINERS for claim in split_claims(tree, suffix)]

    def open(self, log: LogRef, options: ReadOptions) -> MessageLog:
        """Reads the index of each file, and the first messages.

        Raises:
            DataError: a file is none, or nothing in it is read.
        """
        kind = _CONTAINERS[log.members[0].name.lower()[-4:]]
        return open_files(log, [kind(member) for member in log.members], options)
