"""Rows as Parquet: equal rows give equal bytes, and the readers return what was encoded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from schemas.ids import digest
from schemas.tables import TABLES
from tests.conftest import ROOT
from tests.pipeline.lake.rows import rejects
from transforms.parquet import (
    ROW_GROUP_ROWS,
    decode,
    encode,
    read,
    read_files,
    statistics,
)
from transforms.storage import put
from transforms.timing import recording


def test_statistics_match_the_file_and_cut_strings_safely() -> None:
    high = "z" * 31 + "\U0010ffff" + "tail"
    table = rejects("a" * 40, high, "é")
    found = json.loads(statistics(table))
    assert found["numRecords"] == 3
    assert found["minValues"]["uri"] == "a" * 32
    assert found["maxValues"]["uri"] >= max(table["uri"].to_pylist())
    assert len(found["maxValues"]["uri"]) <= 32
    nothing = json.loads(statistics(rejects("\U0010ffff" * 40)))
    assert "uri" not in nothing["maxValues"]
    floats = TABLES["annotations"].conform(
        pa.table(
            {
                "log_id": ["l", "l"],
                "t_ns": [5, -5],
                "reason": ["a", "b"],
                "lat_deg": [1.0, float("nan")],
                "lon_deg": [2.5, None],
            }
        )
    )
    found = json.loads(statistics(floats))
    assert found["minValues"] == {"log_id": "l", "t_ns": -5, "reason": "a", "lon_deg": 2.5}
    assert found["nullCount"]["lon_deg"] == 1
    assert found["nullCount"]["camera"] == 2


def numbers(n: int) -> pa.Table:
    """Makes rows of every kind of column that the lake has."""
    return pa.table(
        {
            "log_id": pa.array([f"log-{k % 7}" for k in range(n)]),
            "t_ns": pa.array(range(n), pa.int64()),
            "value": pa.array([None if k % 3 else k / 2 for k in range(n)], pa.float64()),
            "position": pa.array([[k, k + 1] for k in range(n)], pa.list_(pa.float32())),
        }
    )


def test_equal_rows_give_equal_bytes_however_they_were_gathered() -> None:
    rows = numbers(1000)
    cut = pa.concat_tables([rows.slice(0, 7), rows.slice(7, 500), rows.slice(507)])
    assert encode(cut) == encode(rows)
    assert encode(rows.slice(1)) != encode(rows)
    assert encode(rows.slice(0, 1)) == encode(numbers(1))


def test_row_groups_have_one_size() -> None:
    content = encode(pa.table({"a": range(2 * ROW_GROUP_ROWS + 5)}))
    metadata = pq.ParquetFile(pa.BufferReader(content)).metadata
    sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
    assert sizes == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 5]


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a folder, local or remote; a URL must not need quoting."""
    local = str(tmp_path / "a folder#1?x[2]")
    return local if request.param == "local" else f"memory://{digest(str(tmp_path))}"


def test_a_file_is_read_back(root: str) -> None:
    rows = numbers(50)
    url = f"{root}/rows.parquet"
    put(url, encode(rows))
    assert read(url).equals(rows)
    assert read(url, ["value", "log_id"]).equals(rows.select(["value", "log_id"]))
    later = pc.field("t_ns") >= 40
    assert read(url, filter=later).equals(rows.slice(40))
    assert read(url, ["log_id"], later).equals(rows.slice(40).select(["log_id"]))
    with pytest.raises(FileNotFoundError):
        read(f"{root}/none.parquet")


def test_files_of_a_table_are_read_in_their_order(root: str) -> None:
    rows = numbers(90)
    urls = [f"{root}/{name}.parquet" for name in ("b", "a", "c")]
    for k, url in enumerate(urls):
        put(url, encode(rows.slice(30 * k, 30)))
    assert read_files(urls).equals(rows)
    assert read_files(urls, rows.schema, ["t_ns"]).equals(rows.select(["t_ns"]))
    chosen = pc.field("log_id") == "log-3"
    assert read_files(urls, rows.schema, filter=chosen).equals(
        rows.filter(pc.equal(rows["log_id"], "log-3"))
    )


def test_a_column_that_a_file_lacks_is_null(root: str) -> None:
    rows = numbers(20)
    old, new = f"{root}/old.parquet", f"{root}/new.parquet"
    put(old, encode(rows.slice(0, 10).drop_columns(["value"])))
    put(new, encode(rows.slice(10)))
    found = read_files([old, new], rows.schema)
    assert found.schema.equals(rows.schema)
    assert found["value"].to_pylist() == [None] * 10 + rows["value"].to_pylist()[10:]
    assert found.drop_columns(["value"]).equals(rows.drop_columns(["value"]))


@pytest.mark.parametrize("kept", [slice(0), slice(-9), slice(50)])
def test_damage_is_an_error(root: str, kept: slice) -> None:
    content = encode(numbers(20))[kept]
    with pytest.raises((pa.ArrowException, OSError)):
        decode(content)
    put(f"{root}/rows.parquet", content)
    with pytest.raises((pa.ArrowInvalid, OSError)):
        read_files([f"{root}/rows.parquet"], numbers(1).schema)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux does")
def test_a_single_file_is_read_in_the_calling_thread_without_pandas(tmp_path: Path) -> None:
    url = str(tmp_path / "rows.parquet")
    put(url, encode(numbers(3 * ROW_GROUP_ROWS)))
    program = f"""
import os, sys
from transforms.parquet import (
    ROW_GROUP_ROWS,
    decode,
    encode,
    read,
    read_files,
    statistics,
)
before = len(os.listdir("/proc/self/task"))
rows = read({url!r})
print(rows.num_rows, len(os.listdir("/proc/self/task")) - before, "pandas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(3 * ROW_GROUP_ROWS), "0", "False"]


def test_reading_and_encoding_are_steps(tmp_path: Path) -> None:
    url = str(tmp_path / "rows.parquet")
    with recording() as times:
        content = encode(numbers(10))
        decode(content)
        put(url, content)
        read_files([url])
    assert set(times.milliseconds()) == {"other", "encode_rows", "read", "put"}
