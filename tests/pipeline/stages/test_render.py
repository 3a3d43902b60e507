"""Reviewed labels in a corpus: they differ where a reviewer changed them, and nowhere else."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import CorpusConfig, ReviewPullConfig, ReviewPushConfig
from pipeline.lake.verify import verify
from pipeline.snapshots.verify import check_snapshot
from pipeline.stages.corpus import plan_corpus, select
from pipeline.stages.render import plan_render
from pipeline.stages.review_pull import plan_review_pull
from pipeline.stages.review_push import plan_review_push
from schemas.errors import UsageError
from tests.auto_label.review.reviewed import annotated, choice, drawn
from tests.pipeline.stages.conftest import Small
from transforms.corpora.pack import read_sample

AUTO = CorpusConfig(name="auto", topology="gpu-8", val_fraction=0.5)
OVER = AUTO.model_copy(update={"name": "over", "labels": "reviewed-over-auto"})
ONLY = AUTO.model_copy(update={"name": "only", "labels": "reviewed"})


@pytest.fixture
def exported(labelled: Small, tmp_path: Path) -> list[dict[str, Any]]:
    """An export of tasks without answers."""
    media = tmp_path / "media"
    labelled.run(plan_review_push, ReviewPushConfig(out=str(media)))
    return [json.loads(path.read_text()) for path in sorted(media.glob("*.json"))]


def pull(small: Small, exported: list[dict[str, Any]], folder: Path) -> None:
    path = folder / "export.json"
    path.write_text(json.dumps(exported))
    small.run(plan_review_pull, ReviewPullConfig(input=str(path)))


def answered(task: dict[str, Any], x: float, at: str = "2026-11-01T10:00:05Z") -> dict[str, Any]:
    """A box on the third frame."""
    placed = {"frame": 3, "enabled": False, "x": x, "y": 20, "width": 30, "height": 40}
    more = (choice("verdict", "right"), drawn("n", [placed], "car"))
    return annotated(task, *more, id=int(task["data"]["fleetmill"][:8], 16), updated_at=at)


def parts(small: Small, config: CorpusConfig) -> dict[str, dict[str, bytes]]:
    """Builds a corpus; returns by event the bytes of its parts in shards."""
    small.run(plan_render, config)
    report = small.run(plan_corpus, config)
    folder = Path(report.detail["folder"])
    assert not list(check_snapshot(str(folder), Counter()))
    found: dict[str, dict[str, bytes]] = {}
    selection = select(small.lake(), config)
    for row in selection.ranges.to_pylist():
        pack = Path(small.url, row["pack_uri"]).read_bytes()
        block = pack[row["offset"] : row["offset"] + row["length"]]
        found.setdefault(row["event_id"], {}).update(read_sample(block))
    return found


def test_a_label_differs_where_it_was_reviewed_and_nowhere_else(
    labelled: Small, exported: list[dict[str, Any]], tmp_path: Path
) -> None:
    before = parts(labelled, AUTO)
    event_id = exported[0]["data"]["event_id"]
    pull(labelled, [answered(exported[0], 10)], tmp_path)
    after = parts(labelled, OVER)
    assert before.keys() == after.keys()
    different = {
        (event, name)
        for event, members in before.items()
        for name, content in members.items()
        if after[event][name] != content
    }
    assert different == {(event_id, "json")}
    old, new = json.loads(before[event_id]["json"]), json.loads(after[event_id]["json"])
    changed = {name for name in new if old.get(name) != new[name]}
    assert changed == {"boxes", "tracks", "labelling", "review"}
    assert new["boxes"]["x_px"] == [pytest.approx(6.4)]
    assert new["boxes"]["t_ns"] == [exported[0]["data"]["frames_ns"][2]]
    assert parts(labelled, AUTO) == before, "the originals stay"
    assert parts(labelled, ONLY).keys() == {event_id}
    assert verify(labelled.url).problems == ()


def test_what_is_rendered_is_not_rendered_again_until_an_answer_changes(
    labelled: Small, exported: list[dict[str, Any]], tmp_path: Path
) -> None:
    pull(labelled, [answered(task, 10) for task in exported], tmp_path)
    assert labelled.run(plan_render, OVER).tasks == len(exported)
    assert labelled.run(plan_render, OVER).tasks == 0
    pull(labelled, [answered(exported[0], 50, "2026-11-02T00:00:00Z")], tmp_path)
    assert labelled.run(plan_render, OVER).tasks == 1
    event_id = exported[0]["data"]["event_id"]
    found = parts(labelled, ONLY)
    assert json.loads(found[event_id]["json"])["boxes"]["x_px"] == [32.0]
    assert verify(labelled.url).problems == ()


def test_without_answers_there_is_nothing_reviewed(labelled: Small) -> None:
    assert labelled.run(plan_render, OVER).tasks == 0
    assert len(parts(labelled, OVER)) == len(labelled.rows("events"))
    with pytest.raises(UsageError, match="has an answer of a reviewer"):
        select(labelled.lake(), ONLY)


def test_a_skipped_answer_takes_the_review_back(
    labelled: Small, exported: list[dict[str, Any]], tmp_path: Path
) -> None:
    before = parts(labelled, AUTO)
    pull(labelled, [answered(exported[0], 10)], tmp_path)
    assert parts(labelled, OVER) != before
    skipped = copy.deepcopy(answered(exported[0], 10, "2026-11-02T00:00:00Z"))
    skipped["annotations"][0]["was_cancelled"] = True
    pull(labelled, [skipped], tmp_path)
    assert parts(labelled, OVER) == before


def test_the_manifest_says_whose_labels_they_are(
    labelled: Small, exported: list[dict[str, Any]], tmp_path: Path
) -> None:
    pull(labelled, [answered(exported[0], 10)], tmp_path)
    for config in (AUTO, OVER):
        labelled.run(plan_render, config)
        folder = Path(labelled.run(plan_corpus, config).detail["folder"])
        said = json.loads((folder / "manifest.json").read_text())["metadata"]
        assert said.get("labels", "auto") == config.labels
