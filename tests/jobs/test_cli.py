"""The command line: help that is enough, and one line for every wrong word."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli import SUMMARIES
from pipeline.lake.tables import Lake
from tests.conftest import Fleetmill


def test_the_overview_names_every_command_without_loading_one(fleetmill: Fleetmill) -> None:
    """`fleetmill --help` is quick because it imports no job."""
    done = fleetmill("--help")
    assert done.code == 0
    assert all(name in done.out for name in SUMMARIES)


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_command_has_help(fleetmill: Fleetmill, command: str) -> None:
    """Each command's help says what it does, and loads."""
    done = fleetmill(command, "--help")
    assert done.code == 0, done.err
    assert "--json" in done.out or command == "demo"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["flie"], "No such command 'flie'"),
        (["mine"], "Missing option '--lake'"),
        (["query", "--lake", "{tmp}/none", "SELECT 1"], "no lake at"),
        (["ingest", "--lake", "{tmp}/l"], "[ingest] input"),
        (["ingest", "--lake", "{tmp}/l", "--input", "{tmp}/absent"], "absent"),
        (["ingest", "--lake", "{tmp}/l", "--input", "{tmp}", "--format", "teslcam"], "teslacam"),
        (["label", "--lake", "{tmp}/l", "--privacy", "some"], "[label] privacy = 'some'"),
        (["label", "--lake", "{tmp}/lake", "--models", "yollox"], "yolox_nano"),
        (["corpus", "Bad Name", "--lake", "{tmp}/l"], "[corpus] name = 'Bad Name'"),
        (["corpus", "c", "--lake", "{tmp}/lake", "--topology", "dojo"], "dojo-exapod"),
        (["corpus", "c", "--lake", "{tmp}/lake"], "no sample to choose from"),
        (["mine", "--lake", "{tmp}/l"], "no lake at"),
        (["run", "--lake", "{tmp}/l", "--topology", "dojo-tile"], "--corpus"),
        (
            ["run", "--input", "{tmp}", "--lake", "{tmp}/l", "--corpus", "c", "--topology", "d"],
            "gpu-8",
        ),
        (["mine", "--lake", "{tmp}/l", "--config", "{tmp}/c.toml"], "unknown table [mien]"),
        (["plan", "{tmp}", "--topology", "gpu-8"], "neither a snapshot"),
        (["synth", "{tmp}/s", "--size", "10"], "WIDTHxHEIGHT"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_two(
    fleetmill: Fleetmill, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """The line names the key and the choices; there is no traceback."""
    (tmp_path / "c.toml").write_text("[mien]\n")
    Lake.create(str(tmp_path / "lake"))
    done = fleetmill(*(argument.format(tmp=tmp_path) for argument in arguments))
    lines = [line for line in done.err.splitlines() if line.startswith("fleetmill: ")]
    assert len(lines) == 1, done.err
    assert words in lines[0]
    assert "Traceback" not in done.err
    assert done.code == (1 if "no lake" in words else 2)


def test_debug_shows_the_traceback(fleetmill: Fleetmill) -> None:
    """Who asks for it gets it."""
    assert "Traceback" in fleetmill("mine", "--lake", "/dev/null/l", "--debug").err


@pytest.mark.parametrize("kind", ["formats", "triggers", "models", "topologies", "queries"])
def test_list_is_an_array_of_objects_with_names(fleetmill: Fleetmill, kind: str) -> None:
    """What there is to choose from, for people and for programs."""
    rows = fleetmill("list", kind, "--json").document
    assert rows
    assert all(row["name"] for row in rows)
    table = fleetmill("list", kind)
    assert all(row["name"] in table.out for row in rows)
