"""A fleet with one of each fault that strangers' files have: each costs its own log alone."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake.tables import Lake
from tests.conftest import Fleetmill, Tell
from tests.fuzz.logs import write_lerobot, write_video
from tests.segments import DRAWN, write_segments

pytestmark = pytest.mark.slow

GOOD = int(os.environ.get("FLEETMILL_GOOD_LOGS", DRAWN))
"""Logs without a fault; a multiple of DRAWN."""

CLIP = "2026-03-17_17-50-00-front.mp4"


def teslacam(root: Path, content: bytes, event: str | None = None) -> Path:
    """Writes a clip of one camera, and returns its folder."""
    folder = root / "TeslaCam" / "SavedClips" / "2026-03-17_17-52-09"
    folder.mkdir(parents=True)
    (folder / CLIP).write_bytes(content)
    if event is not None:
        (folder / "event.json").write_text(event)
    return folder


def event(**fields: object) -> str:
    """Writes what a vehicle says of a saved clip."""
    said = {"timestamp": "2026-03-17T17:51:00", "reason": "user_interaction_honk", "camera": "0"}
    return json.dumps(said | fields)


def patched(content: bytes, box: bytes, at: int, value: bytes) -> bytes:
    """Overwrites bytes in the first box of a type, from the start of its payload on."""
    start = content.index(box) + 4 + at
    return content[:start] + value + content[start + len(value) :]


def slow(content: bytes) -> bytes:
    """Makes a clip of twelve pictures last for a month, which is 10^8 rows of signals."""
    content = content.replace(b"edts", b"free")
    content = patched(content, b"mdhd", 12, struct.pack(">I", 1))
    return patched(content, b"stts", 12, struct.pack(">I", 200_000))


def bomb(root: Path, _: bytes) -> None:
    """Writes 2^28 equal values, which take some kilobytes in Parquet and 5 GB in memory."""
    write_lerobot(root)
    episode = root / "data" / "chunk-000" / "episode_000000.parquet"
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1 << 22, np.float32)), 1 << 20)
    with pq.ParquetWriter(
        episode, pa.schema([("observation.state", zeros.type), ("timestamp", pa.float32())])
    ) as out:
        for group in range(64):
            t_s = pa.array((4 * group + np.arange(4)) / 25, pa.float32())
            out.write_table(pa.table({"observation.state": zeros, "timestamp": t_s}))


def sparse(root: Path, _: bytes) -> None:
    """Writes a terabyte that is not there, and no index after it."""
    folder = teslacam(root, b"")
    with (folder / CLIP).open("wb") as file:
        file.write(struct.pack(">I4sQ", 1, b"mdat", 1 << 40))
        file.truncate(1 << 40)


FAULTS: Mapping[str, tuple[Callable[[Path, bytes], object], str]] = {
    "half a surrogate pair": (lambda r, c: teslacam(r, c, event(reason="\ud800")), "corrupt"),
    "a NUL": (lambda r, c: teslacam(r, c, event(reason="a\0b")), "corrupt"),
    "a long text": (lambda r, c: teslacam(r, c, event(reason="a" * 5000)), "corrupt"),
    "deep JSON": (lambda r, c: teslacam(r, c, "[" * 100_000), "corrupt"),
    "a tick a second": (lambda r, c: teslacam(r, slow(c)), "memory"),
    "2^31 samples": (
        lambda r, c: teslacam(r, patched(c, b"stsz", 8, struct.pack(">I", 1 << 31))),
        "corrupt",
    ),
    "a box of no size": (
        lambda r, _: teslacam(r, struct.pack(">I4s", 4, b"ftyp") + bytes(64)),
        "corrupt",
    ),
    "a box of 2^63 bytes": (
        lambda r, _: teslacam(r, struct.pack(">I4sQ", 1, b"ftyp", 1 << 63) + bytes(64)),
        "corrupt",
    ),
    "a sparse terabyte": (sparse, "corrupt"),
    "a Parquet bomb": (bomb, "memory"),
}


def test_each_fault_is_one_reject_and_every_good_log_comes_through(
    fleetmill: Fleetmill, tmp_path: Path, tell: Tell
) -> None:
    fleet = write_segments(fleetmill, tmp_path / "made", GOOD)
    write_video(tmp_path / "clip.mp4", telemetry=True)
    clip = (tmp_path / "clip.mp4").read_bytes()
    for name, (write, _) in FAULTS.items():
        write(fleet / "faults" / name, clip)
    lake = tmp_path / "lake"
    done = fleetmill("ingest", "--input", fleet, "--lake", lake, "--json",
                     "--max-reject-fraction", 1)  # fmt: skip
    assert done.code == 0, done.err
    (logs,) = (count for count in done.document["jobs"][0]["counts"] if count["of"] == "logs")
    rejects = Lake.open(str(lake)).read("rejects").to_pylist()
    found = {name: [r for r in rejects if f"/faults/{name}/" in r["uri"]] for name in FAULTS}
    reasons = {name: [row["reason"] for row in rows] for name, rows in found.items()}
    assert reasons == {name: [reason] for name, (_, reason) in FAULTS.items()}, rejects
    assert len(rejects) == len(FAULTS)
    assert logs["in"] == GOOD + len(FAULTS)
    kept = Lake.open(str(lake)).read("logs")["uri"].to_pylist()
    assert sum("/faults/" not in uri for uri in kept) == GOOD
    assert all(row["detail"].isprintable() for row in rejects)
    over = fleetmill("ingest", "--input", fleet, "--lake", tmp_path / "again",
                     "--max-reject-fraction", 0)  # fmt: skip
    assert over.code == 3, over.err
    tell(f"{GOOD} good logs beside {len(FAULTS)} faults: all of them, and a reject for each fault")
