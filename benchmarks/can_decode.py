"""can_decode: CAN frames decoded per second, against a loop over cantools' decode_message."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cantools.database.can import Database as DbcDatabase

from benchmarks import Measure, interleaved
from schemas.arrays import ByteArray, IntArray
from transforms.can.dbc import Database

FRAMES = 40_000


def measure() -> Iterator[Measure]:
    """Decodes the frames of bus 0 of a recording whose id the DBC defines.

    Where FLEETMILL_DATA has no such recording, generated frames take its place.
    """
    with tempfile.TemporaryDirectory() as folder:
        dbc, address, payload, source = _recorded() or _generated(Path(folder))
        database = Database.load([str(dbc)])
        peer = DbcDatabase(strict=False)
        peer.add_dbc_string(dbc.read_text("cp1252"))
    known = np.isin(address, sorted(database.messages))
    address, payload = address[known], np.ascontiguousarray(payload[known])
    frames = [(int(id_), row.tobytes()) for id_, row in zip(address, payload, strict=True)]

    def loop() -> list[Any]:
        return [peer.decode_message(id_, row, decode_choices=False) for id_, row in frames]

    ours, theirs = interleaved([lambda: database.decode(address, payload), loop])
    yield Measure(
        "can_decode",
        len(frames) / ours,
        len(frames) / theirs,
        "cantools decode_message",
        "frames/s",
        f"{len(frames)} frames, {len(database.messages)} messages, {source}",
    )


def _recorded() -> tuple[Path, IntArray, ByteArray, str] | None:
    data = Path(os.environ.get("FLEETMILL_DATA", ""))
    dbc = data / "dbc/toyota_2017.dbc"
    folders = sorted(data.glob("comma2k19/*/*/processed_log/CAN/raw_can")) if dbc.is_file() else []
    if not folders:
        return None
    bus0 = np.load(folders[0] / "src") == 0
    payload = np.load(folders[0] / "data").view(np.uint8).reshape(-1, 8)
    return dbc, np.load(folders[0] / "address")[bus0], payload[bus0], "one minute of comma2k19"


def _generated(folder: Path) -> tuple[Path, IntArray, ByteArray, str]:
    """Generates a DBC of 40 messages of five 12-bit signals, in both byte orders, and frames."""
    lines = ["BU_: X", ""]
    for address in range(40):
        lines.append(f"BO_ {address} m{address}: 8 X")
        for bit in range(0, 60, 12):
            place = f"{bit}|12@1+" if address % 2 else f"{8 * (bit // 8) + 7 - bit % 8}|12@0-"
            lines.append(f' SG_ s{bit} : {place} (0.1,-5) [0|0] "" X')
        lines.append("")
    dbc = folder / "generated.dbc"
    dbc.write_text("\n".join(lines), encoding="ascii")
    rng = np.random.default_rng(0)
    payload = rng.integers(0, 256, (FRAMES, 8), dtype=np.uint8)
    return dbc, rng.integers(0, 40, FRAMES), payload, "generated"
