"""A lake of the oldest format that has to open."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

ARCHIVE = Path(__file__).with_name("lake") / "old_lake.tar.gz"


@pytest.fixture
def old_lake(tmp_path: Path) -> str:
    """A lake of format 1."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return str(tmp_path / "lake")
