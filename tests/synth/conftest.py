"""Fleets and drives that several tests of synth/ read."""

from __future__ import annotations

from pathlib import Path

import pytest

from synth.fleet import FleetReport, FleetSpec, write_fleet
from synth.motion import Motion, drive
from synth.recorded import Drive, simulate
from synth.script import Script, write_script
from synth.spec import rng
from tests.recording import Recording, read
from transforms.readers import FORMATS
from transforms.readers.discover import discover

Fleet = tuple[FleetSpec, Path, FleetReport]
PICTURED = FleetSpec(drives=2, minutes=3.0, seed=4, width=320, height=240)


def recordings(folder: Path, format_: str) -> dict[str, Recording]:
    """Reads every log of a folder with the reader of one format, by log name."""
    found = discover([str(folder)])
    assert found.rejects == ()
    assert {log.format for log in found.logs} == {format_}
    reader = FORMATS.load(format_)()
    return {log.name: read(reader, log) for log in found.logs}


@pytest.fixture(scope="session")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Two TeslaCam drives of four minutes without pictures, with the truth."""
    spec = FleetSpec(drives=2, minutes=4.0, seed=5, video=False, events_per_minute=3)
    folder = tmp_path_factory.mktemp("blind")
    return spec, folder, write_fleet(spec, str(folder), truth=True)


@pytest.fixture(scope="session")
def blind_logs(blind: Fleet) -> dict[str, Recording]:
    """What the TeslaCam reader makes of the fleet without pictures."""
    return recordings(blind[1], "teslacam")


@pytest.fixture(scope="session")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Two TeslaCam drives of seconds with two cameras, the second at night, with the truth."""
    spec = FleetSpec(2, 0.06, 5, width=160, height=120, cameras=("front", "left_repeater"))
    folder = tmp_path_factory.mktemp("seeing")
    return spec, folder, write_fleet(spec, str(folder), truth=True)


@pytest.fixture(scope="session")
def seeing_logs(seeing: Fleet) -> dict[str, Recording]:
    """What the TeslaCam reader makes of the fleet with pictures."""
    return recordings(seeing[1], "teslacam")


@pytest.fixture(scope="session")
def hours() -> tuple[Script, Motion]:
    """Three hours of driving: at least twenty events of every type."""
    script = write_script(rng(11, 0, "script"), 3 * 3600, 1.5)
    return script, drive(script, rng(11, 0, "road"))


@pytest.fixture(scope="session")
def day() -> Drive:
    """A drive of three minutes by day."""
    return simulate(PICTURED, 0)
