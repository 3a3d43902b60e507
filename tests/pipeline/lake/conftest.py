"""A lake with rows in every table, for the tests that damage, forge and repair one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.lake.tables import Lake
from tests.pipeline.lake.whole import make_whole
from tests.weights import offline


@pytest.fixture(scope="session")
def whole_once(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Makes the lake; tests only read it."""
    with offline():
        lake = make_whole(tmp_path_factory.mktemp("whole"))
    lake.delta("ledger").create_checkpoint()
    return lake


@pytest.fixture
def whole(whole_once: Lake, tmp_path: Path) -> Lake:
    """A copy of the lake, for a test to change."""
    shutil.copytree(whole_once.url, tmp_path / "whole" / "lake")
    return Lake.open(str(tmp_path / "whole" / "lake"))
