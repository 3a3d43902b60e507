"""The process of a command: signals, closed and full outputs, any encoding, quiet libraries."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from jobs.process import Bare, Stopped, accept_any_text, quiet, stoppable
from tests.conftest import ROOT, environment
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def started(*arguments: object, **streams: object) -> subprocess.Popen[str]:
    """Starts a command as a terminal would: this shell may have started us with Ctrl-C ignored."""
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'jobs.cli', *sys.argv[1:]])"
    )
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        text=True,
        **streams,  # type: ignore[call-overload]
    )
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [("ingest: ", "ingest"), ("1 of ", "synth")])
def test_a_command_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, words: tuple[str, str]
) -> None:
    """Whether Beam is at work or not: at once, without a traceback, and nothing is half done."""
    sign, command = words
    fleet, lake = tmp_path / "fleet", tmp_path / "lake"
    assert call("synth", fleet, "--drives", 40, "--minutes", 0.5, "--no-video").code == 0
    arguments = {
        "ingest": ("ingest", "--input", fleet, "--lake", lake),
        "synth": ("synth", tmp_path / "more", "--drives", 500, "--minutes", 9, "--no-video"),
    }
    with started(*arguments[command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while sign not in (process.stderr.readline() or sign):
            pass
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number, err
    *before, line = err.splitlines()
    assert line == "fleetmill: stopped; run the same command again to continue"
    assert all(each.startswith(("ingest: ", "1 of", "2 of", "3 of")) for each in before), err
    assert out == ""
    if command == "ingest":
        done = call(*arguments["ingest"])
        assert done.code == 0, done.err
        assert call("verify", lake).code == 0


def test_a_second_signal_stops_at_once() -> None:
    program = (
        "import os, signal, time\n"
        "from jobs.process import Stopped, stoppable\n"
        "with stoppable():\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)\n"
        "    except Stopped: os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=9, check=False)
    assert done.returncode == -signal.SIGTERM


def test_handlers_are_put_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            with pytest.raises(Stopped) as stopped, stoppable():
                os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.value.exit_code == 143
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    worked: list[bool] = []

    def work() -> None:
        with stoppable():
            worked.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert worked == [True], "another thread of a program may run a command"


COMMANDS = (
    ("list", "triggers"),
    ("query", "--lake", "{lake}", "SELECT * FROM frames, range(20)"),
    ("query", "--lake", "{lake}", "--json", "SELECT * FROM frames, range(20)"),
    ("query", "--lake", "{lake}", "--format", "csv", "SELECT * FROM frames, range(20)"),
    ("--help",),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_output_that_is_closed_or_full_is_no_traceback(
    chain: Chain, words: tuple[str, ...]
) -> None:
    arguments = [word.format(lake=chain.lake) for word in words]
    with started(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
    with Path("/dev/full").open("w") as full:
        with started(*arguments, stdout=full, stderr=subprocess.PIPE) as process:
            said = process.communicate()[1]
        assert said.startswith("fleetmill: [Errno 28] No space left on device")
        assert said.count("\n") == 1
        assert process.returncode == 1
        with started("mine", "--lake", "/none", stdout=full, stderr=full) as process:
            assert process.wait() == 1


def test_a_command_runs_without_output_streams(chain: Chain) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        line = f"{sys.executable} -m jobs.cli verify {chain.lake} {closed}"
        done = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=environment(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"Error" not in done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=str,
)
def test_any_encoding_of_the_output_takes_any_text(
    chain: Chain, tmp_path: Path, env: dict[str, str]
) -> None:
    sql = "SELECT 'Stra' || chr(223) || chr(26481) AS a, chr(27) || '[2J' AS x"
    odd = os.fsdecode(b"/none\xff\n\x1b[2J")
    commands: dict[tuple[str, ...], int] = {
        ("query", "--lake", str(chain.lake), sql): 0,
        ("mine", "--lake", f"{tmp_path}/Straße東"): 1,
        ("mine", "--lake", odd): 2,
        ("ingest", "--input", odd, "--lake", f"{tmp_path}/l"): 2,
        ("list", "triggers", "--triggers", odd): 2,
    }
    for words, code in commands.items():
        done = subprocess.run(
            [sys.executable, "-m", "jobs.cli", *words],
            cwd=ROOT,
            env=environment(**env),
            capture_output=True,
            check=False,
        )
        # Where file names are ASCII, others are refused as a lake's.
        assert done.returncode in ({code} if code == 0 else {1, 2}), (words, done.stderr)
        for printed in (done.stdout, done.stderr):
            assert b"\x1b" not in printed
            assert b"Traceback" not in printed
        assert code == 0 or done.stderr.count(b"\n") == 1, done.stderr


def test_what_is_written_to_a_stream_is_without_secrets() -> None:
    text = io.StringIO()
    stream = Bare(text)
    print("see", "http://joe:hunter2@host/", file=stream)
    stream.writelines(["http://host/a?sig=hunter2\n"])
    assert text.getvalue() == "see http://host/\nhttp://host/a\n"
    assert not stream.isatty()


def test_a_stream_of_any_kind_is_accepted() -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    accept_any_text(narrow)
    narrow.write("ß\udcff")
    assert narrow.buffer.getvalue() == rb"\xdf\udcff"
    accept_any_text(io.StringIO())


@pytest.mark.parametrize("debug", [False, True])
def test_libraries_are_quiet_unless_debugging(debug: bool) -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    log = logging.getLogger("apache_beam.of_a_test")
    log.addHandler(handler)
    with contextlib.redirect_stderr(said), quiet(debug):
        log.error("a refused task")
        assert log.isEnabledFor(logging.ERROR) == debug
    assert bool(said.getvalue()) == debug
    assert log.isEnabledFor(logging.ERROR)
    program = (
        "import warnings; from jobs.process import quiet\nwith quiet(False): warnings.warn('a')"
    )
    env = {k: v for k, v in environment().items() if k != "PYTHONWARNINGS"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=True)
    assert done.stderr == b""
    assert warnings.filters
