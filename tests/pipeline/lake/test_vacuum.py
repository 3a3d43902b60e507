"""Vacuum: files that no version in use and no queued run names are deleted, and no others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.lake.intents import Intent, commit, intent_url
from pipeline.lake.tables import Lake
from pipeline.lake.vacuum import vacuum
from tests.pipeline.lake.rows import one_row, rejects, run_row
from transforms.storage import put, put_new


def test_vacuum_takes_only_what_nobody_names(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    commit(lake, run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    stray = lake.write("rejects", rejects("stray"), "u")[0].path
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "stray.tar").write_bytes(b"x")
    (tmp_path / "tables" / "annotations" / ".tmp-1").write_bytes(b"x")
    assert vacuum(lake) == [], "young files stay"
    assert vacuum(lake, hours=-1) == [
        "packs/stray.tar",
        "tables/annotations/.tmp-1",
        f"tables/rejects/{stray}",
    ]
    assert Lake.open(lake.url).read("rejects").num_rows == 1
    commit(lake, run_row("r2"), lake.write("rejects", rejects("b"), "u"))
    assert vacuum(lake, hours=-1) == ["commits/00000000000000000001.json"]
    commit(lake, run_row("r3"), lake.write("rejects", rejects("c"), "u"))
    assert lake.read("runs").num_rows == 3


def test_files_of_a_queued_run_and_packs_in_use_stay(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    for name in ("used", "queued", "unused"):
        put(f"{lake.url}/packs/{name}.tar", b"x")
    rows = one_row("samples")
    for name in ("used", "queued"):
        uri = pa.array([f"packs/{name}.tar"])
        at = rows.column_names.index("pack_uri")
        adds = lake.write("samples", rows.set_column(at, "pack_uri", uri), name)
        if name == "used":
            commit(lake, run_row("r1"), adds)
        else:
            put_new(intent_url(lake, 2), Intent(2, run_row("r2"), 1, tuple(adds)).encode())
    assert vacuum(lake, hours=-1) == ["commits/00000000000000000001.json", "packs/unused.tar"]
    assert sorted(lake.read("samples")["pack_uri"].to_pylist()) == [
        "packs/queued.tar",
        "packs/used.tar",
    ]


def test_journals_of_dead_runs_expire(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    for name in ("000000.todo", "000000/a.done"):
        put(f"{lake.url}/work/run/{name}", b"x")
    assert vacuum(lake) == []
    assert vacuum(lake, hours=-1) == ["work/run/000000.todo", "work/run/000000/a.done"]
    assert vacuum(lake, hours=-1) == []
