"""Logs of every format, damaged and crafted: each is read, or is a reject, within its limits."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.stages.looking import Models, sweep_call
from pipeline.stages.recording_rows import read_log
from schemas.errors import DataError
from schemas.records import LogRef, VideoFile
from synth.fleet import FleetSpec, write_fleet
from tests.fuzz.cases import FORMATS, SEEDED, Ended, Part, Wrong, parts, run
from tests.fuzz.crafted import CRAFTED
from tests.fuzz.logs import WRITERS, write_video
from tests.fuzz.structures import damaged
from transforms.isolation import Call, Limits, isolated
from transforms.readers import FORMATS as READERS
from transforms.readers import ReadOptions
from transforms.readers.discover import discover

LIMITS = Limits(seconds=60, memory_bytes=2_000_000_000)
OPTIONS = ReadOptions(native=True, memory_bytes=LIMITS.memory_bytes)
BAD = {"internal", "crashed", "timeout", "killed", "unreadable"}
_MOST_BYTES = 1 << 20
"""A larger file is not damaged but left as it is."""

Whole = Callable[[str], list[Path]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Returns the logs of a format: by hand three times, by `synth` and crafted once each."""
    made: dict[str, list[Path]] = {}

    def write(name: str) -> list[Path]:
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            made[name] = list(_written(name, root))
        return made[name]

    return write


def _written(name: str, root: Path) -> Iterator[Path]:
    WRITERS[name](root / "hand")
    # Of the bare videos, each container is a log.
    hand = sorted((root / "hand").iterdir()) if name == "video" else [root / "hand"]
    crafted = [
        fault for fault, one in CRAFTED.items() if one.format == name and (SEEDED or not one.slow)
    ]
    yield from hand * max(1, 3 * len(crafted) // len(hand))
    if name in {"teslacam", "video"}:
        size = {"width": 64, "height": 48, "cameras": ("front",)}
        spec = FleetSpec(drives=1, minutes=0.05, seed=3, format=name, **size)  # type: ignore[arg-type]
        write_fleet(spec, str(root / "synth"), truth=False)
        yield from [root / "synth"] * len(crafted)
    write_video(root / "clip.mp4", telemetry=True)
    for fault in crafted:
        CRAFTED[fault].write(root / fault, (root / "clip.mp4").read_bytes())
        yield root / fault


def test_every_format_has_cases() -> None:
    assert set(FORMATS) == set(READERS)


@pytest.mark.parametrize("part", parts(*FORMATS), ids=str)
def test_a_damaged_log_is_read_or_rejected(
    part: Part, whole: Whole, tmp_path: Path, record_property: Any
) -> None:
    logs = whole(part.kind)

    def attempt(dice: random.Random, folder: Path) -> Ended:
        source = dice.choice(logs)
        if source.is_dir():
            shutil.copytree(source, folder / "log", copy_function=os.link)
        else:
            (folder / "log").mkdir()
            (folder / "log" / source.name).hardlink_to(source)
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        small = [path for path in paths if path.stat().st_size <= _MOST_BYTES]
        for path in dice.sample(small, min(len(small), dice.choice((1, 1, 2)))):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(damaged(path.name, content, dice))
        return _ended(*outcomes(folder / "log"))

    run(part, attempt, tmp_path, LIMITS.memory_bytes).tell(record_property)


def _ended(logs: int, rejects: Counter[str], swept: Counter[str]) -> Ended:
    """Words how all of a folder ended."""
    reasons = rejects + swept
    if BAD & reasons.keys():
        raise Wrong(f"is {dict(reasons)}")
    if not reasons:
        return Ended("result", "kept")
    (reason, _), *_ = reasons.most_common(1)
    return Ended("result", f"kept but {reason}") if logs else Ended("reject", reason)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * CRAFTED[name].slow) for name in CRAFTED],
)
def test_a_crafted_log_ends_as_said(name: str, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", telemetry=True)
    crafted = CRAFTED[name]
    crafted.write(tmp_path / "log", (tmp_path / "clip.mp4").read_bytes())
    logs, rejects, swept = outcomes(tmp_path / "log")
    assert (rejects, swept) == (Counter(crafted.rejects), Counter(crafted.swept))
    assert logs == crafted.logs


def outcomes(folder: Path) -> tuple[int, Counter[str], Counter[str]]:
    """Reads all logs of a folder, and looks at their pictures.

    Returns:
        How many logs come through, the reasons of what is rejected of them, and the reasons of
        the videos whose pictures cannot be looked at.
    """
    found = discover([str(folder)])
    _check_said([reject.detail for reject in found.rejects])
    rejects = Counter(reject.reason for reject in found.rejects)
    logs, swept = 0, Counter[str]()
    for log in found.logs:
        kept = _read(log, rejects, swept)
        logs += kept
    return logs, rejects, swept


def _read(log: LogRef, rejects: Counter[str], swept: Counter[str]) -> bool:
    """Reads a log and looks at its pictures; tells whether it comes through."""
    try:
        rows = isolated(Call(read_log, (log, OPTIONS)), LIMITS, log.uri)
    except DataError as error:
        _check_said([str(error)])
        rejects[error.reason] += 1
        return False
    _check_said([reject.detail for reject in rows.rejects])
    rejects.update(reject.reason for reject in rows.rejects)
    for row in rows.tables["videos"].to_pylist() if "videos" in rows.tables else ():
        video = VideoFile(**{name: row[name] for name in VideoFile.__dataclass_fields__})
        call = sweep_call(video, rows.tables["frames"], 25.0, Models((), shared=False))
        try:
            isolated(call, LIMITS, video.uri)
        except DataError as error:
            _check_said([str(error)])
            swept[error.reason] += 1
    return True


def _check_said(lines: Sequence[str]) -> None:
    """Checks that a reject can be stored: it is UTF-8, and of bounded length."""
    for line in lines:
        line.encode()
        assert len(line) < 10_000, line[:200]
