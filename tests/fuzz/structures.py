"""Damage inside of a format: what is around it stays whole, so that later checks are reached."""

from __future__ import annotations

import copy
import json
import random
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

from tests.fuzz.mutations import LIMITS, mutated

Dice = random.Random
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta"}


def damaged(name: str, content: bytes, dice: Dice) -> bytes:
    """Damages a file, mostly in the way of its format, which its name and its start tell."""
    inside = next((damage for is_one, damage in _KINDS if is_one(name, content)), mutated)
    return (inside if dice.random() < 0.7 else mutated)(content, dice)


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Yields start, end and type of each box, those in others before these."""
    while start + 8 <= end:
        size, type_ = struct.unpack_from(">I4s", content, start)
        if not 8 <= size <= end - start:
            return
        if type_ in _CONTAINERS:
            yield from _boxes(content, start + 8, start + size)
        yield start, start + size, type_
        start += size


def mp4(content: bytes, dice: Dice) -> bytes:
    """Puts sizes, counts, times and types of boxes at their limits, and moves boxes."""
    for _ in range(dice.randint(1, 3)):
        boxes = [box for box in _boxes(content, 0, len(content)) if box[2] != b"mdat"]
        if not boxes:
            return mutated(content, dice)
        start, end, type_ = dice.choice(boxes)
        size = end - start
        limit = dice.choice((*LIMITS, size + 1, size - 1, size * 2)) & 0xFFFFFFFF
        kind = dice.randrange(5)
        if kind == 0:
            content = _put(content, start, struct.pack(">I", limit))
        elif kind == 1:  # another box in its place
            other_type = dice.choice((b"free", b"ctts", dice.choice(boxes)[2]))
            content = _put(content, start + 4, other_type)
        elif kind == 2:  # what another box says
            other = dice.choice(boxes)
            content = _put(content, start + 8, content[other[0] + 8 : other[1]][: size - 8])
        elif type_ not in _CONTAINERS and size >= 12:
            at = start + 8 + 4 * dice.randrange((size - 8) // 4)
            content = _put(content, at, struct.pack(">I", limit))
    return content


def _put(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


def npy(content: bytes, dice: Dice) -> bytes:
    """Gives an array another type, order or shape, in a header that still parses."""
    end = 10 + int.from_bytes(content[8:10], "little")
    header = content[10:end].decode("latin-1").rstrip()
    numbers = ("0", "1", "3", str(1 << 31), str(1 << 40), str(1 << 62), "999999999999999", "-1")
    shape = "".join(f"{dice.choice(numbers)}, " for _ in range(dice.randint(0, 5)))
    types = ("<f8", ">f8", "<f2", "|b1", "<i1", "<u8", "|S0", "|S99", "<U7", "|O8", "<c16", "<M8")
    changes = (
        (r"'descr': '[^']*'", f"'descr': '{dice.choice(types)}'"),
        (r"\((.*)\)", f"({shape})"),
        ("False", "True"),
    )
    for pattern, written in dice.sample(changes, dice.choice((1, 1, 2))):
        header = re.sub(pattern, written, header)
    header += " " * (-(len(header) + 11) % 64) + "\n"
    size = struct.pack("<H", len(header))
    return content[:8] + size + header.encode("latin-1") + content[end:]


class _Thrift:
    """Finds the numbers and texts of thrift's compact protocol, in which Parquet's footer is.

    The layout: github.com/apache/thrift, doc/specs/thrift-compact-protocol.md.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0
        self.found: list[tuple[int, int]] = []

    def struct(self) -> None:
        while head := self._byte():
            if not head >> 4:
                self._varint()
            self._value(head & 15)

    def _value(self, kind: int) -> None:
        if kind in {4, 5, 6}:
            self._varint()
        elif kind == 3:
            self.at += 1
        elif kind == 7:
            self.at += 8
        elif kind == 8:
            size = self._varint()
            self.at += size
        elif kind in {9, 10}:
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._varint()
            for _ in range(size):
                self._element(head & 15)
        elif kind == 12:
            self.struct()

    def _element(self, kind: int) -> None:
        if kind in {1, 2}:
            self.at += 1
        else:
            self._value(kind)

    def _byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def _varint(self) -> int:
        start, number, shift = self.at, 0, 0
        while True:
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                self.found.append((start, self.at))
                return number


def parquet(content: bytes, dice: Dice) -> bytes:
    """Puts numbers of the footer at their limits: of rows, values, offsets, types, children."""
    size = int.from_bytes(content[-8:-4], "little")
    if content[-4:] != b"PAR1" or size + 12 > len(content):
        return mutated(content, dice)
    body, footer = content[: -8 - size], content[-8 - size : -8]
    for _ in range(dice.randint(1, 3)):
        thrift = _Thrift(footer)
        try:
            thrift.struct()
        except IndexError:
            break
        start, end = dice.choice(thrift.found)
        near = int.from_bytes(footer[start:end], "little") + dice.choice((-2, 2))
        number = dice.choice((*LIMITS, (1 << 64) - 1, (1 << 63) - 2, near & 0x7F))
        footer = footer[:start] + _written(number) + footer[end:]
    if dice.random() < 0.2:
        body = mutated(body, dice)
    return body + footer + struct.pack("<I", len(footer)) + b"PAR1"


def _written(number: int) -> bytes:
    """Writes a number of any size, seven bits a byte."""
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e-300, 1e300, 1 << 70, float("nan"), float("inf"), "", "\ud800", "a\0b",
    "9" * 5000, "2026-03-17T17:51:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59", [], {},
    [[[[["hip"]]]]], {"names": {"motors": [1, None]}}, "../../etc/passwd", "video",
)  # fmt: skip


def jsons(content: bytes, dice: Dice) -> bytes:
    """Puts other values, of any type, into an object."""
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return mutated(content, dice)
    for _ in range(dice.randint(1, 3)):
        parent = whole
        while isinstance(parent, dict) and parent:
            key = dice.choice(sorted(parent))
            if not isinstance(parent[key], dict) or dice.random() < 0.3:
                parent[key] = copy.deepcopy(dice.choice(_VALUES))
                if dice.random() < 0.2:
                    del parent[key]
                break
            parent = parent[key]
    return json.dumps(whole).encode()


def stream(content: bytes, dice: Dice) -> bytes:
    """Drops, repeats, moves and damages the NAL units of an elementary stream."""
    units = re.split(rb"(?=\x00\x00\x01)", content)
    for _ in range(dice.randint(1, 4)):
        at, to = dice.randrange(len(units)), dice.randrange(len(units))
        kind = dice.randrange(5)
        if kind == 0 and len(units) > 1:
            del units[at]
        elif kind == 1:
            units[at] *= dice.choice((2, 50))
        elif kind == 2:
            units[at], units[to] = units[to], units[at]
        elif kind == 3:  # its header, and the numbers at its start
            unit = bytearray(units[at])
            for place in range(3, min(len(unit), 12)):
                if dice.random() < 0.3:
                    unit[place] ^= 1 << dice.randrange(8)
            units[at] = bytes(unit)
        else:
            units[at] = units[at][: dice.randint(3, 8)]
    return b"".join(units)


def transport(content: bytes, dice: Dice) -> bytes:
    """Drops, repeats, moves and damages the packets of an MPEG transport stream."""
    packets = [bytearray(content[at : at + 188]) for at in range(0, len(content), 188)]
    for _ in range(dice.randint(1, 6)):
        at, to = dice.randrange(len(packets)), dice.randrange(len(packets))
        kind = dice.randrange(5)
        if kind == 0 and len(packets) > 1:
            del packets[at]
        elif kind == 1:
            packets.insert(to, bytearray(packets[at]))
        elif kind == 2:
            packets[at], packets[to] = packets[to], packets[at]
        else:  # its stream and counter, or the tables and times at the start of its payload
            first, end = ((1, 4), (4, 24))[kind - 3]
            place = dice.randrange(first, min(end, len(packets[at])))
            packets[at][place] = dice.choice((0, 1, 255, dice.randrange(256)))
    return b"".join(packets)[: len(content) * 2 - dice.choice((0, 0, 100, 187))]


_Is = Callable[[str, bytes], bool]
_KINDS: tuple[tuple[_Is, Callable[[bytes, Dice], bytes]], ...] = (
    (lambda _, content: content[4:8] == b"ftyp", mp4),
    (lambda _, content: content[:6] == b"\x93NUMPY", npy),
    (lambda name, _: name.endswith(".parquet"), parquet),
    (lambda name, _: name.endswith(".json"), jsons),
    (lambda name, content: name.endswith((".h264", ".hevc")) and bool(content), stream),
    (lambda name, content: name.endswith(".ts") and len(content) > 188, transport),
)
