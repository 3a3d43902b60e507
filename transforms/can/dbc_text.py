"""The text of DBC files: parsed by cantools, in a child process with limits.

cantools expands what a text only names (multiplexer values of nested multiplexers, attributes
like 1e999999999), so that a short text can take any time and memory. A child parses about
1 MB/s and is killed where it exceeds its limits; starting it takes 0.2 s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

from cantools.database import load_string
from cantools.database.can import Database as DbcDatabase
from cantools.database.can import Message as DbcMessage
from cantools.database.can import Signal as DbcSignal
from cantools.database.errors import UnsupportedDatabaseFormatError

from schemas.errors import FleetError
from transforms.attempt import AttemptError, attempt
from transforms.isolation import Call, Limits

LIMITS = Limits(seconds=30, memory_bytes=1 << 30)
"""Of parsing: the longest text that is read takes a quarter of the time and half of the memory."""
MAX_FRAME_BYTES = 64
"""Payload of a CAN FD frame."""
MAX_SIGNALS = 4096
"""Of a message: decoding holds a column of each."""
MAX_MULTIPLEXED = 1 << 16
"""Limit on the multiplexer values of one SG_MUL_VAL_, which cantools expands."""
FLOAT_BITS = (16, 32, 64)

_FORGED = re.compile(
    r"\bBO_\s+\d+\s+\w+\s*:\s*\d{5,}|\bSG_\s+\w+[^:@]{0,40}:\s*\d{5,}\s*\||\|\s*\d{5,}\s*@"
)
"""A length or start bit of five digits: cantools would build a string of as many bits."""


@dataclass(frozen=True, slots=True)
class CanSignal:
    """The layout and scaling of one signal.

    `start` is the least significant bit of a little-endian signal; for a big-endian one it
    counts from the most significant bit of the first byte. If `multiplexer` is set, the
    signal is present in frames where that signal's value is among `multiplexer_ids`.
    """

    name: str
    start: int
    length: int
    big_endian: bool
    signed: bool
    is_float: bool
    scale: float
    offset: float
    unit: str
    multiplexer: str | None
    multiplexer_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CanMessage:
    """One message: the layout of the frames with id `address`, of `length` bytes."""

    name: str
    address: int
    length: int
    signals: tuple[CanSignal, ...]


class DbcError(FleetError):
    """A text that is not a usable DBC file; the message is the end of a line."""


@lru_cache(maxsize=8)
def messages_of(content: bytes) -> tuple[CanMessage, ...]:
    """Parses the content of a DBC file in a child process, once a process.

    Raises:
        DbcError: it is invalid, or parsing it takes too much time or memory.
    """
    try:
        return tuple(attempt(Call(parse, (content,)), LIMITS))
    except AttemptError as error:
        raise DbcError(f": parsing it {error}; correct or shorten it") from error


def parse(content: bytes) -> list[CanMessage]:
    """Parses the content of a DBC file in this process, without limits.

    Signals may overlap, as in public files. Messages that do not fit in a frame (over 64
    bytes) and signals without a message are ignored.

    Raises:
        DbcError: it is invalid.
        MemoryError: it takes too much memory.
    """
    # DBC files are in code page 1252. Names are ASCII, so only units could be damaged.
    text = content.decode("cp1252", errors="replace")
    _check_limits(text)
    try:
        parsed = load_string(text, database_format="dbc", strict=False)
    except UnsupportedDatabaseFormatError as error:
        if isinstance(error.e_dbc, MemoryError):
            raise error.e_dbc from error
        raise DbcError(f": not a DBC file: {error}") from error
    messages = parsed.messages if isinstance(parsed, DbcDatabase) else []
    return [
        _message(message)
        for message in messages
        if 0 < message.length <= MAX_FRAME_BYTES and message.name != "VECTOR__INDEPENDENT_SIG_MSG"
    ]


def _check_limits(text: str) -> None:
    """Rejects numbers for which cantools would allocate without bound."""
    if match := _FORGED.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise DbcError(
            f", line {line}: {match.group()[:80]!r} exceeds any CAN message; correct the number"
        )
    for part in text.split("SG_MUL_VAL_")[1:]:
        ranges = re.findall(r"(\d{1,20})\s*-\s*(\d{1,20})", part.partition(";")[0])
        if sum(max(int(last) - int(first), 0) for first, last in ranges) > MAX_MULTIPLEXED:
            raise DbcError(
                f": SG_MUL_VAL_{part[:40]!r} lists more than {MAX_MULTIPLEXED} multiplexer "
                "values; correct its ranges"
            )


def _message(message: DbcMessage) -> CanMessage:
    """Converts a message of cantools; multiplexers are placed before the signals they select."""
    if len(message.signals) > MAX_SIGNALS:
        raise DbcError(
            f", message {message.name!r}: {len(message.signals)} signals; a message may have "
            f"{MAX_SIGNALS}"
        )
    waiting = [_signal(signal, message) for signal in message.signals]
    ordered: list[CanSignal] = []
    known: set[str | None] = {None}
    while ready := [signal for signal in waiting if signal.multiplexer in known]:
        ordered += ready
        waiting = [signal for signal in waiting if signal.multiplexer not in known]
        known |= {signal.name for signal in ready}
    if waiting:
        raise DbcError(
            f", message {message.name!r}: the multiplexer {waiting[0].multiplexer!r} of signal "
            f"{waiting[0].name!r} is missing or circular"
        )
    return CanMessage(message.name, message.frame_id, message.length, tuple(ordered))


def _signal(signal: DbcSignal, message: DbcMessage) -> CanSignal:
    big_endian = signal.byte_order == "big_endian"
    start = signal.start + 7 - 2 * (signal.start % 8) if big_endian else signal.start
    place = f", message {message.name!r}, signal {signal.name!r}"
    if not 1 <= signal.length <= 64 or start < 0 or start + signal.length > 8 * message.length:
        raise DbcError(
            f"{place}: bits {signal.start}|{signal.length} do not fit in {message.length} bytes"
        )
    if signal.is_float and signal.length not in FLOAT_BITS:
        raise DbcError(f"{place}: a float of {signal.length} bits; use 16, 32 or 64")
    # As floats: a whole number of many digits is finite and yet none.
    scale, offset = _float(signal.scale), _float(signal.offset)
    if not isfinite(scale) or not isfinite(offset):
        raise DbcError(f"{place}: factor and offset must be finite; correct them")
    return CanSignal(
        name=signal.name,
        start=start,
        length=signal.length,
        big_endian=big_endian,
        signed=signal.is_signed,
        is_float=signal.is_float,
        scale=scale,
        offset=offset,
        unit=signal.unit or "",
        multiplexer=signal.multiplexer_signal,
        multiplexer_ids=tuple(sorted(signal.multiplexer_ids or ())),
    )


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")
