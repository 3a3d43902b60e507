"""Damaged configuration of every kind: each file is read, or refused in one line, in time."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auto_label.models import MODELS
from pipeline.config import SECTIONS, configure, read_file
from pipeline.topologies import TOPOLOGIES
from schemas.errors import FleetError, UsageError
from tests.fuzz.cases import Ended, Part, Wrong, parts, run
from tests.fuzz.mutations import mutated
from transforms.can.dbc import Database
from transforms.can.maps import CAN_MAPS, car_map
from transforms.definitions import Definitions
from transforms.isolation import Call, Limits, isolated
from transforms.messages.maps import TOPIC_MAPS
from transforms.triggers import TRIGGERS

LIMITS = Limits(seconds=40, memory_bytes=300 << 20)
"""Parsing a DBC file in a child of its own has less time."""

KINDS: tuple[Definitions[Any], ...] = (TRIGGERS, MODELS, TOPOLOGIES, CAN_MAPS, TOPIC_MAPS)
DEFINITIONS = ("trigger", "model", "topology", "can-map", "topic-map")

_ENOUGH = 25
"""Cases among which some are read."""

CONFIG = b"""
[ingest]
input = ["drives", "s3://bucket/more"]
dbc = ["car.dbc"]
topic_maps = ["my-topic-maps"]
channels = true
input_timeout_s = 60.0

[sweep]
fps = 0.5
models = []

[mine]
triggers = ["my-triggers"]
only = ["hard_brake"]
params = { hard_brake = { on_mps2 = 4.5 }, "cut_in" = { x = -1e-3 } }

[label]
fps = 5
privacy = "blur"
crf = 25

[corpus]
name = "first"
topology = "dojo-tile"
where = '''trigger = 'hard_brake' '''
val_fraction = 0.1

[review_push]
out = "media/review"
address = "https://host/media/"
width = 640
project = "fleetmill review"
project_tasks = 100
layout = "grid"
order = "rarity"
quota = ["10", "hard_brake=20"]
most = 100
control = 0.1
lead = "ann"
shared = 0.2
reviewers = 3

[review_pull]
input = "export.json"

[compact]
keep_hours = 24
"""

DBC = b"""VERSION "1"

NS_ :

BS_:

BU_: CAR LOGGER

BO_ 100 WHEELS: 8 CAR
 SG_ FL : 7|16@0+ (0.01,-67.67) [0|250] "km/h" LOGGER
 SG_ FR : 16|16@1- (1e-2,0) [-10|250] "km/h" LOGGER
 SG_ HALF : 32|16@1- (1,0) [0|0] "" LOGGER

BO_ 2147483749 MUX: 8 CAR
 SG_ OUTER M : 0|4@1+ (1,0) [0|15] "" LOGGER
 SG_ INNER m1M : 4|4@1+ (1,0) [0|15] "" LOGGER
 SG_ LEAF m0 : 8|8@1+ (3,-7) [0|0] "deg" LOGGER
 SG_ WIDE m1 : 8|56@1+ (1,0) [0|0] "" LOGGER

CM_ SG_ 100 FL "front \\"left\\"";
BA_DEF_ BO_ "GenMsgCycleTime" INT 0 1000;
BA_DEF_DEF_ "GenMsgCycleTime" 100;
BA_ "GenMsgCycleTime" BO_ 100 20;
VAL_ 100 FL 0 "stopped" 1 "slow" ;
SIG_VALTYPE_ 100 HALF : 1;
SG_MUL_VAL_ 2147483749 INNER OUTER 1-1;
SG_MUL_VAL_ 2147483749 WIDE INNER 0-3, 7-7;
"""

NUMBERS = (
    *("-1", "0", "1e999", "-1e308", "nan", "inf", "-0.0", "9223372036854775808", "0x" + "f" * 40),
    *("9" * 5000, "1_0", "true", '"5"', "[1, 2]", "{ a = 1 }", "2026-01-01", "1e-400"),
)
TEXTS = ("", "\\u0000", "\\u202e", "\\ud800", "a" * 5000, "../..", "/dev/zero", "nan", "\\\\", "'")


def configured(path: str) -> int:
    """Configures every job from a file, as the commands do."""
    tables = read_file(path)
    for name, model in SECTIONS.items():
        configure(model, tables, {"name": "c"} if name == "corpus" else {})
    return len(tables)


def decoded(path: str) -> int:
    """Loads a database and decodes frames of all its messages, as a reader does."""
    database = Database.load([path])
    addresses = np.repeat(np.array([*database.messages, 1], dtype=np.int64), 3)
    payload = np.random.default_rng(0).integers(0, 256, (len(addresses), 64), dtype=np.uint8)
    car_map(database)
    return database.decode(addresses, payload).decoded


def loaded(kind: int, path: str) -> str:
    return str(KINDS[kind].load(path))


def numbered(content: bytes, dice: random.Random) -> bytes:
    """Puts a number or a text at its limit, so that the file still parses."""
    quoted = dice.random() < 0.3
    pattern = rb'"[^"\n]*"' if quoted else rb"(?<![\w.-])-?\d[\d_.eE+-]*"
    found = list(re.finditer(pattern, content))
    if not found:
        return mutated(content, dice)
    place = dice.choice(found)
    written = f'"{dice.choice(TEXTS)}"' if quoted else dice.choice(NUMBERS)
    return content[: place.start()] + written.encode() + content[place.end() :]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: whole ones by name, and what reads one."""

    whole: Mapping[str, bytes]
    read: Callable[[str], Call[object]]


def _definition(number: int) -> Kind:
    whole = {path.name: path.read_bytes() for path in Path(KINDS[number].folder).glob("*.toml")}
    return Kind(whole, lambda at: Call(loaded, (number, at)))


READ: Mapping[str, Kind] = {
    **{name: _definition(number) for number, name in enumerate(DEFINITIONS)},
    "--config": Kind({"c.toml": CONFIG}, lambda at: Call(configured, (at,))),
    "dbc": Kind({"car.dbc": DBC}, lambda at: Call(decoded, (at,))),
}


def test_whole_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(CONFIG)
    assert configured(str(tmp_path / "c.toml")) == len(SECTIONS)
    (tmp_path / "car.dbc").write_bytes(DBC)
    assert decoded(str(tmp_path / "car.dbc")) == 6
    assert [kind.kind.lower().replace(" ", "-") for kind in KINDS] == list(DEFINITIONS)


@pytest.mark.parametrize("part", parts(*READ), ids=str)
def test_a_damaged_file_is_read_or_refused(
    part: Part, tmp_path: Path, record_property: Any
) -> None:
    kind = READ[part.kind]

    def attempt(dice: random.Random, folder: Path) -> Ended:
        name = dice.choice(sorted(kind.whole))
        path = folder / name
        path.write_bytes(dice.choice((mutated, numbered))(kind.whole[name], dice))
        try:
            isolated(kind.read(str(path)), LIMITS, name)
        except UsageError as error:
            said = str(error)
            if not (str(path) in said or said.startswith("[")):
                raise Wrong(f"names no file: {said}") from error
            if not said.isprintable() or len(said) > 2000:
                raise Wrong(f"is no line: {said!r}") from error
            return Ended("line", "refused")
        except FleetError as error:
            raise Wrong(str(error)) from error
        return Ended("result", "read")

    tally = run(part, attempt, tmp_path, LIMITS.memory_bytes)
    tally.tell(record_property)
    if part.end - part.first >= _ENOUGH:
        assert tally.ended["result"], "every file is refused: the damage is too large"
        assert tally.ended["line"]
