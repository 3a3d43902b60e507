"""How accurate models are: their boxes against those of the answers that stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label.review.matching import (
    Boxes,
    Lookup,
    frames_of,
    match_boxes,
    model_boxes,
    number_names,
    reviewed_boxes,
    views_of,
)
from auto_label.review.rates import Rate, clustered_rate
from schemas.arrays import BoolArray, FloatArray, IntArray

Model = tuple[str, str]
"""A model's source and source_version."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The boxes of one model and the reviewed ones, on the frames of both.

    Args:
        source: the model's name.
        source_version: its version.
        event: int64[v], the number of the event of each view.
        found: n boxes of the model.
        overlap: float64[n], the IoU of each with the reviewed box that it matches, 0 if none.
        reviewed: m boxes of reviewers.
    """

    source: str
    source_version: str
    event: IntArray
    found: Boxes
    overlap: FloatArray
    reviewed: Boxes


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The boxes of one class by one model, over `events` with such boxes.

    `mean_iou` is that of the true positives; None without any. precision is None where the
    model has no such boxes, recall where the reviewers have none.
    """

    source: str
    source_version: str
    class_name: str
    events: int
    true_positives: int
    false_positives: int
    false_negatives: int
    precision: Rate | None
    recall: Rate | None
    mean_iou: float | None


def compare(answers: pa.Table, views: pa.Table, boxes: pa.Table) -> list[Compared]:
    """Compares the boxes of every model with those of reviewers, frame by frame.

    Only frames count that an answer speaks about and that the model looked at; a model that
    found nothing on them missed all that is there.

    Args:
        answers: rows of `verdicts`, at most one for each camera of an event.
        views: rows of `views`, which say where each model looked.
        boxes: rows of `boxes`.

    Returns:
        One comparison of each model that looked at any such frame, ordered by name and version.

    Raises:
        ValueError: an event has boxes of several specifications of labels, which would be
            counted as if the model had given all of them.
    """
    boxes = on_views_of(answers, boxes)
    reviewed, found = reviewed_boxes(answers), model_boxes(boxes, answers)
    view, t_ns = frames_of(answers)
    frames = Lookup(view, t_ns)
    at_reviewed = frames.find(reviewed.view, reviewed.t_ns)
    at_found = frames.find(found.view, found.t_ns)
    event = number_names(answers.column("event_id").to_numpy(zero_copy_only=False))
    made = []
    for model, looks in _by_model(views):
        looked = np.zeros(len(view) + 1, dtype=np.bool_)  # the last is of no frame, row -1
        owner, times = frames_of(looks, "t_ns")
        looked[frames.find(views_of(looks, answers)[owner], times)] = True
        looked[-1] = False
        if looked.any():
            mine = found.at(looked[at_found] & of_model(boxes, model))
            theirs = reviewed.at(looked[at_reviewed])
            pairs = match_boxes(mine, theirs)
            overlap = np.zeros(len(mine.view))
            overlap[pairs.first] = pairs.iou
            made.append(Compared(*model, event, mine, overlap, theirs))
    return made


def of_model(rows: pa.Table, model: Model) -> BoolArray:
    """Tells of each row whether it is of a model, bool[n]."""
    source, version = model
    own = pc.and_(
        pc.equal(rows.column("source"), source), pc.equal(rows.column("source_version"), version)
    )
    return np.asarray(own.to_numpy(), dtype=np.bool_)


def on_views_of(answers: pa.Table, rows: pa.Table) -> pa.Table:
    """Selects the rows of `boxes` or `tracks` of cameras of events that have an answer.

    Raises:
        ValueError: an event has rows of several specifications.
    """
    rows = rows.filter(pa.array(views_of(rows, answers) >= 0))
    pairs = rows.group_by(["event_id", "spec_digest"]).aggregate([])
    counts = pairs.group_by("event_id").aggregate([("spec_digest", "count")])
    several = counts.filter(pc.greater(counts.column("spec_digest_count"), 1))
    if len(several):
        raise ValueError(
            f"{len(several)} events have labels of several specifications, event "
            f"{pc.min(several.column('event_id'))} for example: pass those of one"
        )
    return rows


def class_scores(compared: Compared) -> tuple[ClassScore, ...]:
    """Counts true and false positives and false negatives of every class.

    Frames of one track are not independent, nor are objects of one event, so that the intervals
    take the event as the unit (see clustered_rate).

    Returns:
        Scores of the classes that the model or a reviewer gave, ordered by name.
    """
    found, reviewed = compared.found, compared.reviewed
    hit, events = compared.overlap > 0, int(compared.event.max()) + 1

    def count(boxes: Boxes, rows: BoolArray) -> IntArray:
        return np.bincount(compared.event[boxes.view[rows]], minlength=events)

    scores = []
    for name in sorted({*found.name.tolist(), *reviewed.name.tolist()}):
        own, true = found.name == name, reviewed.name == name
        hits, given, there = count(found, own & hit), count(found, own), count(reviewed, true)
        positives = int(hits.sum())
        scores.append(
            ClassScore(
                compared.source,
                compared.source_version,
                name,
                events=int(np.count_nonzero(given + there)),
                true_positives=positives,
                false_positives=int(given.sum()) - positives,
                false_negatives=int(there.sum()) - positives,
                precision=clustered_rate(hits, given),
                recall=clustered_rate(hits, there),
                mean_iou=float(compared.overlap[own & hit].mean()) if positives else None,
            )
        )
    return tuple(scores)


def _by_model(views: pa.Table) -> Iterator[tuple[Model, pa.Table]]:
    """Yields the views of every model."""
    names = views.group_by(["source", "source_version"]).aggregate([]).to_pylist()
    for model in sorted((row["source"], row["source_version"]) for row in names):
        yield model, views.filter(pa.array(of_model(views, model)))
