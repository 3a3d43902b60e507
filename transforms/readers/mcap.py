"""MCAP: messages of robots and vehicles, in files that a recorder may have split.

A log is one file, or the files `<name>_0.mcap`, `<name>_1.mcap`, … of one folder. Its messages are
ROS 1, ROS 2, protobuf or JSON; transforms.messages says which of their fields are our signals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from schemas.records import LogRef, Member
from transforms.messages.files import open_files, opened_file, split_claims
from transforms.messages.log import MessageLog
from transforms.messages.mcap_index import messages_of, read_chunk, read_index
from transforms.messages.source import Chunk, Found
from transforms.readers import Claim, ReadOptions, Tree


class Mcap:
    """The reader of MCAP files."""

    name: ClassVar[str] = "mcap"
    version: ClassVar[int] = 1

    def claim(self, tree: Tree) -> list[Claim]:
        """Claims files by suffix, and joins those that were split."""
        return split_claims(tree, ".mcap")

    def open(self, log: LogRef, options: ReadOptions) -> MessageLog:
        """Reads the index of each file, and the first messages.

        Raises:
            DataError: a file is none, or nothing in it is read.
        """
        return open_files(log, [_McapFile(member) for member in log.members], options)


class _McapFile:
    """One file and its index."""

    def __init__(self, member: Member) -> None:
        self._uri = member.uri
        with opened_file(member.uri) as file:
            index = read_index(file, member.uri, member.size)
        self._names = {number: topic.name for number, topic in index.topics.items()}
        self._refs = index.chunks
        self.topics = {topic.name: topic.schema for topic in reversed(list(index.topics.values()))}
        self.software = index.library
        self.broken = index.broken
        self.chunks = [
            Chunk(place, ref.start_ns, ref.end_ns, ref.size, self._by_topic(ref.counts))
            for place, ref in enumerate(index.chunks)
        ]

    def _by_topic(self, counts: Mapping[int, int]) -> dict[str, int]:
        """Counts messages by topic; channels may share one."""
        totals: dict[str, int] = {}
        for channel, number in counts.items():
            topic = self._topic(channel)
            totals[topic] = totals.get(topic, 0) + number
        return totals

    def _topic(self, channel: int) -> str:
        return self._names.get(channel, f"channel {channel}")

    def read(self, chunk: Chunk) -> dict[str, Found]:
        """Reads the messages of a chunk by topic."""
        with opened_file(self._uri) as file:
            content = read_chunk(file, self._uri, self._refs[chunk.place])
        return messages_of(content, self._topic)
