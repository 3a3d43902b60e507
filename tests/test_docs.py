"""The README and the pages: their commands run, and the files that they name exist."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment
from tests.notes import notes_in, write_notes, write_program
from tests.pages import commands, fences

FLOORS = ("schemas", "transforms", "synth", "auto_label", "pipeline", "jobs")


def shell(folder: Path, line: str, source: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of a page in a shell whose `fleetmill` is that of `source`."""
    command = folder / ".bin" / "fleetmill"
    if not command.exists():
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jobs.cli "$@"\n')
        command.chmod(command.stat().st_mode | stat.S_IEXEC)
    env = environment(PATH=f"{command.parent}:{os.environ['PATH']}", **extra)
    env["PYTHONPATH"] = str(source)
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_extending_is_followed_to_the_letter(tmp_path: Path, data: Path) -> None:
    page = ROOT / "docs" / "extending.md"
    source, here = tmp_path / "source", tmp_path / "here"
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, source / floor, ignore=shutil.ignore_patterns("__pycache__"))
    here.mkdir()
    (here / "weights").mkdir()
    shutil.copy(data / "models" / "yolox_nano" / "yolox_nano.onnx", here / "weights")
    for fence in fences(page):
        if fence.path is not None:
            target = (source if fence.language == "python" else here) / fence.path
            target.parent.mkdir(exist_ok=True)
            target.write_text(fence.body)
    (row,) = [f.body for f in fences(page) if f.language == "python" and f.path is None]
    registry = source / "transforms" / "readers" / "__init__.py"
    registry.write_text(registry.read_text().replace('        "video":', f'{row}        "video":'))
    bench = here / "bench"
    bench.mkdir()
    # Ten seconds of rolling without a pedal, for the page's trigger.
    lines = [f"{t / 50:.2f},10.0,0.0,false" for t in range(500)]
    header = "t_s,speed_mps,accelerator_frac,brake_on"
    (bench / "a.drive.csv").write_text("\n".join([header, *lines]) + "\n")
    printed = []
    for line in commands(page):
        done = shell(here, line, source, FLEETMILL_MODELS=str(tmp_path / "models"))
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "no map of --can-maps fits" not in done.stderr
        printed.append(done.stdout)
    assert "coasting" in printed[1]
    assert "The controller of our test bench" in printed[2]
    assert "The controller of our delivery pod" in printed[3]
    assert "balance on desk" in printed[4]
    assert re.search(r"drive_csv +coasting +1", printed[5])
    assert (tmp_path / "models" / "vehicles_only" / "yolox_nano.onnx").is_file()


@pytest.mark.slow
def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    """Without the make commands."""
    lines = [line for line in commands(ROOT / "README.md") if line.startswith("fleetmill ")]
    assert len(lines) >= 5
    for line in lines:
        done = shell(tmp_path, line, ROOT, FLEETMILL_MODELS=str(tmp_path / "models"))
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def test_files_that_the_pages_name_exist() -> None:
    """Checks paths in backticks that start with one of our folders, and pictures."""
    missing = []
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        made = {fence.path for fence in fences(page)}
        for path in re.findall(r"`((?:[a-z_]+/)+[A-Za-z0-9_.*-]*)`", page.read_text()):
            ours = path.split("/")[0] in {*FLOORS, "tests", "docs", "benchmarks"}
            if ours and path not in made and not list(ROOT.glob(path.rstrip("/"))):
                missing.append(f"{page.name}: {path}")
        for path in re.findall(r"!\[.*\]\((.+)\)", page.read_text()):
            if not (page.parent / path).is_file():
                missing.append(f"{page.name}: {path}")
    assert not missing


def test_the_table_of_functions_names_each_existing_function_once() -> None:
    """In `docs/architecture.md`, as `module:function`."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = re.findall(r"^\| `([\w.]+):([\w.]+)` \|", text, re.M)
    assert len(table) >= 20
    assert len(set(table)) == len(table)
    for module, name in table:
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), f"{module}:{name}"


@pytest.mark.slow
def test_the_pipeline_of_the_architecture_page_works(tmp_path: Path) -> None:
    """Its commands run, and its rows are those of the input."""
    page = ROOT / "docs" / "architecture.md"
    script = write_program(page, "notes_to_lake.py", tmp_path)
    for line in commands(page):
        if line.startswith("python "):
            expected = write_notes(tmp_path / "lake", tmp_path / "notes")
            line = line.replace("python", shlex.quote(sys.executable), 1)  # noqa: PLW2901
        done = shell(tmp_path, line, ROOT)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert notes_in(tmp_path / "lake") == expected
    again = shell(tmp_path, f"{shlex.quote(sys.executable)} {script} lake notes", ROOT)
    assert "nothing new" in again.stdout
    assert notes_in(tmp_path / "lake") == expected
