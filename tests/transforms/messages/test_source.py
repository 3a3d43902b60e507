"""What containers of messages share."""

from __future__ import annotations

from tests.message_logs import Memory, drive
from transforms.messages.source import Found, Source


def test_messages_are_joined_in_order() -> None:
    found = Found([1], [memoryview(b"a")])
    found.extend(Found([3, 2], [memoryview(b"b"), memoryview(b"c")]))
    assert found.log_ns == [1, 3, 2]
    assert [bytes(payload) for payload in found.payloads] == [b"a", b"b", b"c"]


def test_a_source_in_memory_is_one() -> None:
    source: Source = Memory(drive(1.0), chunk=50)
    counts = [sum(chunk.counts.values()) for chunk in source.chunks]
    assert sum(counts) == 180
    for chunk in source.chunks:
        found = source.read(chunk)
        assert {topic: len(own.log_ns) for topic, own in found.items()} == chunk.counts
