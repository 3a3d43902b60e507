"""A lake of an older version opens, answers, grows and verifies."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from pipeline.queries.catalog import query
from schemas.tables import TABLES
from tests.conftest import Fleetmill

ARCHIVE = Path(__file__).with_name("old_lake.tar.gz")

ROWS = {"logs": 2, "videos": 2, "frames": 432, "scene": 6, "samples": 1, "runs": 6}
"""What the old version wrote: some tables by their number of rows."""


@pytest.fixture
def old(tmp_path: Path) -> str:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return str(tmp_path / "lake")


def test_it_opens_and_answers(old: str) -> None:
    lake = Lake.open(old)
    assert {table: lake.read(table).num_rows for table in ROWS} == ROWS
    for table in TABLES:
        count = query(lake, f"SELECT count(*) AS n FROM {table}")["n"].to_pylist()  # noqa: S608
        assert count == [lake.read(table).num_rows]


def test_it_verifies(old: str) -> None:
    assert verify(old).problems == ()


def test_it_grows(old: str, fleetmill: Fleetmill, tmp_path: Path) -> None:
    drives = ("--drives", "1", "--minutes", "0.1", "--no-video", "--seed", "9")
    assert fleetmill("synth", tmp_path / "new", *drives).code == 0
    done = fleetmill("ingest", "--input", tmp_path / "new", "--lake", old)
    assert done.code == 0, done.err
    assert Lake.open(old).read("logs").num_rows == ROWS["logs"] + 1
    assert verify(old).problems == ()
