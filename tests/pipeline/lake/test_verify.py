"""Verifying a lake: an untouched one passes with its corpora, and damage is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from schemas.errors import LakeError
from schemas.records import Count
from schemas.tables import TABLES
from tests.pipeline.lake.rows import one_row
from tests.pipeline.snapshots.written import publish_all, selection


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="neither a snapshot nor a corpus nor a lake"):
        verify(str(tmp_path))


def filled(url: str) -> Lake:
    """Makes a lake with packs, samples, events and a corpus."""
    chosen = selection(url)
    rows = [piece for pieces in chosen.ranges.values() for piece in pieces]
    samples = chosen.rows.select(["event_id", "drive_id", "privacy"]).to_pylist()
    table = pa.Table.from_pylist(
        [
            {
                **sample,
                "log_id": "l",
                "payload": "clip",
                "pack_uri": uri,
                "offset": offset,
                "length": length,
                "sha256": digest,
                "spec_digest": "s",
                "duration_ns": 1,
                "cameras": ["front"],
            }
            for sample, (uri, offset, length, digest, _) in zip(samples, rows, strict=True)
        ],
        schema=TABLES["samples"].schema,
    )
    events = pa.Table.from_pylist(
        [
            {
                "event_id": sample["event_id"],
                "log_id": "l",
                "drive_id": "d",
                "trigger": "honk",
                "trigger_version": 1,
                "params_digest": "p",
                "start_ns": 0,
                "anchor_ns": 0,
                "end_ns": 1,
                "score": 1.0,
                "evidence": "{}",
            }
            for sample in samples
        ],
        schema=TABLES["events"].schema,
    )
    lake = Lake.create(url)
    logs = one_row("logs").drop_columns(["log_id"]).append_column("log_id", pa.array(["l"]))
    tables = {"logs": logs, "samples": table, "events": events}
    adds = [add for name, rows in tables.items() for add in lake.write(name, rows, "u")]
    commit(lake, RunRow("r", "label", "d", "{}", 1, (Count("label", "events", 60),)), adds)
    publish_all(url)
    return lake


def test_a_lake_is_checked_with_its_packs_and_corpora(tmp_path: Path) -> None:
    lake = filled(str(tmp_path))
    report = verify(lake.url)
    assert report.problems == ()
    assert report.checked["samples"] == 120
    assert report.checked["tables"] == len(TABLES)
    assert verify(f"{lake.url}/corpora/brakes").ok
    damages = [
        (Path(lake.files("samples")[0]), "tables/samples"),
        (Path(lake.files("events")[0]), "tables/events"),
        (tmp_path / "packs" / "2.tar", "packs/2.tar"),
        (next((tmp_path / "corpora" / "brakes").glob("*/train/*.tar")), "corpora/brakes"),
        (tmp_path / "corpora" / "brakes" / "latest.json", "latest.json"),
    ]
    for path, says in damages:
        whole = path.read_bytes()
        for content in (whole[:-1500], None):
            if content is None:
                path.unlink()
                if path.name == "latest.json":
                    path.write_bytes(b'{"snapshot":"0"}')
            else:
                path.write_bytes(content)
            problems = verify(lake.url).problems
            assert any(says in problem for problem in problems), (path, problems)
        path.write_bytes(whole)
    assert verify(lake.url).ok


def test_a_lake_whose_samples_lost_their_events_is_found(tmp_path: Path) -> None:
    lake = filled(str(tmp_path))
    removes = [("events", uri) for uri in lake.files("events")]
    commit(lake, RunRow("r2", "erase", "d", "{}", 1), [], removes)
    (problem,) = verify(lake.url).problems
    assert problem.startswith("samples: 60 event_ids are not in events; the first is ")


@pytest.mark.parametrize("table", ["logs", "samples", "events"])
def test_rows_that_are_there_twice_are_found(tmp_path: Path, table: str) -> None:
    lake = filled(str(tmp_path))
    adds = lake.write(table, lake.read(table), "again")
    commit(lake, RunRow("r2", "ingest", "d", "{}", 1, (Count("ingest", "logs", 1),)), adds)
    assert [p for p in verify(lake.url).problems if p.startswith(f"{table}: ")]


def test_rows_of_a_log_that_is_not_there_are_found(tmp_path: Path) -> None:
    lake = filled(str(tmp_path))
    adds = lake.write("joints", one_row("joints"), "u")
    commit(lake, RunRow("r2", "ingest", "d", "{}", 1, (Count("ingest", "logs", 1),)), adds)
    (problem,) = verify(lake.url).problems
    assert problem.startswith("joints: 1 log_ids are not in logs; the first is ")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def link_out(path: Path) -> None:
    outside = next(p for p in path.parents if p.name == "a").with_name("outside")
    outside.write_bytes(b"secret")
    path.symlink_to(outside)


@pytest.mark.parametrize("put", [fifo, device, folder, link_out])
@pytest.mark.parametrize(
    "pattern", ["tables/samples/*.parquet", "packs/2.tar", "corpora/*/*/*/*.tar"]
)
def test_what_is_not_a_file_of_the_lake_is_one_line_and_never_waited_for(
    tmp_path: Path, pattern: str, put: Callable[[Path], None]
) -> None:
    lake = filled(str(tmp_path / "a" / "lake"))
    victim = sorted(Path(lake.url).glob(pattern))[0]
    victim.unlink()
    put(victim)
    problems = [line for line in verify(lake.url).problems if victim.name in line]
    assert problems
    assert all("\n" not in line and len(line) < 1000 for line in problems)


def test_a_range_that_is_none_is_one_line(tmp_path: Path) -> None:
    lake = filled(str(tmp_path))
    row = lake.read("samples").slice(0, 1).to_pylist()[0] | {"offset": -5, "payload": "frames"}
    rows = pa.Table.from_pylist([row], schema=TABLES["samples"].schema)
    run = RunRow("r2", "label", "d", "{}", 1, (Count("label", "events", 1),))
    commit(lake, run, lake.write("samples", rows, "u"))
    (problem,) = verify(lake.url).problems
    assert "at byte -5" in problem


def test_what_a_killed_writer_left_is_no_fault(tmp_path: Path) -> None:
    """A temporary file of a shard, and a snapshot whose manifest was never written."""
    lake = filled(str(tmp_path))
    (snapshot,) = (path for path in (tmp_path / "corpora" / "brakes").iterdir() if path.is_dir())
    (snapshot / "train" / ".tmp-0123").write_bytes(b"half a shard")
    unpublished = snapshot.with_name("0123456789abcdef0123")
    (unpublished / "train").mkdir(parents=True)
    (unpublished / "train" / "000000.tar").write_bytes(b"a shard")
    assert verify(lake.url).problems == ()
    assert verify(str(snapshot.parent)).problems == ()


def test_a_negative_balance_is_found(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    commit(lake, RunRow("r", "mine", "d", "{}", 1, (Count("mine", "logs", -1),)), [])
    (problem,) = verify(lake.url).problems
    assert "balance of mine is negative" in problem
