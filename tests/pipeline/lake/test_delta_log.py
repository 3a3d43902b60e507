"""Commits of ours, read by delta-rs and beside its own."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema, write_deltalake

from pipeline.lake.delta_log import added, created, properties, put_commit, removed, transaction
from pipeline.lake.tables import Lake
from schemas.records import AddFile
from schemas.tables import TABLES
from tests.pipeline.lake.rows import rejects

AT_MS = 1_700_000_000_000


def append(lake: Lake, version: int, *files: AddFile) -> bool:
    """Adds files to `rejects` as a version."""
    first = [] if version else created("rejects", "a test", AT_MS)
    actions = transaction("fleetmill", version + 1, AT_MS)
    adds = [added(file, AT_MS) for file in files]
    return put_commit(lake.table_url("rejects"), version, [*first, *actions, *adds])


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_the_one_that_delta_rs_makes(tmp_path: Path, table: str) -> None:
    """Protocol, schema, partitions and properties."""
    ours, theirs = f"{tmp_path}/ours", f"{tmp_path}/theirs"
    assert put_commit(ours, 0, created(table, "a test", AT_MS))
    DeltaTable.create(
        theirs,
        schema=TABLES[table].schema,
        configuration=properties(table),
        raise_if_key_not_exists=False,
    )
    first, second = DeltaTable(ours), DeltaTable(theirs)
    assert first.schema() == second.schema() == Schema.from_arrow(TABLES[table].schema)
    assert first.metadata().configuration == second.metadata().configuration
    assert first.metadata().partition_columns == second.metadata().partition_columns == []
    assert vars_of(first.protocol()) == vars_of(second.protocol())


def vars_of(protocol: object) -> tuple[object, ...]:
    """The versions and features of a protocol."""
    names = ("min_reader_version", "min_writer_version", "writer_features", "reader_features")
    return tuple(getattr(protocol, name) for name in names)


def test_delta_rs_reads_what_was_added_and_removed(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    (a,), (b,) = (lake.write("rejects", rejects(*uris), "u") for uris in ("ab", "c"))
    assert append(lake, 0, a)
    assert append(lake, 1, b)
    delta = lake.delta("rejects")
    assert (delta.version(), delta.transaction_version("fleetmill")) == (1, 2)
    actions = pa.table(delta.get_add_actions(flatten=True)).sort_by("num_records")
    assert actions["path"].to_pylist() == [b.path, a.path]
    assert actions["size_bytes"].to_pylist() == [b.size, a.size]
    assert actions["num_records"].to_pylist() == [1, 2]
    assert actions["min.uri"].to_pylist() == ["c", "a"]
    assert actions["max.uri"].to_pylist() == ["c", "b"]
    assert sorted(delta.to_pyarrow_table()["uri"].to_pylist()) == ["a", "b", "c"]
    gone = [*transaction("fleetmill", 3, AT_MS), removed(a.path, AT_MS)]
    assert put_commit(lake.table_url("rejects"), 2, gone)
    assert lake.delta("rejects").to_pyarrow_table()["uri"].to_pylist() == ["c"]
    assert len(lake.delta("rejects", 1).file_uris()) == 2, "the version before stays readable"


def test_delta_rs_goes_on_where_we_stopped(tmp_path: Path) -> None:
    """Its own commits and checkpoints, and ours after them."""
    lake = Lake(str(tmp_path))
    (a,), (b,) = (lake.write("rejects", rejects(uri), "u") for uri in "ab")
    assert append(lake, 0, a)
    write_deltalake(lake.table_url("rejects"), rejects("theirs"), mode="append")
    lake.delta("rejects").create_checkpoint()
    assert not append(lake, 1, b), "the version is taken"
    assert append(lake, 2, b)
    found = lake.delta("rejects").to_pyarrow_table()["uri"].to_pylist()
    assert sorted(found) == ["a", "b", "theirs"]


def test_equal_commits_are_equal_bytes(tmp_path: Path) -> None:
    """So a second attempt knows the first."""
    lake = Lake(str(tmp_path))
    (a,) = lake.write("rejects", rejects("a"), "u")
    assert append(lake, 0, a)
    path = tmp_path / "tables" / "rejects" / "_delta_log" / f"{0:020d}.json"
    before = path.read_bytes()
    assert append(lake, 0, a)
    assert not append(lake, 0)
    assert path.read_bytes() == before
    kinds = [next(iter(json.loads(line))) for line in before.splitlines()]
    assert kinds == ["protocol", "metaData", "commitInfo", "txn", "add"]
