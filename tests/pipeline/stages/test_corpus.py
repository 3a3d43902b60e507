"""A corpus: its selection, its splits, and that equal selections give one snapshot."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.config import CorpusConfig
from pipeline.stages.corpus import plan_corpus, select
from pipeline.stages.label import plan_label
from schemas.errors import FleetError, UsageError
from schemas.times import NS_PER_S
from tests.pipeline.stages.conftest import LABEL, Small

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
    ("sql", "words"), [("trigger = 'none'", "selects none of"), ("colour = 1", "--where: .*colour")]
)
def test_a_condition_that_matches_nothing_or_is_invalid_is_bad_usage(
    labelled: Small, sql: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        select(labelled.lake(), where(sql))


def test_a_condition_is_ended_at_its_limits(labelled: Small) -> None:
    endless = where("(SELECT count(*) FROM range(1000000000000)) > 1")
    with pytest.raises(FleetError, match=r"--where was not done after 0\.5 s.*--where-timeout"):
        select(labelled.lake(), endless.model_copy(update={"where_timeout_s": 0.5}))
    with pytest.raises(FleetError, match="--where needs more memory than 2 GB"):
        select(labelled.lake(), where("len(range(1000000000)) > 1"))


def test_a_corpus_takes_blurred_samples_unless_it_says_otherwise(labelled: Small) -> None:
    """Whatever was labelled last: after blur, none and blur again, too."""
    clear = LABEL.model_copy(update={"privacy": "none"})
    for config in (clear, LABEL):
        labelled.run(plan_label, config)
    chosen = select(labelled.lake(), CORPUS).samples
    assert set(chosen["privacy"].to_pylist()) == {"blur"}
    unblurred = select(labelled.lake(), CORPUS.model_copy(update={"privacy": "none"})).samples
    assert set(unblurred["privacy"].to_pylist()) == {"none"}
    assert unblurred["event_id"].to_pylist() == chosen["event_id"].to_pylist()


def test_without_samples_of_a_privacy_the_flag_is_named(labelled: Small) -> None:
    with pytest.raises(UsageError, match="no sample to choose from with --privacy none"):
        select(labelled.lake(), CORPUS.model_copy(update={"privacy": "none"}))


def test_the_last_label_is_the_last_committed_whatever_the_clock_said(
    labelled: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that runs a day back changes nothing."""
    before = set(select(labelled.lake(), CORPUS).samples["spec_digest"].to_pylist())
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns - 86_400 * NS_PER_S)
    labelled.run(plan_label, LABEL.model_copy(update={"crf": 30}))
    after = set(select(labelled.lake(), CORPUS).samples["spec_digest"].to_pylist())
    assert len(before) == len(after) == 1
    assert before != after


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
