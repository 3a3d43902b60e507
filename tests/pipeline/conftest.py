"""A lake of the oldest format that has to open."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.weights import offline

ARCHIVE = Path(__file__).with_name("lake") / "old_lake.tar.gz"


@pytest.fixture
def old_lake(tmp_path: Path) -> str:
    """A lake of format 1."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return str(tmp_path / "lake")


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Each test of this folder has the weights that privacy needs, and no network."""
    with offline():
        yield
