"""What a writer reports about its log, against what is on disk."""

from __future__ import annotations

import pyarrow.parquet as pq
from fsspec.implementations.memory import MemoryFileSystem

from synth.fleet import FleetSpec
from synth.recorded import simulate
from synth.teslacam import write_teslacam
from synth.written import Written
from tests.synth.conftest import Fleet


def test_the_report_counts_the_files_and_names_the_folder() -> None:
    fs, spec = MemoryFileSystem(), FleetSpec(1, 0.05, 3, width=64, height=48)
    written = write_teslacam(spec, simulate(spec, 0), fs, "/written")
    videos = fs.glob(f"/written/{written.log_name}/*.mp4")
    assert written.files == len(videos) == len(spec.cameras)
    assert len(written.boxes) == len(spec.cameras)
    assert written.extra == ()
    fs.rm("/written", recursive=True)


def test_boxes_become_rows_of_the_truth(seeing: Fleet) -> None:
    spec, folder, _ = seeing
    table = pq.read_table(folder / "truth" / "boxes.parquet")
    fs = MemoryFileSystem()
    rows = 0
    for index in range(spec.drives):
        written = write_teslacam(spec, simulate(spec, index), fs, "/again")
        rows += sum(len(part["t_ns"]) for part in written.boxes)
    fs.rm("/again", recursive=True)
    assert rows == table.num_rows > 100


def test_a_log_without_pictures_has_no_boxes() -> None:
    assert Written("a", 1) == Written("a", 1, extra=(), boxes=())
