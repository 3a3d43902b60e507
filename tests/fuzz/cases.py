"""The cases of a fuzzer: how many of each kind, their seeds, their limits, and how each ended.

FLEETMILL_FUZZ_CASES is the number over all kinds, FLEETMILL_FUZZ_SEED the seed, and
FLEETMILL_FUZZ_ONLY one case, such as `lerobot:17`. A case depends on its number and the seed
alone, so it can be tried again without the others. `make fuzz` sets all three.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings

from tests.conftest import ROOT
from tests.memory import living_bytes
from transforms.isolation import close_idle

SEED = int(os.environ.get("FLEETMILL_FUZZ_SEED") or 20261125)
TOTAL = int(os.environ.get("FLEETMILL_FUZZ_CASES") or 300)
ONLY = os.environ.get("FLEETMILL_FUZZ_ONLY", "")
SEEDED = bool(os.environ.get("FLEETMILL_FUZZ_SEED"))

WEIGHTS: Mapping[str, int] = {
    "teslacam": 12,
    "comma2k19": 10,
    "lerobot": 8,
    "mcap": 6,
    "rosbag": 6,
    "video": 8,
    "model-file": 8,
    "trigger": 4,
    "model": 4,
    "topology": 3,
    "can-map": 3,
    "topic-map": 3,
    "--config": 5,
    "dbc": 5,
    "queries": 3,
    "triggers": 6,
    "texts": 3,
    "toml": 3,
    "tables": 3,
    "conditions": 2,
}
"""Hundredths of the cases by kind: logs of a format, files of configuration, SQL, properties."""

FORMATS = ("teslacam", "comma2k19", "lerobot", "mcap", "rosbag", "video")

KEPT = ROOT / "fuzz-failures"
SPARE_BYTES = 500_000_000
SECONDS = 60.0
_PART = 200
"""Cases of a test: so that the tests of all kinds end at the same time on several processes."""
_FRESH_BYTES = 300_000_000
_KEPT_BYTES = 64 << 20
_FAULTS = 5


def share(kind: str) -> int:
    """Returns the cases of a kind; all together they are TOTAL."""
    before, total = 0, sum(WEIGHTS.values())
    for name, weight in WEIGHTS.items():
        if name == kind:
            break
        before += weight
    return TOTAL * (before + WEIGHTS[kind]) // total - TOTAL * before // total


@dataclass(frozen=True, slots=True)
class Part:
    """Some cases of a kind: those from `first` on, before `end`."""

    kind: str
    first: int
    end: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.first}"

    def dice(self, case: int) -> random.Random:
        """Returns the source of chance of a case."""
        return random.Random(f"{SEED} {self.kind} {case}")  # noqa: S311 - to be repeated


def parts(*kinds: str) -> list[Part]:
    """Returns the cases of kinds, part by part."""
    if ONLY:
        kind, _, case = ONLY.rpartition(":")
        return [Part(kind, int(case), int(case) + 1)] if kind in kinds else []
    return [
        Part(kind, first, min(first + _PART, share(kind)))
        for kind in kinds
        for first in range(0, share(kind), _PART)
    ]


def examples(kind: str, tests: int = 1) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Returns a decorator: hypothesis tries the share of a kind, the same ones unless seeded.

    Args:
        kind: what is tried.
        tests: how many tests share it.
    """
    skipped = [HealthCheck.too_slow, HealthCheck.data_too_large]
    how = settings(
        max_examples=max(share(kind) // tests, 1),
        derandomize=not SEEDED,
        database=None,
        deadline=None,
        suppress_health_check=skipped,
        print_blob=True,
    )
    return lambda test: how(seed(SEED)(test) if SEEDED else test)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a case ended: as a `result`, a `reject` or a `line` of an error, and why."""

    how: str
    why: str


class Wrong(Exception):  # noqa: N818 - a finding
    """How a case must not end."""


@dataclass(slots=True)
class Tally:
    """What the cases of a kind came to."""

    kind: str
    ended: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: str = ""
    most_bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, case: int, ended: Ended, seconds: float, most_bytes: int) -> None:
        """Counts a case."""
        self.ended[ended.how] += 1
        self.reasons[ended.why] += 1
        self.most_bytes = max(self.most_bytes, most_bytes)
        if seconds >= self.slowest_s:
            self.slowest_s, self.slowest = seconds, f"{self.kind}:{case}"

    def tell(self, record: Callable[[str, object], None]) -> None:
        """Counts the cases in the table at the end, and fails for those that ended wrongly."""
        record("fuzz", asdict(self) | {"ended": dict(self.ended), "reasons": dict(self.reasons)})
        if self.faults:
            pytest.fail("\n".join(self.faults[:_FAULTS]), pytrace=False)


Attempt = Callable[[random.Random, Path], Ended]
"""Makes an input in a folder and tries it."""


def run(part: Part, attempt: Attempt, folder: Path, allowed_bytes: int) -> Tally:
    """Runs cases one by one, each in an empty folder.

    Args:
        part: the cases.
        attempt: what to do; raises `Wrong`, or anything, where a case ends wrongly.
        folder: where to do it.
        allowed_bytes: the memory that a process may take, besides SPARE_BYTES.
    """
    tally = Tally(part.kind)
    if living_bytes() > _FRESH_BYTES:  # the most memory of a process is that of all its calls
        close_idle()
    for case in range(part.first, part.end):
        place = folder / str(case)
        place.mkdir()
        began, before = time.monotonic(), _ended_bytes()
        try:
            ended = attempt(part.dice(case), place)
        except Wrong as error:
            ended, said = Ended("wrong", "wrong"), str(error)
        except Exception as error:  # noqa: BLE001 - what must not happen
            ended, said = Ended("wrong", "wrong"), f"raises {error!r}"
        else:
            said = ""
        seconds, after = time.monotonic() - began, _ended_bytes()
        most_bytes = max(living_bytes(), after if after > before else 0)
        if seconds > SECONDS:
            said = said or f"took {seconds:.1f} s"
        if most_bytes > allowed_bytes + SPARE_BYTES:
            said = said or f"took {most_bytes:,} bytes"
            close_idle()
        if said:
            ended = Ended("wrong", "wrong")
            tally.faults.append(_keep(part, case, place, said))
        tally.add(case, ended, seconds, most_bytes)
        shutil.rmtree(place)
    return tally


def again(kind: str, case: int) -> str:
    """Says how to try a case once more."""
    return f"make fuzz SEED={SEED} CASE={kind}:{case}"


def _keep(part: Part, case: int, place: Path, said: str) -> str:
    """Keeps the input of a case that ended wrongly; says what it is and how to try it again."""
    kept = KEPT / f"{part.kind}-{SEED}-{case}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(place, kept, ignore=_large)
    return f"{part.kind}:{case}: {said}\n    its input: {kept}\n    again: {again(part.kind, case)}"


def _large(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).stat().st_size > _KEPT_BYTES]


def _ended_bytes() -> int:
    """Returns the most memory that a child which has ended ever had."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def table(told: list[dict[str, Any]]) -> list[str]:
    """Returns the lines of the table of all kinds."""
    hows = ("result", "reject", "line", "wrong")
    lines = [
        f"{'kind':<11}{'cases':>7}" + "".join(f"{how:>8}" for how in hows)
        + f"{'slowest':>10}{'memory':>9}  why"
    ]  # fmt: skip
    totals: Counter[str] = Counter()
    for kind in WEIGHTS:
        mine = [each for each in told if each["kind"] == kind]
        ended, reasons = Counter[str](), Counter[str]()
        for each in mine:
            ended.update(each["ended"])
            reasons.update(each["reasons"])
        if mine:
            lines.append(_row(kind, ended, mine, reasons))
            totals += ended
    if told:
        last = max(told, key=lambda each: float(each["slowest_s"]))
        lines.append(_row("all", totals, told, Counter()))
        lines.append(f"seed {SEED}; slowest case: {last['slowest']}, {last['slowest_s']:.1f} s")
    return lines


def _row(kind: str, ended: Counter[str], mine: list[dict[str, Any]], why: Counter[str]) -> str:
    numbers = [ended.total(), *(ended[how] for how in ("result", "reject", "line", "wrong"))]
    slowest = max(float(each["slowest_s"]) for each in mine)
    memory = max(int(each["most_bytes"]) for each in mine) / 1e6
    said = ", ".join(f"{reason} {number:,}" for reason, number in why.most_common())
    cells = f"{numbers[0]:>7,}" + "".join(f"{number:>8,}" for number in numbers[1:])
    return f"{kind:<11}{cells}{slowest:>8.1f} s{memory:>6.0f} MB  {said}".rstrip()
