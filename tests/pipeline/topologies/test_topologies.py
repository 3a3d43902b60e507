"""Topologies: the shipped ones hold the facts, a stranger's file is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.topologies import list_topologies, load_topology
from schemas.errors import UsageError
from schemas.ids import digest

GOOD = """
name = "mine"
description = "My machine"
unit = "gpu"
units = 16
units_per_host = 8
memory_bytes_per_unit = 1
ingest_bytes_per_s_per_unit = 1
shard_target_bytes = 1
"""


def test_shipped_machines_are_those_of_the_format_facts() -> None:
    assert list_topologies() == ["dojo-exapod", "dojo-tile", "dojo-tray", "gpu-8"]
    units = {name: load_topology(name).units for name in list_topologies()}
    assert units == {"dojo-exapod": 120, "dojo-tile": 1, "dojo-tray": 6, "gpu-8": 8}
    tray = load_topology("dojo-tray")
    assert abs(tray.units * tray.ingest_bytes_per_s_per_unit - 640e9) < 10
    assert all(load_topology(name).name == name for name in list_topologies())


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(UsageError, match="dojo-exapod, dojo-tile, dojo-tray, gpu-8"):
        load_topology("dojo")


def test_own_topologies_are_found_by_folder_and_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_topology(str(path)).units == 16
    assert "mine" in list_topologies([str(tmp_path)])
    assert load_topology("mine", [str(tmp_path)]).unit == "gpu"
    (tmp_path / "gpu-8.toml").write_text(GOOD.replace('"mine"', '"gpu-8"'))
    assert load_topology("gpu-8", [str(tmp_path)]).units == 16, "one's own replaces"


def test_the_document_of_a_shipped_machine_stays() -> None:
    """It is part of plan.json, and so of a snapshot's id."""
    documents = [load_topology(name).document() for name in list_topologies()]
    assert digest("topologies", documents) == "785b9ea1ef46562cb0e9"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("units = 16", "units = 0", "units = 0: must be at least 1"),
        ("units = 16", "units = 12", "multiple of"),
        ("units = 16", "units = 800000000", "at most 1000000"),
        ("units = 16", 'units = "16"', "whole number"),
        ("units = 16", "units = true", "whole number"),
        ("units = 16", "units = 16\nother = 1", "other: unknown key; choose one of: "),
        ("units = 16\n", "", "units: missing"),
        ('name = "mine"', "name = 3", "name = 3: must be text"),
        ('name = "mine"', "name = ", "not TOML"),
        ("units = 16", "units = " + "[" * 20_000, "not TOML"),
        ("units = 16", "#" * 70_000, "longer than"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError, match=says) as caught:
        load_topology(str(path))
    assert str(caught.value).startswith(f"topology {path}: ")


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: no such file"):
        load_topology(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(UsageError, match="not UTF-8: byte 2 is 0xff"):
        load_topology(str(tmp_path / "latin.toml"))
