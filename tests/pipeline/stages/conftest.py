"""Small lakes for the tests of the stages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auto_label.models import ModelSpec
from pipeline.config import IngestConfig, LabelConfig, MineConfig
from pipeline.graph.balance import JobReport
from pipeline.graph.execute import Work, execute
from pipeline.lake.tables import Lake
from pipeline.stages.ingest import plan_ingest
from pipeline.stages.label import plan_label
from pipeline.stages.mine import plan_mine
from pipeline.stages.models import ready_models
from synth.fleet import FleetSpec, write_fleet
from tests.weights import offline, with_detector
from transforms.isolation import close_idle

LABEL = LabelConfig(models=(), fps=1.0)

POLICY = """
name = "blur"
description = "Faces, and nothing of the places below"
hide = ["face"]
cover = "blur"
grow = 0.1

[[detectors]]
model = "yunet"
score = 0.3
"""
"""A policy file, to which exclusions can be added."""


@dataclass(frozen=True, slots=True)
class Small:
    """Two drives with one camera, and their lake."""

    fleet: Path
    url: str

    def lake(self) -> Lake:
        """Opens the current version of the lake."""
        return Lake.open(self.url)

    def run(self, plan: Callable[[Lake, Any], Work], config: Any) -> JobReport:
        """Runs one job."""
        work = plan(self.lake(), config)
        return execute(self.lake(), work.stage.name, config.model_dump(mode="json"), work)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Reads a table."""
        rows: list[dict[str, Any]] = self.lake().read(table).to_pylist()
        return rows


def area_of(small: Small, inside: str, outside: str) -> str:
    """Makes an exclusion whose area one log is in, and another one is not."""
    names = ("lat_deg", "lon_deg")
    places = [[row[n] for n in names] for row in small.rows("signals") if row["log_id"] == inside]
    others = [[row[n] for n in names] for row in small.rows("signals") if row["log_id"] == outside]
    known = np.array(places, dtype=np.float64)
    (south, west), (north, east) = np.nanmin(known, axis=0) - 1e-6, np.nanmax(known, axis=0) + 1e-6
    away = np.array(others, dtype=np.float64)
    assert not ((away > [south, west]) & (away < [north, east])).all(axis=1).any()
    corners = [[south, west], [south, east], [north, east], [north, west]]
    polygon = [[float(degrees) for degrees in corner] for corner in corners]
    return f'\n[[exclude]]\nname = "area"\npolygon = {polygon}\n'


@pytest.fixture(scope="session")
def mined_once(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A lake that is ingested and mined with every trigger that ships."""
    folder = tmp_path_factory.mktemp("stages")
    spec = FleetSpec(
        drives=2, minutes=0.2, seed=5, width=64, height=48, cameras=("front",), events_per_minute=6
    )
    write_fleet(spec, str(folder / "fleet"), False)
    lake = Lake.create(str(folder / "lake"))
    small = Small(folder / "fleet", lake.url)
    small.run(plan_ingest, IngestConfig(input=(str(folder / "fleet"),)))
    small.run(plan_mine, MineConfig())
    return small


@pytest.fixture(scope="session")
def labelled_once(mined_once: Small, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """That lake, labelled without a detector."""
    folder = tmp_path_factory.mktemp("labelled")
    shutil.copytree(mined_once.url, folder / "lake")
    small = Small(mined_once.fleet, str(folder / "lake"))
    with offline():
        small.run(plan_label, LABEL)
    return small


@pytest.fixture
def mined(mined_once: Small, tmp_path: Path) -> Small:
    """A copy of the mined lake and its drives, for a test to change."""
    return copied(mined_once, tmp_path)


@pytest.fixture
def labelled(labelled_once: Small, tmp_path: Path) -> Small:
    """A copy of the labelled lake, for a test to change."""
    return copied(labelled_once, tmp_path)


def copied(small: Small, folder: Path) -> Small:
    """Copies the lake; its tables still refer to the same drives."""
    shutil.copytree(small.url, folder / "lake")
    return Small(small.fleet, str(folder / "lake"))


@pytest.fixture
def models(data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelSpec, ...]:
    """The detector that ships, with the weights of the recordings."""
    monkeypatch.setenv("FLEETMILL_MODELS", str(with_detector(data)))
    close_idle()  # they have the environment in which they were started
    ready, notes = ready_models(["yolox_nano"], [])
    assert not notes
    return ready
