"""CAN decoding: raw frames to the physical values of signals, in whole columns.

cantools parses the database, numpy decodes. Bits are numbered as in DBC files: a
little-endian (Intel) signal starts at its least significant bit, a big-endian (Motorola) one
at its most significant bit, and bit b is in byte b // 8 with weight 2 ** (b % 8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from cantools.database import load_string
from cantools.database.can import Database as DbcDatabase
from cantools.database.can import Message as DbcMessage
from cantools.database.can import Signal as DbcSignal
from cantools.database.errors import UnsupportedDatabaseFormatError
from numpy.typing import NDArray

from schemas.arrays import AnyArray, BoolArray, ByteArray, FloatArray, IntArray
from schemas.errors import UsageError
from transforms.storage import filesystem

MAX_DBC_BYTES = 16 << 20
MAX_FRAME_BYTES = 64
"""Payload of a CAN FD frame."""
FLOAT_BITS = {16: np.float16, 32: np.float32, 64: np.float64}
EXACT = 1 << 53
"""Integers up to this are exact in float64."""
FORGED = re.compile(
    r"\bBO_\s+\d+\s+\w+\s*:\s*\d{5,}|\bSG_\s+\w+[^:@]{0,40}:\s*\d{5,}\s*\||\|\s*\d{5,}\s*@"
)
"""A length or start bit of five digits: cantools would build a string of as many bits."""
MAX_MULTIPLEXED = 1 << 16
"""Limit on the multiplexer values of one SG_MUL_VAL_, which cantools expands."""


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


@dataclass(frozen=True, slots=True)
class Decoded:
    """The signals of n frames.

    `values` maps (message, signal) to the rows of the frames that have it, int64[m]
    ascending, and its scaled values, float64[m]; messages without frames are absent. The
    counts `decoded`, `unknown` (id in no database) and `wrong_length` (shorter than the
    message) add up to n.
    """

    values: dict[tuple[str, str], tuple[IntArray, FloatArray]]
    decoded: int
    unknown: int
    wrong_length: int


@dataclass(frozen=True, slots=True)
class Database:
    """Messages by id; of several messages with the same id the first one is used."""

    messages: Mapping[int, CanMessage] = field(default_factory=dict)

    @classmethod
    def load(cls, uris: Sequence[str]) -> Database:
        """Reads DBC files.

        Signals may overlap, as in public files. Messages that do not fit in a frame (over 64
        bytes) and signals without a message are ignored.

        Raises:
            UsageError: a file cannot be read, or is not a DBC file (names the line).
        """
        messages: dict[int, CanMessage] = {}
        for uri in uris:
            for message in _parse(uri):
                messages.setdefault(message.address, message)
        return cls(messages)

    def decode(
        self, address: IntArray, payload: ByteArray, length: IntArray | None = None
    ) -> Decoded:
        """Decodes frames.

        Args:
            address: int64[n], the frames' ids.
            payload: uint8[n, w], their bytes, padded to a common width of 8 or 64.
            length: int64[n], the length of each frame before padding; w if None.

        Returns:
            Scaled values, bit for bit those of cantools. Multiplexed signals have only the
            rows in which their multiplexer selects them.
        """
        order = np.argsort(address, kind="stable")
        ids, starts, sizes = np.unique(address[order], return_index=True, return_counts=True)
        values: dict[tuple[str, str], tuple[IntArray, FloatArray]] = {}
        decoded = wrong_length = 0
        for id_, start, size in zip(ids.tolist(), starts.tolist(), sizes.tolist(), strict=True):
            message = self.messages.get(id_)
            if message is None:
                continue
            rows = order[start : start + size]
            if message.length > payload.shape[1]:
                rows = rows[:0]
            elif length is not None:
                rows = rows[length[rows] >= message.length]
            decoded += len(rows)
            wrong_length += size - len(rows)
            if len(rows):
                _decode_message(message, rows, payload, values)
        return Decoded(values, decoded, len(order) - decoded - wrong_length, wrong_length)


def _decode_message(
    message: CanMessage,
    rows: IntArray,
    payload: ByteArray,
    values: dict[tuple[str, str], tuple[IntArray, FloatArray]],
) -> None:
    # No signal has bits beyond the message, so the padding to 8 bytes does not matter.
    frames = np.zeros((len(rows), max(message.length, 8)), dtype=np.uint8)
    frames[:, : message.length] = payload[rows, : message.length]
    words: dict[tuple[bool, int], NDArray[np.uint64]] = {}
    columns: dict[str, FloatArray] = {}
    present: dict[str, BoolArray | None] = {}
    for signal in message.signals:
        column = columns[signal.name] = _scaled(signal, _bits(signal, frames, words))
        selected = None
        if signal.multiplexer is not None:
            selected = np.isin(np.trunc(columns[signal.multiplexer]), signal.multiplexer_ids)
            outer = present[signal.multiplexer]
            selected = selected if outer is None else selected & outer
        present[signal.name] = selected
        values[message.name, signal.name] = (
            (rows, column) if selected is None else (rows[selected], column[selected])
        )


def _bits(
    signal: CanSignal, frames: ByteArray, words: dict[tuple[bool, int], NDArray[np.uint64]]
) -> NDArray[np.uint64]:
    """Extracts a signal's bits from frames uint8[m, w]; `words` caches 8-byte words of them."""
    first = min(signal.start // 8, frames.shape[1] - 8)
    key = (signal.big_endian, first)
    if key not in words:
        eight = np.ascontiguousarray(frames[:, first : first + 8])
        words[key] = eight.view(">u8" if signal.big_endian else "<u8")[:, 0].astype(np.uint64)
    word = words[key]
    shift = signal.start - 8 * first
    spill = shift + signal.length - 64
    if spill > 0:  # Signals of more than 57 bits may end in a ninth byte.
        ninth = frames[:, first + 8].astype(np.uint64)
        if signal.big_endian:
            raw = word << np.uint64(spill) | ninth >> np.uint64(8 - spill)
        else:
            raw = word >> np.uint64(shift) | ninth << np.uint64(64 - shift)
    else:
        raw = word >> np.uint64(-spill if signal.big_endian else shift)
    return raw & np.uint64((1 << signal.length) - 1)


def _scaled(signal: CanSignal, bits: NDArray[np.uint64]) -> FloatArray:
    raw: AnyArray = bits
    if signal.is_float:
        raw = bits.astype(f"u{signal.length // 8}").view(FLOAT_BITS[signal.length])
    elif signal.signed:
        unused = np.uint64(64 - signal.length)
        raw = (bits << unused).view(np.int64) >> np.int64(64 - signal.length)
    scale, offset = signal.scale, signal.offset
    if scale == 1 and offset == 0:
        return raw.astype(np.float64)
    whole = not signal.is_float and float(scale).is_integer() and float(offset).is_integer()
    if (
        whole
        and signal.length + int(scale).bit_length() > 52
        and max(abs(scale), abs(offset)) < EXACT
    ):
        # Python integers, as in cantools: float64 would round twice.
        return (raw.astype(object) * int(scale) + int(offset)).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return raw.astype(np.float64) * scale + offset


def _parse(uri: str) -> list[CanMessage]:
    try:
        fs, path = filesystem(uri)
        with fs.open(path, mode="rb") as file:
            content = file.read(MAX_DBC_BYTES + 1)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(
            f"CAN database {uri!r} cannot be read: {error}; check its path and permissions"
        ) from error
    if len(content) > MAX_DBC_BYTES:
        raise UsageError(
            f"CAN database {uri!r} is over {MAX_DBC_BYTES} bytes; check that it is a DBC file"
        )
    # DBC files are in code page 1252. Names are ASCII, so only units could be damaged.
    text = content.decode("cp1252", errors="replace")
    _check_limits(text, uri)
    try:
        parsed = load_string(text, database_format="dbc", strict=False)
    except UnsupportedDatabaseFormatError as error:
        raise UsageError(f"CAN database {uri!r} is not a DBC file: {error}") from error
    messages = parsed.messages if isinstance(parsed, DbcDatabase) else []
    return [
        _message(message, uri)
        for message in messages
        if 0 < message.length <= MAX_FRAME_BYTES and message.name != "VECTOR__INDEPENDENT_SIG_MSG"
    ]


def _check_limits(text: str, uri: str) -> None:
    """Rejects numbers for which cantools would allocate without bound."""
    if match := FORGED.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise UsageError(
            f"CAN database {uri!r}, line {line}: {match.group()!r} exceeds any CAN message; "
            "correct the number"
        )
    for part in text.split("SG_MUL_VAL_")[1:]:
        ranges = re.findall(r"(\d{1,20})\s*-\s*(\d{1,20})", part.partition(";")[0])
        if sum(max(int(last) - int(first), 0) for first, last in ranges) > MAX_MULTIPLEXED:
            raise UsageError(
                f"CAN database {uri!r}: SG_MUL_VAL_{part[:40]!r} lists more than "
                f"{MAX_MULTIPLEXED} multiplexer values; correct its ranges"
            )


def _message(message: DbcMessage, uri: str) -> CanMessage:
    """Converts a message of cantools; multiplexers are placed before the signals they select."""
    waiting = [_signal(signal, message, uri) for signal in message.signals]
    ordered: list[CanSignal] = []
    known: set[str | None] = {None}
    while ready := [signal for signal in waiting if signal.multiplexer in known]:
        ordered += ready
        known |= {signal.name for signal in ready}
        waiting = [signal for signal in waiting if signal not in ready]
    if waiting:
        raise UsageError(
            f"CAN database {uri!r}, message {message.name!r}: the multiplexer "
            f"{waiting[0].multiplexer!r} of signal {waiting[0].name!r} is missing or circular"
        )
    return CanMessage(message.name, message.frame_id, message.length, tuple(ordered))


def _signal(signal: DbcSignal, message: DbcMessage, uri: str) -> CanSignal:
    big_endian = signal.byte_order == "big_endian"
    start = signal.start + 7 - 2 * (signal.start % 8) if big_endian else signal.start
    place = f"CAN database {uri!r}, message {message.name!r}, signal {signal.name!r}"
    if not 1 <= signal.length <= 64 or start < 0 or start + signal.length > 8 * message.length:
        raise UsageError(
            f"{place}: bits {signal.start}|{signal.length} do not fit in {message.length} bytes"
        )
    if signal.is_float and signal.length not in FLOAT_BITS:
        raise UsageError(f"{place}: a float of {signal.length} bits; use 16, 32 or 64")
    if not np.isfinite([signal.scale, signal.offset]).all():
        raise UsageError(
            f"{place}: factor {signal.scale} and offset {signal.offset} must be finite"
        )
    return CanSignal(
        name=signal.name,
        start=start,
        length=signal.length,
        big_endian=big_endian,
        signed=signal.is_signed,
        is_float=signal.is_float,
        scale=float(signal.scale),
        offset=float(signal.offset),
        unit=signal.unit or "",
        multiplexer=signal.multiplexer_signal,
        multiplexer_ids=tuple(sorted(signal.multiplexer_ids or ())),
    )
