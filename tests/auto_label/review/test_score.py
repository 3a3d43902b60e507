"""The whole report, from tables to JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from auto_label.review.score import Report, report
from schemas.tables import TABLES
from tests.auto_label.review.simulated import (
    Scenes,
    answer,
    answers,
    draw,
    events,
    labels,
    replaced,
    verdicts,
)


def scored(rows: pa.Table, **tables: pa.Table) -> Report:
    """A report with empty tables where none is given."""
    empty = {name: TABLES[name].empty() for name in ("events", "views", "boxes", "tracks")}
    return report(verdicts=rows, lead="lead", **{**empty, **tables})


@pytest.fixture(scope="module")
def fleet() -> dict[str, pa.Table]:
    """300 events of which a fifth is wrong, and a model; two reviewers, who see 250 and 100."""
    scenes = Scenes(300)
    dice = np.random.default_rng(11)
    right = dice.uniform(size=300) < 0.8
    said = [np.where(dice.uniform(size=300) < rate, ~right, right) for rate in (0.0, 0.1)]
    words = [np.where(given, "right", "wrong").tolist() for given in said]
    ada = answers(scenes, draw(dice, scenes), words[0]).slice(0, 250)
    bo = answers(scenes, draw(dice, scenes, missed=0.1), words[1], "bo").slice(0, 100)
    model = draw(dice, scenes, missed=0.3, extra=0.4)
    first = model.t_ns == 0
    true = model.track_id[first] <= scenes.objects
    score = np.where(true, dice.beta(4, 2, len(true)), dice.beta(2, 4, len(true)))
    views, boxes, tracks = labels(scenes, model, score)
    mined = events(scenes.names, np.where(right, 0.6, 0.4) + dice.normal(0, 0.08, 300))
    return {
        "rows": pa.concat_tables([ada, bo]),
        "events": mined,
        "views": views,
        "boxes": boxes,
        "tracks": tracks,
    }


def test_a_report_finds_the_rates_of_a_fleet(fleet: dict[str, pa.Table]) -> None:
    found = report(
        verdicts=fleet["rows"],
        lead="ada",
        most=20,
        **{name: fleet[name] for name in ("events", "views", "boxes", "tracks")},
    )
    (trigger,) = found.triggers
    assert (trigger.events, trigger.answered, found.unknown) == (300, 250, 0)
    assert trigger.precision
    assert trigger.precision.value == pytest.approx(0.8, abs=0.08)
    assert trigger.threshold
    assert 0.4 < trigger.threshold.score < 0.6
    for score in found.classes:
        assert score.precision
        assert score.recall
        assert score.recall.value == pytest.approx(0.7, abs=0.08)
        assert score.precision.value == pytest.approx(1.4 / 1.8, abs=0.08)
    (pair,) = found.agreement.pairs
    assert pair.shared == 100
    (calibration,) = found.calibrations
    assert calibration.error_after is not None
    assert calibration.error_after < calibration.error_before
    assert len(found.relabel) == 20
    assert {one.event_id for one in found.relabel} <= {f"event {k:04d}" for k in range(250, 300)}


def test_a_report_is_json_and_the_same_whatever_the_order(fleet: dict[str, pa.Table]) -> None:
    rows = fleet["rows"]
    tables = {name: fleet[name] for name in ("events", "views", "boxes", "tracks")}
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(len(rows))))
    one, two = scored(rows, **tables), scored(shuffled, **tables)
    assert one == two
    assert json.loads(json.dumps(asdict(one), allow_nan=False))["triggers"][0]["answered"] == 250


@pytest.mark.parametrize(
    "changed",
    [{}, {"skipped": True}, {"verdict": "unsure"}, {"verdict": None}],
    ids=["right", "skipped", "unsure", "none"],
)
@pytest.mark.parametrize("known", [True, False])
def test_one_answer_makes_a_report(changed: dict[str, Any], known: bool) -> None:
    mined = events(["event" if known else "other"], [1.0])
    found = scored(verdicts(answer(**changed)), events=mined)
    voted = not changed.get("skipped") and changed.get("verdict", "right") is not None
    assert found.triggers[0].answered == (voted and known)
    assert found.unknown == (voted and not known)
    assert len(found.relabel) == (not (voted and known))
    assert (found.classes, found.calibrations, found.agreement.pairs) == ((), (), ())


def test_nothing_makes_an_empty_report() -> None:
    found = scored(verdicts())
    assert (found.triggers, found.classes, found.calibrations, found.relabel) == ((), (), (), ())
    assert (found.unknown, found.agreement.reviewers, found.agreement.kappa) == (0, (), None)


def test_control_tasks_count_for_reviewers_only(fleet: dict[str, pa.Table]) -> None:
    tables = {name: fleet[name] for name in ("events", "views", "boxes", "tracks")}
    rows = replaced(fleet["rows"], "control", True)
    truth = verdicts(*(answer(name, "lead") for name in fleet["events"]["event_id"].to_pylist()))
    found, alone = scored(pa.concat_tables([truth, rows]), **tables), scored(truth, **tables)
    assert (found.triggers, found.classes, found.calibrations) == (
        alone.triggers,
        alone.classes,
        alone.calibrations,
    )
    assert found.triggers[0].answered == 300
    ada, bo, lead = found.agreement.reviewers
    assert lead.control is None
    assert ada.control
    assert bo.control
    assert (ada.control.trials, bo.control.trials) == (250, 100)
