"""fleetmill list: the good ones are listed, the broken ones told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.inprocess import call

KINDS = {
    "triggers": ("--triggers", "trigger", "hard_brake"),
    "models": ("--models-dir", "model", "yolox_nano"),
    "topologies": ("--topologies", "topology", "gpu-8"),
    "can-maps": ("--can-maps", "CAN map", "toyota_2017"),
    "topic-maps": ("--topic-maps", "topic map", "ros"),
}


@pytest.mark.parametrize("kind", ["formats", "queries", *KINDS])
def test_list_is_an_array_of_objects_with_names(kind: str) -> None:
    rows = call("list", kind, "--json").document
    assert rows
    assert all(row["name"] for row in rows)
    table = call("list", kind)
    assert all(row["name"] in table.out for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_file_of_the_users_is_a_note(tmp_path: Path, kind: str) -> None:
    flag, noun, ours = KINDS[kind]
    (tmp_path / "broken.toml").write_text("name = 3")
    done = call("list", kind, flag, tmp_path, "--json")
    assert done.code == 0, done.err
    assert ours in [row["name"] for row in done.document]
    assert "broken" not in [row["name"] for row in done.document]
    assert f"{noun} {tmp_path}/broken.toml: name = 3: must be text" in done.err


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_is_not_there_is_bad_usage(kind: str) -> None:
    flag, noun, _ = KINDS[kind]
    done = call("list", kind, flag, "no/such")
    assert done.code == 2
    assert f"{noun} no/such: no such folder" in done.err
