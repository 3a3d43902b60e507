"""A tiny lake, made by one command after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Finished
from tests.jobs.inprocess import call
from tests.weights import offline


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test of this folder is offline, and no test of another folder."""
    monkeypatch.setenv("COLUMNS", "120")
    with offline():
        yield


@dataclass(frozen=True, slots=True)
class Chain:
    """A lake, and how each command that made it ended, by subcommand."""

    fleet: Path
    lake: Path
    ended: dict[str, Finished]


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Two very short drives through every job. Tests only read it."""
    fleet, lake = tmp_path_factory.mktemp("fleet"), tmp_path_factory.mktemp("lake")
    size = ("--size", "64x48", "--cameras", "front", "--minutes", "0.2", "--truth")
    commands: dict[str, tuple[object, ...]] = {
        "synth": (fleet, "--drives", 2, *size),
        "ingest": ("--input", fleet, "--lake", lake),
        "sweep": ("--lake", lake, "--fps", 0.5),
        "mine": ("--lake", lake),
        "label": ("--lake", lake, "--label-fps", 1),
        "corpus": ("first", "--lake", lake, "--topology", "dojo-tray"),
    }
    with offline():
        ended = {name: call(name, *rest, "--json") for name, rest in commands.items()}
    for done in ended.values():
        assert done.code == 0, done.err
    return Chain(fleet, lake, ended)
