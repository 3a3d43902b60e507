"""A log of an hour: `ingest` reads it by segments, in parallel and in bounded memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.lake.tables import Lake
from pipeline.stages.recording_rows import log_rows
from schemas.times import NS_PER_S
from tests.conftest import ROOT, Tell, environment
from tests.jobs.inprocess import call
from tests.message_logs import (
    START_NS,
    Written,
    drive,
    ros_content,
    ros_schema,
    stamped,
    write_mcap,
)
from tests.transforms.readers.claims import logs_of
from transforms.readers import ReadOptions
from transforms.readers.mcap import Mcap

pytestmark = pytest.mark.slow

MINUTES = 60
PICTURES = 10
PICTURE_BYTES = 27_000
MOST_MB = 600


def hour() -> Iterator[Written]:
    """Records the same minute of a drive again and again, and pictures that do not compress."""
    dice = np.random.default_rng(0)
    image = ros_schema("sensor_msgs/CompressedImage")
    minute = drive(60.0)
    for number in range(MINUTES):
        off_ns = number * 60 * NS_PER_S
        pictures = []
        for k in range(60 * PICTURES):
            t_ns = START_NS + off_ns + k * NS_PER_S // PICTURES
            data = np.frombuffer(dice.bytes(PICTURE_BYTES), np.uint8)
            fields = {"header": stamped(t_ns), "format": "jpeg", "data": data}
            content = ros_content("sensor_msgs/CompressedImage", fields)
            pictures.append(Written("/camera", image, t_ns, content))
        # The stamps of the minute are those of the first one, so they count there alone.
        again = [Written(m.topic, m.schema, m.log_ns + off_ns, m.content) for m in minute]
        yield from sorted([*pictures, *again], key=lambda message: message.log_ns)


def resident_mb(pid: int) -> dict[int, float]:
    """The resident memory of a process and its descendants, in MB, by process."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(
                line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line
            )
        except OSError:  # it ended
            continue
        found[int(fields["Pid"])] = (int(fields["PPid"]), fields.get("VmRSS", "0 kB"))
    tree = {pid}
    while more := {own for own, (parent, _) in found.items() if parent in tree} - tree:
        tree |= more
    return {own: int(found[own][1].split()[0]) / 1024 for own in tree if own in found}


def test_an_hour_is_read_by_segments_in_bounded_memory(tmp_path: Path, tell: Tell) -> None:
    """The rows are those of the whole log read at once."""
    drives, lake = tmp_path / "drives", tmp_path / "lake"
    drives.mkdir()
    path = write_mcap(drives / "hour.mcap", hour(), chunk_bytes=1 << 20)
    command = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "ingest", "--input", str(drives), "--lake", str(lake)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peaks: dict[int, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for process, mb in resident_mb(command.pid).items():
                peaks[process] = max(mb, peaks.get(process, 0.0))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    out, _ = command.communicate(timeout=600)
    over.set()
    watcher.join()
    assert command.returncode == 0, out
    tell(
        f"{path.stat().st_size / 1e9:.2f} GB of MCAP: at most {max(peaks.values()):.0f} MB in each "
        f"of {len(peaks)} processes"
    )
    assert max(peaks.values()) < MOST_MB
    opened = Lake.open(str(lake))
    (run,) = opened.read("runs").to_pylist()
    counts = {count["of"]: count["kept"] for count in run["counts"]}
    assert counts["logs"] == 1
    assert counts["segments"] > 10
    (log,) = logs_of(Mcap(), str(drives))
    expected = log_rows(Mcap().open(log, ReadOptions())).tables
    for table in ("signals", "joints"):
        own = opened.read(table).drop_columns(["log_id"]).sort_by("t_ns")
        whole = pa.table(expected[table]).drop_columns(["log_id"]).sort_by("t_ns")
        assert own.num_rows == whole.num_rows
        assert own.equals(whole.select(own.column_names).cast(own.schema)), table
    verified = call("verify", lake)
    assert verified.code == 0, verified.out + verified.err
