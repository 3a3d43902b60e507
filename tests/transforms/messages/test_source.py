"""What containers of messages share."""

from __future__ import annotations

from tests.message_logs import Memory, drive
from transforms.messages.source import MAX_NS, Found, Messages, Source


def test_messages_are_joined_in_order() -> None:
    messages = Messages.of([b"ab", b"", memoryview(b"c")])
    places = zip(messages.starts, messages.ends, strict=True)
    assert [bytes(messages.content[start:end]) for start, end in places] == [b"ab", b"", b"c"]
    assert not len(Messages.of([]).starts)


def test_a_forged_time_is_cut_off() -> None:
    found = Found.of([0, 7, (1 << 64) - 1], Messages.of([b"", b"", b""]))
    assert found.log_ns.tolist() == [0, 7, MAX_NS]


def test_a_source_in_memory_is_one() -> None:
    source: Source = Memory(drive(1.0), chunk=50)
    counts = [sum(chunk.counts.values()) for chunk in source.chunks]
    assert sum(counts) == 180
    for chunk in source.chunks:
        found = source.read(chunk)
        assert {topic: len(own.log_ns) for topic, own in found.items()} == chunk.counts
