"""Verifying a lake: an untouched one passes with its corpora, and damage is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.lake.intents import RunRow, commit
from pipeline.lake.tables import Lake
from pipeline.lake.verify import verify
from schemas.errors import LakeError
from schemas.records import Count
from schemas.tables import TABLES
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
            for sample, (uri, offset, length, digest) in zip(samples, rows, strict=True)
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
    adds = [*lake.write("samples", table, "u"), *lake.write("events", events, "u")]
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
    assert verify(lake.url).problems == (
        "samples: 60 are of events that are not in the table events",
    )


def test_a_negative_balance_is_found(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    commit(lake, RunRow("r", "mine", "d", "{}", 1, (Count("mine", "logs", -1),)), [])
    (problem,) = verify(lake.url).problems
    assert "balance of mine is negative" in problem
