from __future__ import annotations

from pathlib import Path

import pytest

from jobs.state import STATE, State
from tests.jobs.inprocess import call


def test_a_command_that_has_not_ended_failed() -> None:
    """A process that ends early must not report success."""
    assert State().exit_code == 1


@pytest.mark.parametrize("debug", [False, True])
def test_main_sets_what_it_takes_off_the_command_line(debug: bool) -> None:
    done = call("list", "formats", *["--debug"] * debug, "--", "--runner=FlinkRunner")
    assert done.code == 0, done.err
    assert (STATE.command, STATE.debug) == ("list", debug)
    assert STATE.beam == ("--runner=FlinkRunner",)


def test_the_options_after_the_dashes_reach_beam(tmp_path: Path) -> None:
    """A runner that does not exist is refused by Beam, by its name."""
    assert call("synth", tmp_path / "f", "--drives", 1, "--minutes", 0.1, "--no-video").code == 0
    arguments = ("ingest", "--input", tmp_path / "f", "--lake", tmp_path / "l")
    done = call(*arguments, "--", "--runner=NoSuchRunner")
    assert done.code == 2
    assert "NoSuchRunner" in done.err
