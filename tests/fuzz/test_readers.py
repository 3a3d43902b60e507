"""Damaged logs of every format: each is read, or is a reject, within its limits."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipeline.stages.looking import Models, sweep_call
from pipeline.stages.recording_rows import read_log
from schemas.errors import DataError
from schemas.records import LogRef, VideoFile
from tests.conftest import Tell
from tests.fuzz.logs import WRITERS
from tests.fuzz.mutations import SEED, cases, mutated
from transforms.isolation import Call, Limits, isolated
from transforms.readers import FORMATS, ReadOptions
from transforms.readers.discover import discover

LIMITS = Limits(seconds=60, memory_bytes=2_000_000_000)
OPTIONS = ReadOptions(native=True, memory_bytes=LIMITS.memory_bytes)
BAD = {"internal", "crashed", "timeout", "killed"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_log_is_read_or_rejected(name: str, tmp_path: Path, tell: Tell) -> None:
    whole = tmp_path / "whole"
    WRITERS[name](whole)
    assert outcomes(whole) == Counter(kept=len(discover([str(whole)]).logs))
    dice = random.Random(f"{SEED} {name}")  # noqa: S311 - to be repeated
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    found: Counter[str] = Counter()
    for number in range(cases(12)):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        for path in dice.sample(files, dice.choice((1, 1, 2))):
            (folder / path).write_bytes(mutated((whole / path).read_bytes(), dice))
        seen = outcomes(folder)
        if BAD & seen.keys():  # kept, to be looked at
            pytest.fail(f"seed {SEED}, case {number}: {dict(seen)}: {folder}")
        found += seen
        shutil.rmtree(folder)
    tell(f"{name}: " + ", ".join(f"{number} {kind}" for kind, number in found.most_common()))


def outcomes(folder: Path) -> Counter[str]:
    """Reads all logs of a folder, and looks at their pictures; counts how each ended."""
    found = discover([str(folder)])
    ended = Counter(reject.reason for reject in found.rejects)
    for log in found.logs:
        ended += _read(log)
    return ended


def _read(log: LogRef) -> Counter[str]:
    ended: Counter[str] = Counter()
    try:
        rows = isolated(Call(read_log, (log, OPTIONS)), LIMITS, log.uri)
    except DataError as error:
        return Counter([error.reason])
    ended += Counter(reject.reason for reject in rows.rejects)
    for row in rows.tables["videos"].to_pylist() if "videos" in rows.tables else ():
        video = VideoFile(**{name: row[name] for name in VideoFile.__dataclass_fields__})
        call = sweep_call(video, rows.tables["frames"], 25.0, Models((), shared=False))
        try:
            isolated(call, LIMITS, video.uri)
        except DataError as error:
            ended[error.reason] += 1
    return ended + Counter(["kept"])
