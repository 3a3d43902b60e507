"""What holds for every text, TOML document, row and condition, tried by hypothesis."""

from __future__ import annotations

import json
import math
import operator
import re
import tempfile
import time
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auto_label.models import MODELS
from pipeline.stages.recording_rows import log_rows
from pipeline.topologies import TOPOLOGIES
from schemas.errors import MAX_DETAIL_CHARS, CorruptError, UsageError, one_line, storable
from schemas.recording import Annotation, Joints
from schemas.records import LogRef, Member
from schemas.redaction import MARK, printable, redact
from schemas.tables import TABLES
from tests.fuzz.cases import Ended, Tally, examples, parts
from tests.recording import Recording
from transforms.can.maps import CAN_MAPS
from transforms.definitions import Definition, Definitions
from transforms.parquet import decode, encode
from transforms.readers.checks import MAX_TEXT_CHARS, check_text
from transforms.toml import parse_toml
from transforms.triggers import TRIGGERS
from transforms.triggers.engine import Miner
from transforms.triggers.spec import Trigger

pytestmark = pytest.mark.skipif(
    not parts("texts", "toml", "tables", "conditions"), reason="one case of another kind"
)

ODD = "\0\x1b\n\x85\u2028\u202e\ud800\udfff'\"\\/@:?#%=&🚗e\u0301"
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from(ODD)), max_size=40)
LONG = st.one_of(TEXTS, TEXTS.map(lambda text: text * 40))
FIT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=20)


class Counting:
    """Counts what hypothesis tries."""

    def __init__(self, kind: str) -> None:
        self.tally = Tally(kind)
        self._case = 0

    @contextmanager
    def case(self) -> Iterator[list[str]]:
        """Counts a case, which ends as the last word of the list that it fills: by default kept."""
        words = ["kept"]
        began = time.monotonic()
        yield words
        how = "result" if words[-1] == "kept" else "line"
        self.tally.add(self._case, Ended(how, words[-1]), time.monotonic() - began, 0)
        self._case += 1


def is_unfit(text: str) -> bool:
    """Tells whether no table takes a text, by what Unicode says of its characters."""
    kinds = {unicodedata.category(char) for char in text}
    return len(text) > MAX_TEXT_CHARS or bool(kinds & {"Cc", "Cs", "Zl", "Zp"})


def test_texts_are_stored_or_refused_and_secrets_taken_out(record_property: Any) -> None:
    counting = Counting("texts")

    @examples("texts", 2)
    @given(LONG)
    def check(text: str) -> None:
        with counting.case() as ended:
            problem = check_text("a reason", text)
            assert (problem is not None) == is_unfit(text)
            if problem is None:
                assert decode(encode(pa.table({"a": [text]})))["a"].to_pylist() == [text]
            else:
                ended.append("refused")
                assert problem.isprintable()
                assert len(problem) < 2 * MAX_TEXT_CHARS
            shown = printable(text)
            assert shown.isprintable()
            assert printable(shown) == shown
            assert (shown == text) == text.isprintable()
            assert one_line(text).isprintable()
            stored = storable(text)
            assert stored.isprintable()
            assert len(stored) <= MAX_DETAIL_CHARS + 3

    check()
    counting.tally.tell(record_property)


LETTERS = "abcXYZ019-._~!$&()*+,;=%"
# Of a password with both an @ and what ends a host nobody can tell where it ends.
SECRETS = st.text(st.sampled_from(LETTERS + "@"), min_size=1, max_size=12) | st.text(
    st.sampled_from(LETTERS + "/?#"), min_size=1, max_size=12
)
SCHEMES = st.sampled_from(("http", "https", "s3", "abfs", "sftp", "simplecache::https"))


def test_a_password_is_in_no_text(record_property: Any) -> None:
    counting = Counting("texts")

    @examples("texts", 2)
    @given(TEXTS, SCHEMES, SECRETS, TEXTS)
    def check(before: str, scheme: str, secret: str, after: str) -> None:
        with counting.case():
            password = f"pw7{secret}7wp"
            said = redact(f"{before} {scheme}://user:{password}@host/a.mp4 {after}")
            assert "pw7" not in said
            assert "7wp" not in said
            assert redact(said) == said
            signed = redact(f"{before} https://host/a?X-Amz-Signature={password} {after}")
            assert "pw7" not in signed or MARK in signed

    check()
    counting.tally.tell(record_property)


DEFINED: tuple[Definitions[Any], ...] = (TRIGGERS, MODELS, TOPOLOGIES, CAN_MAPS)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 1),
)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.recursive(
    st.one_of(NUMBERS, st.booleans(), FIT, NAMES, st.dates(date(1, 1, 1))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def toml(table: Mapping[str, Any]) -> str:
    """Writes a table as TOML."""
    return "".join(f"{json.dumps(key)} = {_value(value)}\n" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return value.isoformat() if isinstance(value, date) else repr(value)


@st.composite
def documents(draw: Callable[..., Any]) -> tuple[int, dict[str, Any]]:
    """Draws one of our definitions, with other values, keys and numbers."""
    number = draw(st.integers(0, len(DEFINED) - 1))
    known = DEFINED[number]
    shipped = sorted(Path(known.folder).glob("*.toml"))
    table = tomllib.loads(draw(st.sampled_from(shipped)).read_text())
    fields = sorted({*table, *known.model.model_fields})
    for key in draw(st.lists(st.sampled_from(fields), max_size=2)):
        same = table.get(key)
        if isinstance(same, int | float):
            table[key] = draw(st.one_of(st.integers(0, 9), st.floats(0, 9), NUMBERS))
        elif isinstance(same, str) and draw(st.booleans()):
            table[key] = draw(st.sampled_from((same, f"{same} ", same.upper(), same[1:])) | FIT)
        elif isinstance(same, dict) and same and draw(st.booleans()):
            table[key] = same | {draw(st.sampled_from(sorted(same))): draw(VALUES)}
        elif draw(st.booleans()):
            table[key] = draw(VALUES)
        else:
            table.pop(key, None)
    return number, table


def test_a_definition_is_what_its_file_says_or_refused(record_property: Any) -> None:
    counting = Counting("toml")

    @examples("toml")
    @given(documents())
    def check(drawn: tuple[int, dict[str, Any]]) -> None:
        number, table = drawn
        written = toml(table)
        with counting.case() as ended, tempfile.TemporaryDirectory() as folder:
            assert parse_toml(written.encode()) == table
            path = Path(folder, "a.toml")
            name = table.get("name")
            if isinstance(name, str) and re.fullmatch(r"[\w-]{1,60}", name, re.ASCII):
                path = Path(folder, f"{name}.toml")
            path.write_text(written)
            try:
                loaded: Definition = DEFINED[number].load(str(path))
            except UsageError as error:
                said = str(error)
                ended.append("refused")
            if ended[-1] == "refused":
                assert said.isprintable()
                assert str(path) in said
                assert len(said) < 2000
                return
            # What it says once more is the same definition.
            again = loaded.model_dump(mode="json", by_alias=True, exclude_none=True)
            path.write_text(toml(again))
            assert DEFINED[number].load(str(path)) == loaded
            for key, value in table.items():
                if isinstance(value, int | float | str):
                    assert again[key] == value

    check()
    counting.tally.tell(record_property)


def values_of(type_: pa.DataType) -> st.SearchStrategy[Any]:
    """Draws values of a type."""
    if pa.types.is_list(type_):
        return st.lists(values_of(type_.value_type), max_size=3)
    if pa.types.is_struct(type_):
        return st.fixed_dictionaries({f.name: values_of(f.type) for f in type_})
    if pa.types.is_string(type_):
        return FIT
    if pa.types.is_boolean(type_):
        return st.booleans()
    if pa.types.is_floating(type_):
        return st.floats(width=type_.bit_width, allow_nan=False)
    return st.integers(-(2**63), 2**63 - 1)


@st.composite
def rows(draw: Callable[..., Any]) -> tuple[str, list[dict[str, Any]]]:
    """Draws rows of a table."""
    name = draw(st.sampled_from(sorted(TABLES)))
    fields = {
        field.name: st.none() | values_of(field.type) if field.nullable else values_of(field.type)
        for field in TABLES[name].schema
    }
    return name, draw(st.lists(st.fixed_dictionaries(fields), max_size=4))


def test_rows_are_read_as_they_were_written(record_property: Any) -> None:
    counting = Counting("tables")

    @examples("tables", 2)
    @given(rows(), st.data())
    def check(drawn: tuple[str, list[dict[str, Any]]], data: st.DataObject) -> None:
        name, made = drawn
        table = TABLES[name]
        with counting.case():
            # Of any order of the columns, and without those that are null.
            columns = data.draw(st.permutations(table.schema.names))
            empty = {c for c in columns if all(row[c] is None for row in made)}
            kept = [c for c in columns if c not in empty or not table.schema.field(c).nullable]
            given_rows = pa.Table.from_pylist(made, schema=table.schema).select(kept)
            stored = table.conform(given_rows)
            read = decode(encode(stored))
            assert read.schema == table.schema
            assert read.to_pylist() == sorted(made, key=lambda row: [row[c] for c in table.order])
            parts_of = [stored.slice(at, 1) for at in range(len(made))]
            assert not made or encode(pa.concat_tables(parts_of)) == encode(stored)
            for field in table.schema:
                if made and not field.nullable:
                    loose = pa.schema([pa.field(f.name, f.type) for f in table.schema])
                    broken = [{**made[0], field.name: None}]
                    with pytest.raises(ValueError, match=field.name):
                        table.conform(pa.Table.from_pylist(broken, schema=loose))

    check()
    counting.tally.tell(record_property)


LOG = LogRef("video", "a", "/in/a", (Member("a", "/in/a", 1),), "0")
WHOLE = st.one_of(*[st.integers(0, 10**15)] * 4, st.integers(-(2**70), 2**70))
DEGREES = st.one_of(st.none(), *[st.floats(-90, 90)] * 4, st.floats())


@st.composite
def recordings(draw: Callable[..., Any]) -> Recording:
    """Draws what a reader may have found in a stranger's files."""
    text = st.one_of(*[FIT] * 9, LONG)
    annotations = st.builds(
        Annotation,
        t_ns=st.integers(0, 2**62),
        reason=text,
        camera=st.none() | text,
        lat_deg=DEGREES,
        lon_deg=DEGREES,
    )
    joints, names = None, []
    if draw(st.booleans()):
        names = draw(st.lists(text, max_size=2))
        joints = Joints(np.arange(2), np.zeros((2, len(names)), np.float32), None, None)
    return Recording(
        log=LOG,
        drive_id=draw(text),
        vehicle_id=draw(text),
        platform="vehicle",
        duration_ns=draw(WHOLE),
        clock="none",
        start_ns=draw(st.none() | WHOLE),
        software=draw(st.none() | text),
        joint_names=tuple(names),
        joints=joints,
        annotations=tuple(draw(st.lists(annotations, max_size=2))),
    )


def is_recording(found: Recording) -> bool:
    """Tells whether a recording can have what was found, by other means than the reader's."""
    texts = [found.drive_id, found.vehicle_id, found.software or ""]
    texts += found.joint_names
    texts += [text or "" for one in found.annotations for text in (one.reason, one.camera)]
    degrees = [
        (value, most)
        for one in found.annotations
        for value, most in ((one.lat_deg, 90), (one.lon_deg, 180))
        if value is not None
    ]
    return (
        not any(map(is_unfit, texts))
        and found.duration_ns in range(30 * 86_400 * 10**9 + 1)
        and (found.start_ns is None or found.start_ns in range(7 * 10**18 + 1))
        and all(math.isfinite(value) and -most <= value <= most for value, most in degrees)
    )


def test_a_recording_becomes_rows_or_a_reject(record_property: Any) -> None:
    counting = Counting("tables")

    @examples("tables", 2)
    @given(recordings())
    def check(found: Recording) -> None:
        with counting.case() as ended:
            if not is_recording(found):
                ended.append("corrupt")
                with pytest.raises(CorruptError, match="/in/a: ") as raised:
                    log_rows(found.opened)
                assert str(raised.value).isprintable()
                return
            made = log_rows(found.opened).tables
            for rows_of in made.values():
                assert decode(encode(rows_of)).equals(rows_of)
            (log,) = made["logs"].to_pylist()
            assert (log["drive_id"], log["vehicle_id"]) == (found.drive_id, found.vehicle_id)
            said = [one.reason for one in found.annotations]
            if said:
                assert sorted(made["annotations"]["reason"].to_pylist()) == sorted(said)

    check()
    counting.tally.tell(record_property)


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition in SQL, and what it is for a row: true, false or null."""

    sql: str
    holds: Callable[[Row], bool | None]


_COMPARED = {
    "<": operator.lt, "<=": operator.le, "=": operator.eq,
    "<>": operator.ne, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@st.composite
def comparisons(draw: Callable[..., Any]) -> Condition:
    """Draws a comparison of a column with a constant, or with null."""
    name = draw(st.sampled_from(("speed_mps", "accel_x_mps2", "gear")))
    if draw(st.integers(0, 5)) == 0:
        return Condition(f"{name} IS NULL", lambda row: row[name] is None)
    word = draw(st.sampled_from(sorted(_COMPARED)))
    if name == "gear":
        word = draw(st.sampled_from(("=", "<>")))
        constant = draw(GEARS)
        written = "'" + constant.replace("'", "''") + "'"
    else:
        constant = draw(st.floats(-5, 5)) if draw(st.booleans()) else draw(st.integers(-3, 3))
        written = repr(constant)
    compare = _COMPARED[word]
    return Condition(
        f"{name} {word} {written}",
        lambda row: None if row[name] is None else bool(compare(row[name], constant)),
    )


def _not(inner: Condition) -> Condition:
    def holds(row: Row) -> bool | None:
        value = inner.holds(row)
        return None if value is None else not value

    return Condition(f"NOT ({inner.sql})", holds)


def _both(pair: tuple[Condition, Condition], word: str) -> Condition:
    decisive = word == "OR"

    def holds(row: Row) -> bool | None:
        values = [one.holds(row) for one in pair]
        if decisive in values:
            return decisive
        return None if None in values else not decisive

    return Condition(f"({pair[0].sql}) {word} ({pair[1].sql})", holds)


GEARS = st.one_of(st.sampled_from(("drive", "it's", "%", "")), FIT)
CONDITIONS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(_not),
        st.tuples(inner, inner).map(lambda pair: _both(pair, "AND")),
        st.tuples(inner, inner).map(lambda pair: _both(pair, "OR")),
    ),
    max_leaves=6,
)
SIGNALS = st.fixed_dictionaries(
    {
        "speed_mps": st.none() | st.integers(-3, 3).map(float) | st.floats(-5, 5),
        "accel_x_mps2": st.none() | st.integers(-3, 3).map(float),
        "gear": st.none() | GEARS,
    }
)
STEP_NS = 20_000_000


def test_a_trigger_finds_the_rows_that_its_condition_holds_for(record_property: Any) -> None:
    counting = Counting("conditions")
    base = Trigger(
        name="t", version=1, description="a test's", table="signals", when="true", score="1",
        for_s=0, merge_s=0, pre_s=0, post_s=1,
    )  # fmt: skip

    @examples("conditions")
    @given(CONDITIONS, st.lists(SIGNALS, min_size=1, max_size=12))
    def check(condition: Condition, made: list[dict[str, Any]]) -> None:
        with counting.case():
            logs = pa.table({"log_id": ["a"], "drive_id": ["d"], "duration_ns": [10**12]})
            types = TABLES["signals"].schema
            columns: dict[str, Any] = {
                name: pa.array([row[name] for row in made], types.field(name).type)
                for name in made[0]
            }
            columns["log_id"] = ["a"] * len(made)
            columns["t_ns"] = [k * STEP_NS for k in range(len(made))]
            table = TABLES["signals"].conform(pa.table(columns))
            trigger = base.replace(when=condition.sql)
            found = Miner([trigger], "signals").mine(table, logs)
            spans = [json.loads(event.evidence) for event in found]
            expected = []
            for holds, run in groupby(range(len(made)), lambda k: condition.holds(made[k]) is True):
                if holds:
                    places = list(run)
                    expected.append((places[0] * STEP_NS, places[-1] * STEP_NS))
            assert [(span["start_ns"], span["end_ns"]) for span in spans] == expected

    check()
    counting.tally.tell(record_property)
