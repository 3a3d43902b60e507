"""Records: validated, hashable, picklable; ids with golden values."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any

import pytest

import schemas.records
from schemas.errors import CorruptError, TruncatedError
from schemas.records import Count, Event, LogRef, Member, Reject, VideoFile, add_counts
from schemas.tables import TABLES
from schemas.times import Span

MEMBERS = (Member("a.mp4", "/in/a.mp4", 9), Member("b.json", "/in/b.json", 3))
LOG = LogRef("video", "drive/a", "/in", MEMBERS, "f" * 20)
EVENT = Event("e", "l", "d", "hard_brake", 1, "p", 10, 20, 30, 1.5, "{}")
EXAMPLES: dict[str, Any] = {
    "Member": MEMBERS[0],
    "LogRef": LOG,
    "Reject": Reject("/in/a.mp4", "ingest", "corrupt", "/in/a.mp4: no box", "l"),
    "Count": Count("ingest", "logs", 1, 2, 3),
    "Event": EVENT,
    "VideoFile": VideoFile("front", "/in/a.mp4", 0, 5, 1, 90_000, 64, 48),
    "AddFile": schemas.records.AddFile("logs", "logs/a.parquet", 9, 1, "{}"),
}


def test_every_record_is_tested() -> None:
    records = {
        name
        for name, value in vars(schemas.records).items()
        if inspect.isclass(value)
        and dataclasses.is_dataclass(value)
        and value.__module__ == schemas.records.__name__
    }
    assert records == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_record_is_immutable_hashable_and_picklable(name: str) -> None:
    record = EXAMPLES[name]
    field = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, "other")
    assert not hasattr(record, "__dict__"), "slots"
    copy = pickle.loads(pickle.dumps(record))  # noqa: S301 - our own bytes
    assert copy == record
    assert hash(copy) == hash(record)


@pytest.mark.parametrize("members", [(), (MEMBERS[0], MEMBERS[0])])
def test_a_log_needs_members_of_distinct_names(members: tuple[Member, ...]) -> None:
    with pytest.raises(ValueError, match="'/in' has members"):
        LogRef("video", "a", "/in", members, "f")


def test_the_identity_of_a_log_is_its_format_and_content() -> None:
    assert LOG.log_id == "5e5d9f9aba9034ad16b7"
    assert LOG.size == 12
    moved = dataclasses.replace(LOG, name="elsewhere", uri="s3://b/in", members=MEMBERS[:1])
    assert moved.log_id == LOG.log_id
    assert dataclasses.replace(LOG, format="teslacam").log_id != LOG.log_id
    assert dataclasses.replace(LOG, fingerprint="e" * 20).log_id != LOG.log_id


@pytest.mark.parametrize(("anchor_ns", "valid"), [(9, False), (10, True), (30, True), (31, False)])
def test_the_anchor_of_an_event_is_inside_it(anchor_ns: int, valid: bool) -> None:
    if valid:
        assert dataclasses.replace(EVENT, anchor_ns=anchor_ns).span == Span(10, 30)
    else:
        with pytest.raises(ValueError, match=rf"anchor {anchor_ns} ns is outside \[10, 30\)"):
            dataclasses.replace(EVENT, anchor_ns=anchor_ns)


@pytest.mark.parametrize("name", ["Event", "Reject"])
def test_a_record_has_the_columns_of_its_table(name: str) -> None:
    table = {"Event": "events", "Reject": "rejects"}[name]
    fields = [field.name for field in dataclasses.fields(EXAMPLES[name])]
    assert fields == [column for column in TABLES[table].schema.names if column != "run_id"]


def test_a_reject_states_reason_and_message_of_its_error() -> None:
    for error in (CorruptError("a: no box"), TruncatedError("a: ends early")):
        reject = Reject.of(error, uri="/in/a", stage="ingest", subject="l")
        assert reject == Reject("/in/a", "ingest", error.reason, str(error), "l")
    assert Reject.of(CorruptError("x"), uri="a", stage="s").subject == ""


def test_counts_add_up_by_stage_and_kind() -> None:
    counts = [
        Count("mine", "logs", 1, 2, 3),
        Count("ingest", "logs", 5),
        Count("mine", "rows", 7),
        Count("mine", "logs", 10, 20, 30),
    ]
    sums = add_counts(counts)
    assert sums == [
        Count("mine", "logs", 11, 22, 33),
        Count("ingest", "logs", 5),
        Count("mine", "rows", 7),
    ]
    assert sum(c.total for c in sums) == sum(c.total for c in counts) == 78
    assert add_counts(sums) == sums
    assert add_counts([]) == []
