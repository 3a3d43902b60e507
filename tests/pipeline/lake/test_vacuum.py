"""Vacuum: files that no version in use and no queued run names are deleted, and no others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa

from pipeline.lake.adds import Adds
from pipeline.lake.intents import Intent, commit, intent_url
from pipeline.lake.tables import Lake
from pipeline.lake.vacuum import checkpoint, vacuum
from tests.pipeline.lake.rows import one_row, rejects, run_row
from transforms.storage import put, put_new


def test_vacuum_takes_only_what_nobody_names(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    commit(lake, run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    stray = lake.write("rejects", rejects("stray"), "u")[0].path
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "stray.tar").write_bytes(b"x")
    put(f"{lake.url}/tables/annotations/.tmp-1", b"x")
    assert vacuum(lake, hours=24) == [], "young files stay"
    assert vacuum(lake, hours=-1) == [
        "packs/stray.tar",
        "tables/annotations/.tmp-1",
        f"tables/rejects/{stray}",
    ]
    assert Lake.open(lake.url).read("rejects").num_rows == 1
    commit(lake, run_row("r2"), lake.write("rejects", rejects("b"), "u"))
    assert vacuum(lake, hours=-1, dry_run=True) == ["commits/00000000000000000001.json"]
    assert vacuum(lake, hours=-1) == ["commits/00000000000000000001.json"]
    commit(lake, run_row("r3"), lake.write("rejects", rejects("c"), "u"))
    assert lake.read("runs").num_rows == 3


def test_intents_go_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Whatever the clocks said: a process sees by its own number whether there are later ones."""
    lake = Lake.create(str(tmp_path))
    for number in range(1, 5):
        commit(lake, run_row(f"r{number}"), lake.write("rejects", rejects(str(number)), "u"))
    for number in (1, 3):
        path = tmp_path / "commits" / f"{number:020d}.json"
        at = path.stat().st_mtime - 100 * 3600
        os.utime(path, (at, at))
    assert vacuum(lake, hours=24) == ["commits/00000000000000000001.json"]


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
            put_new(intent_url(lake, 2), Intent(2, run_row("r2"), 1, Adds.of(adds)).encode())
    assert vacuum(lake, hours=-1) == ["commits/00000000000000000001.json", "packs/unused.tar"]
    assert sorted(lake.read("samples")["pack_uri"].to_pylist()) == [
        "packs/queued.tar",
        "packs/used.tar",
    ]


def test_journals_of_dead_runs_expire(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    for name in ("000000.todo", "000000/a.done"):
        put(f"{lake.url}/work/run/{name}", b"x")
    assert vacuum(lake, hours=24) == []
    assert vacuum(lake, hours=-1) == [], "it may still be at work"
    age(tmp_path / "work", 25)
    assert vacuum(lake, hours=-1) == ["work/run/000000.todo", "work/run/000000/a.done"]
    assert vacuum(lake, hours=-1) == []


def age(path: Path, hours: float) -> None:
    """Makes the files of a folder older."""
    for file in path.rglob("*"):
        if file.is_file():
            at = file.stat().st_mtime - hours * 3600
            os.utime(file, (at, at))


def test_a_removed_file_stays_until_its_removal_is_old(tmp_path: Path) -> None:
    """A reader that opened the lake before may read it, however old the file is."""
    lake = Lake.create(str(tmp_path))
    commit(lake, run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    (old,) = lake.files("rejects")
    age(tmp_path, 100)
    reader = Lake.open(lake.url)
    commit(lake, run_row("r2"), lake.write("rejects", rejects("b"), "u"), [("rejects", old)])
    assert vacuum(lake, hours=24) == ["commits/00000000000000000001.json"]
    assert reader.read("rejects")["uri"].to_pylist() == ["a"]
    age(tmp_path, 100)
    assert vacuum(lake, hours=24) == [old.removeprefix(f"{lake.url}/")]


def test_files_of_a_run_at_work_stay(tmp_path: Path) -> None:
    """It may have begun long ago, and commit what it wrote then."""
    lake = Lake.create(str(tmp_path))
    put(f"{lake.url}/work/run/000000.todo", b"x")
    lake.write("rejects", rejects("early"), "task")
    for name in ("packs/p.tar", "corpora/c/half/train/000000.tar"):
        put(f"{lake.url}/{name}", b"x")
    age(tmp_path, 100)
    lake.write("rejects", rejects("dead"), "dead")
    put(f"{lake.url}/work/run/000000/a.done", b"x")
    assert vacuum(lake, hours=24) == []
    age(tmp_path / "work", 100)
    assert len(vacuum(lake, hours=24)) == 5, "the file that was written since is young"


def test_files_of_a_run_at_work_stay_even_if_nothing_is_kept(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    commit(lake, run_row("r1"), lake.write("rejects", rejects("a"), "u"))
    (old,) = lake.files("rejects")
    commit(lake, run_row("r2"), [], [("rejects", old)])
    put(f"{lake.url}/work/run/000000.todo", b"x")
    lake.write("rejects", rejects("b"), "task")
    wanted = ["commits/00000000000000000001.json", old.removeprefix(f"{lake.url}/")]
    assert vacuum(lake, hours=0) == wanted


def test_a_snapshot_without_a_manifest_expires_as_a_whole(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    for name in ("half/train/000000.tar", "half/val/000000.tar", "done/manifest.json", "done/a"):
        put(f"{lake.url}/corpora/c/{name}", b"x")
    put(f"{lake.url}/corpora/c/latest.json", b"{}")
    age(tmp_path, 100)
    put(f"{lake.url}/corpora/c/half/val/000000.tar", b"x")
    assert vacuum(lake, hours=24) == [], "somebody writes to it"
    age(tmp_path, 100)
    assert vacuum(lake, hours=24) == [
        "corpora/c/half/train/000000.tar",
        "corpora/c/half/val/000000.tar",
    ]


def test_checkpoints_leave_the_pinned_versions_readable(tmp_path: Path) -> None:
    lake = Lake.create(str(tmp_path))
    for number in range(3):
        commit(lake, run_row(f"r{number}"), lake.write("rejects", rejects(str(number)), "u"))
    checkpoint(lake)
    log = tmp_path / "tables" / "rejects" / "_delta_log"
    assert json.loads((log / "_last_checkpoint").read_text())["version"] == 2
    assert Lake.open(lake.url).read("rejects").num_rows == 3
