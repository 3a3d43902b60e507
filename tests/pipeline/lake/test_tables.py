"""The lake's tables: what is committed is read back, at the versions that were pinned."""

from __future__ import annotations

import os
import pickle
import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.lake.intents import commit
from pipeline.lake.tables import Lake
from schemas.errors import LakeError, UsageError
from schemas.tables import TABLES
from tests.pipeline.lake.rows import annotation_rows, rejects, run_row


def test_open_says_that_there_is_no_lake(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        Lake.open(str(tmp_path / "none"))


def test_per_cent_sign_is_refused() -> None:
    with pytest.raises(UsageError, match="per cent"):
        Lake("/lakes/a%20b")


def test_reading_without_pins_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Lake\.open"):
        Lake(str(tmp_path)).files("logs")


@pytest.mark.parametrize("name", ["lake", "a lake|é#?x[1]"])
def test_what_is_committed_is_read_back(tmp_path: Path, name: str) -> None:
    lake = Lake.create(str(tmp_path / name))
    assert lake.read("rejects").equals(TABLES["rejects"].empty())
    adds = lake.write("rejects", rejects("b", "a", "c"), "task")
    assert Lake.open(lake.url).read("rejects").num_rows == 0
    before = pickle.loads(pickle.dumps(Lake.open(lake.url)))  # noqa: S301 - our own bytes
    commit(lake, run_row("r1"), adds)
    assert lake.read("rejects")["uri"].to_pylist() == ["a", "b", "c"]
    assert lake.read("rejects", ["detail"], pc.field("uri") == "c").num_rows == 1
    assert lake.read("rejects", ["detail"]).column_names == ["detail"]
    assert before.read("rejects").num_rows == 0, "an opened lake keeps its versions"
    row = lake.read("runs").to_pylist()[0]
    assert row["counts"] == [
        {"stage": "ingest", "of": "logs", "kept": 1, "filtered": 0, "rejected": 0}
    ]
    assert row["versions"] == [{"table": "rejects", "version": 0}]
    assert lake.versions == Lake.open(lake.url).versions


def test_every_table_takes_rows_of_its_schema(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    adds = []
    for name, table in TABLES.items():
        if name == "runs":
            continue
        columns = []
        for field in table.schema:
            value = pa.scalar(None, field.type)
            if not field.nullable:
                value = pa.scalar([] if pa.types.is_nested(field.type) else 1).cast(field.type)
            columns.append(pa.repeat(value, 2))
        adds += lake.write(name, pa.Table.from_arrays(columns, schema=table.schema), "u")
    commit(lake, run_row("r"), adds)
    for name, table in TABLES.items():
        read = lake.read(name)
        assert read.schema.equals(table.schema), name
        assert read.num_rows == (1 if name == "runs" else 2), name


def test_writing_is_deterministic_and_never_overwrites(tmp_path: Path) -> None:
    one, two = Lake(str(tmp_path / "1")), Lake(str(tmp_path / "2"))
    rows = annotation_rows("log", 1000)
    shuffled = rows.take(pa.array(random.Random(1).sample(range(1000), 1000)))  # noqa: S311 - a test's order
    chunks = pa.concat_tables([shuffled.slice(0, 7), shuffled.slice(7)])
    first, second = one.write("annotations", rows, "u"), two.write("annotations", chunks, "u")
    assert first == second
    path = f"tables/annotations/{first[0].path}"
    assert (tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes()
    other = one.write("annotations", annotation_rows("log", 999), "u")
    assert other[0].path != first[0].path
    assert one.write("annotations", rows.slice(0, 0), "u") == []
    with pytest.raises(ValueError, match="stem"):
        one.write("annotations", rows, "../u")


def test_damage_is_a_lake_error(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    commit(lake, run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    file = Path(lake.files("rejects")[0])
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(LakeError, match="rejects"):
        lake.read("rejects")
    file.unlink()
    with pytest.raises(LakeError, match="rejects"):
        lake.read("rejects")
    runs = Path(lake.files("runs")[0])
    runs.write_bytes(b"PAR1")
    with pytest.raises(LakeError, match="runs"):
        Lake.open(lake.url)


def test_files_are_plain_parquet(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    commit(lake, run_row("r1"), lake.write("annotations", annotation_rows("log", 3), "u"))
    (uri,) = lake.files("annotations")
    assert pq.read_table(uri).equals(lake.read("annotations"))
    assert lake.extents("annotations", "log_id")["size"].to_pylist() == [Path(uri).stat().st_size]
    if sys.platform != "win32":
        umask = os.umask(0)
        os.umask(umask)
        assert Path(uri).stat().st_mode & 0o777 == 0o666 & ~umask
