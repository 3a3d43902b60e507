"""The command line: every command has help, and every usage error is one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import COMMANDS, SUMMARIES
from pipeline.lake.tables import Lake
from tests.conftest import ROOT, Fleetmill, environment
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call

IMPORTED = """
import sys
from jobs.cli import main
code = main(["--help"])
assert not [name for name in sys.modules if name.split(".")[0] in ("apache_beam", "pipeline")]
sys.exit(code)
"""


def test_the_overview_names_every_command_without_loading_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(name.split()[0] in done.stdout for name in SUMMARIES)


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_command_has_help(command: str) -> None:
    done = call(*command.split(), "--help")
    assert done.code == 0, done.err
    assert "--json" in done.out


@pytest.mark.parametrize("command", SUMMARIES)
def test_the_overview_says_what_the_help_says_first(command: str) -> None:
    assert COMMANDS.load(command).__doc__.splitlines()[0] == SUMMARIES[command]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["flie"], "No such command 'flie'"),
        (["mine"], "Missing option '--lake'"),
        (["query", "--lake", "{tmp}/none", "SELECT 1"], "no lake at"),
        (["ingest", "--lake", "{tmp}/l"], "[ingest] input"),
        (["ingest", "--lake", "{tmp}/l", "--input", "{tmp}/absent"], "absent"),
        (["ingest", "--lake", "{tmp}/l", "--input", "{tmp}", "--format", "teslcam"], "teslacam"),
        (
            ["label", "--lake", "{tmp}/l", "--privacy", "some"],
            'policy "some": unknown',
        ),
        (["label", "--lake", "{tmp}/lake", "--models", "yollox"], "yolox_nano"),
        (["corpus", "Bad Name", "--lake", "{tmp}/l"], '[corpus] name = "Bad Name"'),
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
        (["mine", "--lake", "{tmp}/lake", "--config", "/dev/zero"], "/dev/zero: a device, and"),
        (["label", "--lake", "{tmp}/lake", "--label-fps", "nan"], "fps = nan: must be a finite"),
        (["compact", "--lake", "{tmp}/lake", "--keep", "inf"], "keep_hours = inf: must be a fin"),
        (
            ["mine", "--lake", "{tmp}/lake", "--max-reject-fraction", "nan"],
            "less than or equal to 1",
        ),
        (["mine", "--lake", "{tmp}/lake", "--max-reject-fraction=-1"], "--max-reject-fraction"),
        (["synth", "{tmp}/s", "--noise", "nan"], "--noise"),
        (["synth", "{tmp}/s", "--clock-offset", "nan"], "clock_offset_s is nan"),
        (["synth", "{tmp}/s", "--drives", "-1"], "--drives"),
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


def test_a_configuration_from_a_pipe_is_refused_and_says_why(tmp_path: Path) -> None:
    Lake.create(str(tmp_path / "lake"))
    command = [sys.executable, "-m", "jobs.cli", "mine", "--lake", str(tmp_path / "lake")]
    done = subprocess.run(
        ["bash", "-c", '"$@" --config <(echo "[mine]")', "bash", *command],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "a pipe, as /dev/stdin and <(...) are, and not a regular file; save it to a file" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "gs://bucket/lake"], "pip install 'fleetmill[gcs]'"),
        (["query", "--lake", "abfs://c@account/lake", "SELECT 1"], "'fleetmill[azure]'"),
        (
            ["ingest", "--lake", "{tmp}/l", "--input", "gopher://host/a"],
            "Protocol not known: gopher",
        ),
        (["mine", "--lake", "nosuch://l"], "Protocol not known: nosuch"),
        (["plan", "nosuch://l", "--topology", "gpu-8"], "Protocol not known: nosuch"),
        (["synth", "nosuch://l", "--drives", "1"], "Protocol not known: nosuch"),
        (["compact", "--lake", "nosuch://l"], "Protocol not known: nosuch"),
        (["demo", "--root", "nosuch://l"], "Protocol not known: nosuch"),
        (["verify", "http://127.0.0.1:9/lake"], "check the address and the network"),
        (["mine", "--lake", "{tmp}/lake", "--", "--runner=NoSuchRunner"], "NoSuchRunner"),
        (["mine", "--lake", "{tmp}/lake", "--", "--direct_num_workers=x"], "invalid int value"),
        (["sweep", "--lake", "{tmp}/lake", "--fps", "inf"], "finite"),
        (["mine", "--lake", "{tmp}/file/l"], "Not a directory"),
        (["ingest", "--input", "{tmp}", "--lake", "{tmp}/file/l"], "Not a directory"),
        (["verify", "{tmp}/file"], "neither"),
        (["mine", "--lake", "{tmp}/\x1b[2Jl"], r"\x1b[2Jl"),
        (["mine", "--lake", "{tmp}/lake", "--only", "a\nb\x07"], r"a\nb"),
        (["\x1b[2J"], r"\x1b[2J"),
    ],
)
def test_a_failure_of_the_users_is_one_line_alone(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "file").touch()
    Lake.create(str(tmp_path / "lake"))
    done = call(*(argument.format(tmp=tmp_path) for argument in arguments))
    *before, line = done.err.splitlines()
    assert done.code in {1, 2}
    assert line.startswith("fleetmill: ")
    assert words in line
    assert all(each.startswith("model yolox_nano: no weights") for each in before), done.err
    assert line.isprintable()


def test_the_log_of_a_task_that_failed_does_not_precede_the_line(
    fleetmill: Fleetmill, chain: Chain, tmp_path: Path
) -> None:
    """A worker that cannot write, and one that meets a bug."""
    lake = tmp_path / "lake"
    words = ("ingest", "--input", chain.fleet, "--lake", lake)
    (lake / "tables").mkdir(parents=True)
    (lake / "tables" / "signals").write_text("in the way")
    done = fleetmill(*words)
    assert done.code == 1
    *before, line = done.err.splitlines()
    assert line.startswith("fleetmill: ")
    assert "tables/signals" in line
    assert before == ["ingest: 1 tasks"]
    assert done.out == ""
    debugged = fleetmill(*words, "--debug")
    assert debugged.code == 1
    assert "Traceback" in debugged.err
    assert debugged.err.splitlines()[-1] == line


def test_what_nobody_foresaw_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("at http://joe:hunter2@host/\x1b[2J")

    monkeypatch.setattr("jobs.verify.check", fail)
    done = call("verify", tmp_path)
    assert done.code == 1
    assert done.err.startswith("fleetmill: LookupError: at http://host/")
    assert done.err.isascii()
    assert done.err.count("\n") == 1
    debugged = call("verify", tmp_path, "--debug")
    assert "Traceback" in debugged.err
    assert "hunter2" not in debugged.err


def test_debug_shows_the_traceback(fleetmill: Fleetmill) -> None:
    assert "Traceback" in fleetmill("mine", "--lake", "/dev/null/l", "--debug").err


def test_the_exit_code_with_debug_is_that_without(tmp_path: Path) -> None:
    for flags in ([], ["--debug"]):
        failed = call("mine", "--lake", tmp_path / "l", *flags)
        misused = call("mine", "--lake", tmp_path / "l", "--only", *flags)
        assert (failed.code, misused.code) == (1, 2)
        assert failed.err.splitlines()[-1].startswith("fleetmill: no lake at")


def test_a_reader_that_closes_the_pipe_is_no_error() -> None:
    """`fleetmill list triggers | head -1` ends without a traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "list", "triggers"],
        cwd=ROOT,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
