"""An environment that fails under a command: nothing is decided by it, and the next run goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.lake.tables import Lake
from tests.conftest import ROOT, environment, limited
from tests.jobs.forked import start
from tests.jobs.inprocess import call
from tests.jobs.test_races import contents

LOGS = 40

JOBS: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest",),
    "sweep": ("sweep", "--fps", "1"),
    "mine": ("mine",),
    "label": ("label", "--label-fps", "1"),
    "corpus": ("corpus", "c", "--topology", "dojo-tray"),
}

VISIBLE = {"ingest": "tables/logs/*.parquet", "sweep": "tables/scene/*.parquet", "label": "packs/*"}
"""Files of which a job has written one when it is done with its first task."""


def words(job: str, fleet: Path, lake: Path) -> tuple[str, ...]:
    """The command line of a job."""
    inputs = ("--input", str(fleet)) if job == "ingest" else ()
    return (*JOBS[job], *inputs, "--lake", str(lake))


@dataclass(frozen=True, slots=True)
class Stages:
    """A fleet, and for each job a lake on which it has everything to do, and one where it ran."""

    fleet: Path
    before: dict[str, Path]
    after: dict[str, Path]


def make_stages(folder: Path, drives: int) -> Stages:
    """Makes a fleet, and runs one job after the other on its lake."""
    fleet, lake = folder / "fleet", folder / "0"
    size = ("--minutes", "0.1", "--size", "32x32", "--cameras", "front", "--seed", "7")
    assert call("synth", fleet, "--drives", drives, *size).code == 0
    (folder / "nothing").mkdir()
    assert call("ingest", "--input", folder / "nothing", "--lake", lake).code == 0
    stages = Stages(fleet, {}, {})
    for number, job in enumerate(JOBS, 1):
        stages.before[job] = lake
        lake = folder / str(number)
        shutil.copytree(stages.before[job], lake)
        done = call(*words(job, fleet, lake))
        assert done.code == 0, done.err
        stages.after[job] = lake
    return stages


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Many short logs."""
    return make_stages(tmp_path_factory.mktemp("many"), LOGS)


@pytest.mark.slow
@pytest.mark.parametrize("back", ["afterwards", "meanwhile"])
@pytest.mark.parametrize("job", list(VISIBLE))
def test_a_folder_that_is_away_is_no_verdict(
    many: Stages, tmp_path: Path, job: str, back: str
) -> None:
    """The inputs are renamed once the job is done with a task, and come back; it runs again."""
    fleet, lake, away = many.fleet, tmp_path / "lake", many.fleet.with_name("away")
    shutil.copytree(many.before[job], lake)
    before = set(lake.glob(VISIBLE[job]))
    running = start(tmp_path / "out.txt", *words(job, fleet, lake))
    while set(lake.glob(VISIBLE[job])) == before:
        assert running.process.is_alive(), running.output.read_text()
    fleet.rename(away)
    try:
        if back == "meanwhile":
            seen = running.output.read_text()
            while running.process.is_alive() and running.output.read_text() == seen:
                time.sleep(0.001)
            away.rename(fleet)
        code = running.wait()
    finally:
        if away.exists():
            away.rename(fleet)
    output = running.output.read_text()
    assert "Traceback" not in output
    if back == "afterwards":
        assert code == 3, output
        assert "could not be read, and the next run tries them again" in output
    assert code in {0, 3}
    assert not Lake.open(str(lake)).read("rejects").num_rows
    again = call(*words(job, fleet, lake))
    assert again.code == 0, again.err
    expected = contents(many.after[job])
    for table, rows in contents(lake).items():
        assert rows == expected[table], table
    assert call("verify", lake).code == 0


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Two short logs."""
    return make_stages(tmp_path_factory.mktemp("few"), 2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"needs the permission to mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk: Path, free: int) -> Callable[[], None]:
    """Leaves some bytes of a disk free; returns what frees the others again."""
    left = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(left.f_bavail * left.f_bsize - free))
    return ballast.unlink


def protect(disk: Path) -> Callable[[], None]:
    """Makes a disk read-only; returns what makes it writable again."""

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)

    remount("ro")
    return lambda: remount("rw")


def message(done: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a command failed."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("fleetmill: ")]
    return line


def process(*arguments: str, files: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command that may have only so many files open."""
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    if files:
        command = limited("RLIMIT_NOFILE", files, command)
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("job", list(JOBS))
def test_a_disk_that_takes_no_more_is_one_line(few: Stages, disk: Path, job: str) -> None:
    """Read-only, full, and full after some more files: nothing is half done, and a run goes on."""
    lake = disk / "lake"
    shutil.copytree(few.before[job], lake)
    arguments = words(job, few.fleet, lake)
    expected = contents(lake)
    for limit in (protect, lambda disk: fill(disk, 0), lambda disk: fill(disk, 24_576)):
        free = limit(disk)
        failed = process(*arguments)
        free()
        text = message(failed)
        assert "Read-only file system" in text or "No space left on device" in text
        assert contents(lake) == expected
        assert call("verify", lake).code == 0
    done = call(*arguments)
    assert done.code == 0, done.err
    assert call("verify", lake).code == 0
    assert contents(lake) == contents(few.after[job])


@pytest.mark.slow
@pytest.mark.parametrize("job", list(JOBS))
def test_a_command_that_gets_too_few_files_does_not_begin(
    few: Stages, tmp_path: Path, job: str
) -> None:
    """With as many as it asks for it ends well."""
    lake = tmp_path / "lake"
    shutil.copytree(few.before[job], lake)
    arguments = words(job, few.fleet, lake)
    expected = contents(lake)
    assert "may open 255 files, and 256 are needed" in message(process(*arguments, files=255))
    assert contents(lake) == expected
    done = process(*arguments, files=256)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments", [("list", "formats"), ("query", "--lake", "L", "SELECT 1"), ("verify", "L")]
)
def test_so_does_any_other_command(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = process(*(str(tmp_path) if word == "L" else word for word in arguments), files=100)
    assert "may open 100 files" in message(done)
