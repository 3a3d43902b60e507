"""Every writer: what it writes is discovered under the name that it reports."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from synth import WRITERS
from synth.fleet import FleetSpec
from synth.recorded import simulate
from synth.written import Written
from tests.synth.conftest import recordings


@pytest.mark.parametrize("format_", WRITERS)
@pytest.mark.parametrize("video", [True, False])
def test_a_written_log_is_found_under_its_name(tmp_path: Path, format_: str, video: bool) -> None:
    spec = FleetSpec(1, 0.05, 4, format=format_, width=64, height=48, video=video)
    drive = simulate(spec, 0)
    written = WRITERS.load(format_)(spec, drive, fsspec.filesystem("file"), str(tmp_path))
    assert isinstance(written, Written)
    assert written.files == len(list(tmp_path.rglob("*.mp4")))
    ((name, recording),) = recordings(tmp_path, format_).items()
    assert name == written.log_name
    assert recording.duration_ns == pytest.approx(3e9, rel=0.02)
