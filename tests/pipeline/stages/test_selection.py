"""The samples that events have now."""

from __future__ import annotations

import pytest

from pipeline.queries.catalog import read_rows
from pipeline.stages.label import plan_label
from pipeline.stages.selection import latest_samples
from tests.pipeline.stages.conftest import LABEL, Small


def selection(
    small: Small, privacy: str = "blur", payload: str = "clip"
) -> list[dict[str, object]]:
    query = "\n".join([latest_samples(privacy, payload), "SELECT * FROM selection"])
    rows: list[dict[str, object]] = read_rows(small.lake(), query).to_pylist()
    return rows


def test_each_event_has_one_sample_of_three_parts(labelled: Small) -> None:
    rows = selection(labelled)
    events = [row["event_id"] for row in labelled.rows("events")]
    assert sorted(str(row["event_id"]) for row in rows) == sorted(events)
    for row in rows:
        parts = row["parts"]
        assert isinstance(parts, list)
        assert [part["part"] for part in parts] == ["clip", "signals", "labels"]


@pytest.mark.parametrize(("privacy", "payload"), [("none", "clip"), ("blur", "frames")])
def test_what_was_not_made_is_not_selected(labelled: Small, privacy: str, payload: str) -> None:
    assert selection(labelled, privacy, payload) == []


def test_the_labels_that_were_made_last_are_selected(labelled: Small) -> None:
    before = {row["event_id"]: row for row in selection(labelled)}
    labelled.run(plan_label, LABEL.model_copy(update={"fps": 2.0}))
    after = selection(labelled)
    assert len(after) == len(before)
    for row in after:
        old = before[row["event_id"]]
        assert row["label_digest"] != old["label_digest"]
        assert row["spec_digest"] == old["spec_digest"], "of the clip"
