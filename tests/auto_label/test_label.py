"""Labelling one event: what is due is done, and no more."""

from __future__ import annotations

import dataclasses

from auto_label.event_rows import EventRows
from auto_label.label import Labelled
from auto_label.specs import Due, PixelSpec
from tests.auto_label.painted import (
    Red,
    clips,
    do,
    known,
    label,
    whole_due,
)


def test_the_same_event_gives_the_same_bytes(log: EventRows, red: Red, labelled: Labelled) -> None:
    again = label(log, [red])
    assert again.parts == labelled.parts
    for name in labelled.tables:
        assert again.tables[name].equals(labelled.tables[name])


def test_only_what_is_due_is_done(log: EventRows, red: Red, labelled: Labelled) -> None:
    """A second model looks without encoding; what the first one saw is linked from its rows."""
    other = Red(red.spec.replace(name="other", sha256="1" * 64))
    first, both = whole_due([red]), whole_due([red, other])
    done = frozenset(first.digests)
    due = Due.without(done, both.spec, first.pixels or PixelSpec())
    assert due.models == (other.spec.identity,)
    again = do(known(labelled, log), [other], due)
    assert [part.part for part in again.parts] == ["labels"]
    at_once = do(log, [red, other], both)
    for table in ("boxes", "tracks", "ego_path"):
        assert again.tables[table].equals(at_once.tables[table])
    assert set(again.tables["views"]["source"].to_pylist()) == {"other"}
    assert again.decoded > 0


def test_another_quality_encodes_without_a_look_of_the_labels(
    log: EventRows, red: Red, labelled: Labelled
) -> None:
    due = whole_due([red])
    coarse = dataclasses.replace(due.pixels or PixelSpec(), crf=40)
    left = Due.without(frozenset(due.digests), due.spec, coarse)
    assert left.digests == (coarse.digest,)
    again = do(known(labelled, log), [red], left)
    assert set(again.tables) == {"privacy"}
    assert [part.part for part in again.parts] == ["clip"]
    assert len(clips(again)["front"]) < len(clips(labelled)["front"])
