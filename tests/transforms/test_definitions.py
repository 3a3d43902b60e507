"""One loader for every kind: the same mistakes get the same words, and folders one order."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pydantic import BaseModel, Field, ValidationError

from auto_label.models import MODELS
from pipeline.topologies import TOPOLOGIES
from schemas.errors import UsageError
from transforms.can.maps import CAN_MAPS
from transforms.definitions import STRICT, Definitions, mistake, shown
from transforms.toml import MAX_FILE_BYTES
from transforms.triggers import TRIGGERS

TRIGGER = """
name = "mine"
version = 1
description = "one of the user's"
table = "signals"
when = "speed_mps > $least"
score = "speed_mps"
for_s = 1
merge_s = 2.5
pre_s = 3.0
post_s = 4.0
[params]
least = 30
"""
MODEL = """
name = "mine"
description = "one of the user's"
family = "yolox"
url = "https://example.org/mine.onnx"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
licence = "MIT"
file = "mine.onnx"
width = 64
height = 32
score_threshold = 0.25
nms_iou = 1
classes = ["person", "car"]
"""
TOPOLOGY = """
name = "mine"
description = "one of the user's"
unit = "gpu"
units = 16
units_per_host = 8
memory_bytes_per_unit = 1
ingest_bytes_per_s_per_unit = 1
shard_target_bytes = 1
"""
CAN_MAP = """
name = "mine"
description = "one of the user's"
[[row]]
signal = "speed_mps"
message = "WHEELS"
terms = ["FL", "FR"]
combine = "mean"
unit = "km/h"
[[row]]
signal = "brake_on"
message = "BRAKE"
terms = ["PRESSED"]
true = [1]
hold_s = 2
"""


@dataclass(frozen=True)
class Case:
    """A kind, a good file of it, a name of ours, and (old, new, message) of some mistakes.

    Each in the order: a misspelt key, a missing key, a wrong type, a value out of range, a
    value that is none of the choices.
    """

    kind: Definitions[Any]
    good: str
    ours: str
    mistakes: tuple[tuple[str, str, str], ...]


CASES = [
    Case(
        TRIGGERS,
        TRIGGER,
        "hard_brake",
        (
            ("for_s", "fro_s", "fro_s: unknown key; choose one of: description, for_s, merge_s, "),
            ("for_s = 1\n", "", "for_s: missing"),
            ("version = 1", 'version = "1"', 'version = "1": must be a whole number'),
            ("for_s = 1", "for_s = -1", "for_s = -1: must be at least 0"),
            (
                '"signals"',
                '"signal"',
                'table = "signal": choose one of: annotations, joints, scene, signals, ticks',
            ),
        ),
    ),
    Case(
        MODELS,
        MODEL,
        "yolox_nano",
        (
            ("family", "famliy", "famliy: unknown key; choose one of: classes, description, dou"),
            ('family = "yolox"\n', "", "family: missing"),
            ("width = 64", 'width = "64"', 'width = "64": must be a whole number'),
            ("width = 64", "width = 1", "width = 1: must be at least 32"),
            ('"yolox"', '"resnet"', 'family = "resnet": choose one of: centernet, yolox, yunet'),
        ),
    ),
    Case(
        TOPOLOGIES,
        TOPOLOGY,
        "gpu-8",
        (
            ("units =", "unit_s =", "unit_s: unknown key; choose one of: description, ingest_"),
            ("units = 16\n", "", "units: missing"),
            ("units = 16", 'units = "16"', 'units = "16": must be a whole number'),
            ("units = 16", "units = 0", "units = 0: must be at least 1"),
            ("= 8", "= 9", "units_per_host = 9: units = 16 must be a multiple of it"),
        ),
    ),
    Case(
        CAN_MAPS,
        CAN_MAP,
        "toyota_2017",
        (
            ("combine", "combin", "row[0].combin: unknown key; choose one of: combine, factor, "),
            ('message = "BRAKE"\n', "", "row[1].message: missing"),
            ("true = [1]", 'true = ["1"]', 'row[1].true[0] = "1": must be a whole number'),
            ("hold_s = 2", "hold_s = -2", "row[1].hold_s = -2: must be at least 0"),
            ('"mean"', '"median"', 'row[0].combine = "median": choose one of: mean, sum'),
        ),
    ),
]
every_kind = pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.kind)


def error_of(load: Callable[[], object]) -> str:
    """Returns what a load is refused with."""
    with pytest.raises(UsageError) as caught:
        load()
    return str(caught.value)


@every_kind
def test_a_mistake_of_a_file_names_kind_place_key_value_and_cure(
    case: Case, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    for old, new, words in case.mistakes:
        assert old in case.good
        path.write_text(case.good.replace(old, new, 1))
        said = error_of(lambda: case.kind.load("mine", [str(tmp_path)]))
        assert said.startswith(f"{case.kind.kind} {path}: {words}"), said
        assert "\n" not in said
        assert error_of(lambda: case.kind.load(str(path))) == said
        assert error_of(lambda: case.kind.load_all([str(tmp_path)])) == said


@every_kind
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"name = \n", "not TOML: Invalid value (at line 1, column 8)"),
        (b'name = "mine"\nname = "mine"\n', "not TOML: Cannot overwrite a value"),
        (b"a = " + b"[" * 20_000, "not TOML: nested too deeply"),
        (b"a = " + b"9" * 5_000, "not TOML: "),
        (b"# \xff", "not UTF-8: byte 2 is 0xff; save it as UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), "longer than 65536 bytes; give a shorter file"),
        (b"description = 3\n", "name: missing"),
        (b'name = "other"\n', 'name = "other": must be "mine", as the file is named'),
        (b'name = "../mine"\n', 'name = "../mine": must be '),
    ],
    ids=["value", "duplicate", "deep", "digits", "utf-8", "long", "empty", "renamed", "path"],
)
def test_a_file_that_is_not_a_definition_is_refused_alike_for_every_kind(
    case: Case, tmp_path: Path, raw: bytes, words: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(raw)
    said = error_of(lambda: case.kind.load("mine", [str(tmp_path)]))
    assert said.startswith(f"{case.kind.kind} {path}: {words}"), said
    assert "\n" not in said
    assert len(said) < 400


@every_kind
def test_what_is_not_there_is_refused_alike_for_every_kind(case: Case, tmp_path: Path) -> None:
    kind, gone = case.kind.kind, tmp_path / "gone"
    said = error_of(lambda: case.kind.load("unheard"))
    assert said == f'{kind} "unheard": unknown; choose one of: {", ".join(case.kind.names())}'
    for load in (case.kind.names, case.kind.load_all, case.kind.survey):
        refusal = error_of(lambda load=load: load([str(gone)]))  # type: ignore[misc]
        assert refusal == f"{kind} {gone}: no such folder; correct the path"
    refusal = error_of(lambda: case.kind.load(case.ours, [str(gone)]))
    assert refusal == f"{kind} {gone}: no such folder; correct the path"
    refusal = error_of(lambda: case.kind.load(f"{gone}.toml"))
    assert refusal == f"{kind} {gone}.toml: no such file; correct the path"
    refusal = error_of(lambda: case.kind.names(["nosuch://folder"]))
    assert refusal == f"{kind} nosuch://folder: Protocol not known: nosuch; correct the URL"


@every_kind
def test_a_broken_file_does_no_harm_to_the_one_beside_it(case: Case, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(case.good)
    (tmp_path / "broken.toml").write_text("= 3")
    (tmp_path / "notes.txt").write_text("nothing to load")
    (tmp_path / ".#mine.toml").write_text("an editor's")
    folders = [str(tmp_path)]
    assert case.kind.load("mine", folders).name == "mine"
    assert case.kind.load(case.ours, folders) == case.kind.load(case.ours)
    assert set(case.kind.names(folders)) == {*case.kind.names(), "mine", "broken"}
    good, mistakes = case.kind.survey(folders)
    assert {one.name for one in good} == {*case.kind.names(), "mine"}
    assert mistakes == [error_of(lambda: case.kind.load("broken", folders))]
    assert error_of(lambda: case.kind.load_all(folders)) == mistakes[0]


@every_kind
def test_a_broken_file_of_ours_is_never_passed_over(case: Case, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("= 3")
    (tmp_path / "users").mkdir()
    ours = Definitions(case.kind.kind, case.kind.model, str(tmp_path))
    assert "not TOML" in error_of(ours.survey)
    (tmp_path / "users" / "mine.toml").write_text(case.good)
    assert [one.name for one in ours.survey([str(tmp_path / "users")])[0]] == ["mine"]


@every_kind
def test_later_folders_go_before_earlier_ones_and_all_before_ours(
    case: Case, tmp_path: Path
) -> None:
    good = case.good.replace('"mine"', f'"{case.ours}"')
    folders = [str(tmp_path / "one"), "memory://two"]
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / f"{case.ours}.toml").write_text(good.replace("one of", "the first of"))
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/two/{case.ours}.toml", good.replace("one of", "the second of").encode())
    try:
        for order, wins in ((folders, "second"), (folders[::-1], "first")):
            assert case.kind.load(case.ours, order).description == f"the {wins} of the user's"
            (found,) = [one for one in case.kind.load_all(order) if one.name == case.ours]
            assert found.description == f"the {wins} of the user's"
            assert case.kind.names(order) == case.kind.names()
        alone = case.kind.load_all(folders, shipped=False)
        assert [one.name for one in alone] == [case.ours]
    finally:
        memory.rm("/two", recursive=True)


@every_kind
def test_a_folder_in_an_archive_is_a_folder(case: Case, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("own/mine.toml", case.good)
        archive.writestr("own/broken.toml", "=")
    folder = f"zip://own::{tmp_path}/all.zip"
    assert case.kind.load("mine", [folder]).name == "mine"
    said = error_of(lambda: case.kind.load("broken", [folder]))
    assert said.startswith(f"{case.kind.kind} zip://own/broken.toml::{tmp_path}/all.zip: not TOML")


@every_kind
def test_every_one_of_ours_loads_and_says_what_it_is(case: Case) -> None:
    files = sorted(path.stem for path in Path(case.kind.folder).glob("*.toml"))
    assert [one.name for one in case.kind.load_all()] == files == case.kind.names()
    assert all(one.description.strip() for one in case.kind.load_all())
    assert case.kind.survey() == (list(case.kind.load_all()), [])


@every_kind
def test_a_change_is_checked_as_a_file_is(case: Case) -> None:
    definition = case.kind.load(case.ours)
    assert definition.replace() == definition
    assert definition.replace(description="other").description == "other"
    with pytest.raises(ValidationError):
        definition.replace(name="")
    with pytest.raises(ValidationError):
        definition.name = "other"


class Inner(BaseModel):
    """A table in a table."""

    model_config = STRICT

    number: float = Field(default=1.0, gt=0, lt=9)
    switch: bool = False
    texts: tuple[str, ...] = Field(default=(), max_length=2, strict=False)


class Outer(BaseModel):
    """A table."""

    model_config = STRICT

    inner: Inner = Inner()
    named: dict[str, Inner] = Field(default_factory=dict)
    text: str = Field(default="aa", min_length=2, max_length=3, pattern="a+")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"inner": 3}, "inner = 3: must be a table"),
        ({"inner": {"number": 0}}, "inner.number = 0: must be above 0"),
        ({"inner": {"number": 9}}, "inner.number = 9: must be below 9"),
        ({"inner": {"number": float("nan")}}, "inner.number = nan: must be a finite number"),
        ({"inner": {"number": True}}, "inner.number = true: must be a number"),
        ({"inner": {"switch": 1}}, "inner.switch = 1: must be true or false"),
        ({"inner": {"texts": "a"}}, 'inner.texts = "a": must be a list'),
        ({"inner": {"texts": ["a", 3]}}, "inner.texts[1] = 3: must be text"),
        ({"inner": {"texts": ["a"] * 3}}, 'inner.texts = ["a", "a", "a"]: must not be longer'),
        ({"named": {"x": {"nmber": 3}}}, "named.x.nmber: unknown key; choose one of: number, sw"),
        ({"text": "a"}, 'text = "a": must have at least 2 characters'),
        ({"text": "aaaa"}, 'text = "aaaa": longer than 3 characters'),
        ({"text": "bb"}, 'text = "bb": must match a+'),
        ({"text": "a" * 999}, f'text = "{"a" * 76}...: longer'),
    ],
)
def test_every_type_of_mistake_is_worded(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(table)
    assert mistake(caught.value, Outer).startswith(words)


def test_values_are_shown_in_one_short_printable_line() -> None:
    values = ["a\nb\x1b[0m", "\u202eabc", 10**400, ["x" * 99] * 99, {"a": 1}, None, 1.5]
    for value in values:
        text = shown(value)
        assert text.isprintable()
        assert len(text) <= 80
    assert shown("größer") == '"größer"'
    assert re.fullmatch(r"a number of \d+ bits", shown(10**400))
