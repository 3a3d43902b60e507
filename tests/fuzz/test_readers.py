"""Logs of every format, damaged and crafted: each is read, or is a reject, within its limits."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.stages.looking import Models, sweep_call
from pipeline.stages.recording_rows import read_log
from schemas.errors import DataError
from schemas.records import LogRef, VideoFile
from synth.fleet import FleetSpec, write_fleet
from tests.fuzz.cases import FORMATS, ONLY, Ended, Part, Wrong, parts, run
from tests.fuzz.crafted import CRAFTED
from tests.fuzz.logs import VIDEOS, WRITERS, write_video
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

Writer = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, random.Random], Path]:
    """Chooses a log of a format, which is written when it is chosen first."""
    root = tmp_path_factory.mktemp("whole")

    def choose(kind: str, dice: random.Random) -> Path:
        name, write = dice.choice(_writers(kind))
        place = root / kind / name
        if not place.exists():
            write(place)
        return place

    return choose


def _writers(kind: str) -> list[tuple[str, Writer]]:
    """Returns what writes the logs of a format: by hand mostly, else crafted or by `synth`."""
    crafted = [(name, _crafted(name)) for name, one in CRAFTED.items() if one.format == kind]
    hand: list[tuple[str, Writer]] = [("hand", WRITERS[kind])]
    if kind == "video":  # each container is a log
        hand = [(name, lambda place, name=name: write_video(place / name)) for name in VIDEOS]  # type: ignore[misc]
    synth = [("synth", _by_synth(kind))] if kind in {"teslacam", "video"} else []
    return hand * max(1, 3 * len(crafted) // len(hand)) + synth * len(crafted) + crafted


def _crafted(name: str) -> Writer:
    def write(place: Path) -> None:
        clip = place.parent / "clip.mp4"
        if not clip.exists():
            write_video(clip, telemetry=True)
        CRAFTED[name].write(place, clip.read_bytes())

    return write


def _by_synth(kind: str) -> Writer:
    spec = FleetSpec(
        drives=1, minutes=0.05, seed=3, format=kind, width=64, height=48, cameras=("front",)
    )
    return lambda place: write_fleet(spec, str(place), truth=False)


def test_every_format_has_cases() -> None:
    assert set(FORMATS) == set(READERS)


@pytest.mark.parametrize("part", parts(*FORMATS), ids=str)
def test_a_damaged_log_is_read_or_rejected(
    part: Part,
    whole: Callable[[str, random.Random], Path],
    tmp_path: Path,
    record_property: Any,
) -> None:
    def attempt(dice: random.Random, folder: Path) -> Ended:
        shutil.copytree(whole(part.kind, dice), folder / "log", copy_function=os.link)
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
    [
        pytest.param(name, marks=[pytest.mark.slow] * CRAFTED[name].slow)
        for name in CRAFTED
        if not ONLY
    ],
)
def test_a_crafted_log_ends_as_said(name: str, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", telemetry=True)
    crafted = CRAFTED[name]
    crafted.write(tmp_path / "log", (tmp_path / "clip.mp4").read_bytes())
    logs, rejects, swept = outcomes(tmp_path / "log")
    assert (rejects, swept) == (Counter(crafted.rejects), Counter(crafted.swept))
    assert logs == crafted.logs


def test_a_transport_stream_may_lose_any_tail(tmp_path: Path) -> None:
    write_video(tmp_path / "a.ts")
    content = (tmp_path / "a.ts").read_bytes()
    for lost in range(100, min(4000, len(content) // 2), 100):
        path = tmp_path / str(lost) / "a.ts"
        path.parent.mkdir()
        path.write_bytes(content[:-lost])
        assert outcomes(path.parent) == (1, Counter(), Counter()), lost


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
