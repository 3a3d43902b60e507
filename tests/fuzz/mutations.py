"""Mutated bytes: truncated, flipped, spliced, and with numbers at their limits."""

from __future__ import annotations

import random

LIMITS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62)


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Damages bytes in one to four ways."""
    for _ in range(dice.randint(1, 4)):
        content = dice.choice((_cut, _flip, _splice, _overwrite, _number, _text))(content, dice)
    return content


def _cut(content: bytes, dice: random.Random) -> bytes:
    """Loses the end, the start, or a part."""
    first, last = sorted(dice.randrange(len(content) + 1) for _ in range(2))
    return dice.choice((content[:first], content[last:], content[:first] + content[last:]))


def _flip(content: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(dice.choice((1, 2, 8, 64)) if damaged else 0):
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def _splice(content: bytes, dice: random.Random) -> bytes:
    """Repeats a part somewhere else."""
    first, last = sorted(dice.randrange(len(content) + 1) for _ in range(2))
    at = dice.randrange(len(content) + 1)
    return content[:at] + content[first : min(last, first + 4096)] + content[at:]


def _overwrite(content: bytes, dice: random.Random) -> bytes:
    at, size = dice.randrange(len(content) + 1), dice.choice((1, 4, 16, 256))
    filler = dice.choice((b"\0", b"\xff", dice.randbytes(1))) * size
    return content[:at] + filler + content[at + size :]


def _number(content: bytes, dice: random.Random) -> bytes:
    """Puts a number at its limit, binary or in digits."""
    at, width = dice.randrange(len(content) + 1), dice.choice((1, 2, 4, 8))
    number = dice.choice(LIMITS) & ((1 << 8 * width) - 1)
    written = number.to_bytes(width, dice.choice(("big", "little")))
    if dice.random() < 0.3:
        written = dice.choice(("-1", "1e999", "NaN", "99999999999999999999", "0")).encode()
    return content[:at] + written + content[at + len(written) :]


def _text(content: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(content) + 1)
    texts = (b"\\ud800", b"\\u0000", b"\xff\xfe", b"../../../etc/passwd", b"\n", b"[" * 2000)
    return content[:at] + dice.choice(texts) + content[at:]
