"""A corpus: its selection, its splits, and that equal selections give one snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import CorpusConfig
from pipeline.stages.corpus import plan_corpus, select
from schemas.errors import UsageError
from tests.pipeline.stages.conftest import Small

CORPUS = CorpusConfig(name="c", topology="gpu-8", val_fraction=0.5)


def where(sql: str) -> CorpusConfig:
    return CORPUS.model_copy(update={"where": sql})


def test_every_sample_is_selected_once_and_a_drive_is_in_one_split(labelled: Small) -> None:
    samples = select(labelled.lake(), CORPUS).samples.to_pylist()
    assert sorted(row["event_id"] for row in samples) == sorted(
        row["event_id"] for row in labelled.rows("events")
    )
    splits = {(row["drive_id"], row["split"]) for row in samples}
    assert len(splits) == len({drive for drive, _ in splits})


def test_a_condition_selects_matching_samples(labelled: Small) -> None:
    """Also one that ends in a comment."""
    trigger = labelled.rows("events")[0]["trigger"]
    chosen = select(labelled.lake(), where(f"trigger = '{trigger}' -- only these")).samples
    wanted = [r["event_id"] for r in labelled.rows("events") if r["trigger"] == trigger]
    assert sorted(chosen["event_id"].to_pylist()) == sorted(wanted)


@pytest.mark.parametrize(
    ("sql", "words"), [("trigger = 'none'", "selects none of"), ("colour = 1", "colour")]
)
def test_a_condition_that_matches_nothing_or_is_invalid_is_bad_usage(
    labelled: Small, sql: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        select(labelled.lake(), where(sql))


def test_equal_selections_are_one_snapshot_with_nothing_left_to_do(labelled: Small) -> None:
    first = labelled.run(plan_corpus, CORPUS)
    assert first.tasks > 0
    again = labelled.run(plan_corpus, where("score = score"))
    assert again.detail["folder"] != first.detail["folder"], "the manifest names the condition"
    assert labelled.run(plan_corpus, CORPUS).tasks == 0
    shards = sorted(Path(first.detail["folder"]).glob("*/*.tar"))
    others = sorted(Path(again.detail["folder"]).glob("*/*.tar"))
    assert [path.read_bytes() for path in shards] == [path.read_bytes() for path in others]
    assert list(Path(labelled.url, "work").iterdir()) == []
