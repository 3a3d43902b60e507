"""CAN decoding: raw frames to the physical values of signals, in whole columns.

transforms.can.dbc_text parses the database, numpy decodes. Bits are numbered as in DBC files: a
little-endian (Intel) signal starts at its least significant bit, a big-endian (Motorola) one
at its most significant bit, and bit b is in byte b // 8 with weight 2 ** (b % 8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import AnyArray, BoolArray, ByteArray, FloatArray, IntArray
from schemas.errors import UsageError, excerpt
from transforms.bounded import read_configuration
from transforms.can.dbc_text import CanMessage, CanSignal, DbcError, messages_of

MAX_DBC_BYTES = 8 << 20
FLOAT_BITS = {16: np.float16, 32: np.float32, 64: np.float64}
EXACT = 1 << 53
"""Integers up to this are exact in float64."""


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
            UsageError: a file cannot be read, or is not a DBC file (names the line), or
                parsing it takes too much time or memory.
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


def _parse(uri: str) -> tuple[CanMessage, ...]:
    content = read_configuration("CAN database", uri, MAX_DBC_BYTES)
    try:
        return messages_of(content)
    except DbcError as error:
        raise UsageError(f"CAN database {uri}{excerpt(error)}") from error
