"""Damage of any kind in any place of a lake is a line of the report: no hang, no traceback."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.lake.tables import Lake
from pipeline.lake.verify import VerifyReport, verify
from tests.conftest import ROOT, environment

LIMIT_S = 60
"""Far more than any command here takes: one that waits for a FIFO waits for ever."""


def nothing(_path: Path) -> None:
    """Leaves the file missing."""


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("making a device needs a permission")


def folder(path: Path) -> None:
    path.mkdir()


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        short = Path(f"/tmp/fleetmill-{os.getpid()}")  # noqa: S108 - a socket's path is short
        server.bind(str(short))
        shutil.move(short, path)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_out(path: Path) -> None:
    path.symlink_to(path.with_name(f"{path.name}.whole"))


def link_to_nothing(path: Path) -> None:
    path.symlink_to("/nowhere")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def _whole(path: Path) -> bytes:
    return path.with_name(f"{path.name}.whole").read_bytes()


def cut_a_byte(path: Path) -> None:
    path.write_bytes(_whole(path)[:-1])


def cut_in_half(path: Path) -> None:
    whole = _whole(path)
    path.write_bytes(whole[: len(whole) // 2])


def cut_the_start(path: Path) -> None:
    path.write_bytes(_whole(path)[1:])


def longer(path: Path) -> None:
    path.write_bytes(_whole(path) + b"\n{}")


def twice(path: Path) -> None:
    path.write_bytes(_whole(path) * 2)


def _flipped(path: Path, at: float) -> None:
    whole = bytearray(_whole(path))
    whole[int((len(whole) - 1) * at)] ^= 1
    path.write_bytes(whole)


def flip_the_first_byte(path: Path) -> None:
    _flipped(path, 0)


def flip_a_byte(path: Path) -> None:
    _flipped(path, 0.5)


def flip_the_last_byte(path: Path) -> None:
    _flipped(path, 1)


def zeros(path: Path) -> None:
    path.write_bytes(b"\0" * len(_whole(path)))


def text(path: Path) -> None:
    path.write_bytes(b"not what it was\n" * 9)


def deep(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


KINDS: tuple[Callable[[Path], None], ...] = (
    nothing, fifo, device, folder, unix_socket, link_to_device, link_out, link_to_nothing,
    link_to_itself, empty, cut_a_byte, cut_in_half, cut_the_start, longer, twice,
    flip_the_first_byte, flip_a_byte, flip_the_last_byte, zeros, text, deep,
)  # fmt: skip

PLACES = {
    "a table's file": "tables/frames/*.parquet",
    "a file of runs": "tables/runs/*1-*.parquet",
    "the last file of runs": "tables/runs/*7-*.parquet",
    "a commit": "tables/logs/_delta_log/*1.json",
    "a checkpoint": "tables/ledger/_delta_log/*.checkpoint.parquet",
    "the last checkpoint": "tables/ledger/_delta_log/_last_checkpoint",
    "an intent": "commits/*1.json",
    "a pack": "packs/*.tar",
    "a manifest": "corpora/*/*/manifest.json",
    "a shard": "corpora/*/*/*/*.tar",
    "samples.parquet": "corpora/*/*/samples.parquet",
    "plan.json": "corpora/*/*/plan.json",
    "latest.json": "corpora/*/latest.json",
}

HARMLESS: dict[str, set[Callable[[Path], None]]] = {
    # Readers ignore a snapshot without manifest, and what only makes opening a table faster. A
    # checkpoint is compared with the commits, so bytes of it that mean nothing may change.
    "a manifest": {nothing},
    "latest.json": {nothing},
    "an intent": {nothing},
    "a checkpoint": {nothing, twice, flip_the_first_byte, flip_a_byte},
    "the last checkpoint": set(KINDS),
}


def problems_in_time(url: str) -> tuple[str, ...]:
    """Verifies a lake, which must end."""
    results: list[VerifyReport] = []
    thread = threading.Thread(target=lambda: results.append(verify(url)), daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "it hangs"
    assert results, "it raised"
    return results[0].problems


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_damage_is_some_lines_of_the_report(whole: Lake, place: str) -> None:
    missed = []
    path = sorted(Path(whole.url).glob(PLACES[place]))[0]
    outside = Path(whole.url).with_name("outside") / f"{path.name}.whole"
    outside.parent.mkdir()
    for damage in KINDS:
        path.rename(outside)
        beside = path.with_name(outside.name)
        beside.symlink_to(outside)  # where kinds find the whole file; gone before verify looks
        damage(path)
        beside.unlink()
        if path.is_symlink() and damage is link_out:
            path.unlink()
            path.symlink_to(outside)
        problems = problems_in_time(whole.url)
        _remove(path)
        outside.rename(path)
        allowed = damage in HARMLESS.get(place, ())
        if not (problems or allowed) or len(problems) > 4:
            missed.append((damage.__name__, problems))
        if any("\n" in line or "Traceback" in line or len(line) > 1000 for line in problems):
            missed.append((damage.__name__, problems))
    assert not missed
    assert verify(whole.url).problems == ()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


AS_ANOTHER_USER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: from linux/capability.h
    if os.geteuid() == 0 and libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
        raise OSError(ctypes.get_errno(), "cannot drop a capability")
os.execv(sys.executable, [sys.executable, "-m", "jobs.cli", *sys.argv[1:]])
"""


def command(*arguments: str) -> tuple[int, str]:
    """Runs a command for which permissions count, and which must end."""
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER_USER, *arguments], cwd=ROOT, env=environment(),
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_what_cannot_be_read_is_a_line(whole: Lake) -> None:
    hidden = [sorted(Path(whole.url).glob(pattern))[0] for pattern in PLACES.values()]
    hidden = [
        path
        for path in hidden
        if not {"runs", "train", "val"} & {*path.parts}
        and path.name not in {"samples.parquet", "plan.json"}
        and "checkpoint" not in path.name
    ]
    hidden.append(Path(whole.url, "packs"))
    for path in hidden:
        path.chmod(0)
    code, said = command("verify", whole.url)
    for path in hidden:
        path.chmod(0o755)
    assert code == 1
    assert len(said.splitlines()) < 3 * len(hidden)
    for path in hidden:
        assert path.name in said or path.parent.name in said


@pytest.mark.slow
@pytest.mark.parametrize("damage", [fifo, link_to_device, text])
@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("tables/frames/*.parquet", ("query", "--lake", "{}", "SELECT count(uri) FROM frames")),
        ("tables/runs/*7-*.parquet", ("query", "--lake", "{}", "SELECT count(job) FROM runs")),
        ("tables/ledger/_delta_log/_last_checkpoint", ("mine", "--lake", "{}")),
        ("tables/logs/_delta_log/*1.json", ("mine", "--lake", "{}")),
        ("commits/*1.json", ("mine", "--lake", "{}")),
        ("corpora/*/latest.json", ("query", "--lake", "{}", "SELECT 1")),
    ],
)
def test_commands_say_in_one_line_what_they_cannot_read(
    whole: Lake, damage: Callable[[Path], None], place: str, arguments: tuple[str, ...]
) -> None:
    path = sorted(Path(whole.url).glob(place))[0]
    if place.startswith("commits"):  # the next run, which every job finishes first
        path = path.with_name(f"{whole.number + 1:020d}.json")
    path.unlink(missing_ok=True)
    damage(path)
    code, said = command(*(argument.format(whole.url) for argument in arguments))
    lines = [line for line in said.splitlines() if line.startswith("fleetmill: ")]
    if code:
        assert code == 1
        assert len(lines) == 1
        assert len(said.splitlines()) < 4
    else:  # what was damaged is not needed
        assert "_last_checkpoint" in place
