"""How well reviewers agree with each other, and with answers that are known."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label.review.config import VERDICTS
from auto_label.review.matching import (
    Boxes,
    Lookup,
    frames_of,
    match_boxes,
    reviewed_boxes,
    views_of,
)
from auto_label.review.rates import Rate, rate
from auto_label.review.resolve import View, answered, counting, values, votes
from schemas.arrays import IntArray

TRUTH = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("camera", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
    ]
)
"""One camera of an event whose verdict is known."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two reviewers, by the cameras of events that both gave a verdict on.

    Args:
        first: the reviewer whose name comes first.
        second: the other.
        shared: cameras of events that both gave a verdict on.
        agreed: those on which they gave the same.
        kappa: Cohen's kappa; None where it is undefined.
        boxes: boxes of both on the frames that both speak about.
        matched: the share of those boxes that match one of the other; None without any.
        mean_iou: the mean IoU of matched boxes; None without any.
    """

    first: str
    second: str
    shared: int
    agreed: int
    kappa: float | None
    boxes: int
    matched: float | None
    mean_iou: float | None


@dataclass(frozen=True, slots=True)
class Reviewer:
    """One reviewer: answers that were not skipped, their median time, and control tasks.

    seconds is None where no time is known. control is the share of control tasks with the known
    verdict, without those whose event the reviewer had answered before; None without any. Unsure
    is not right.
    """

    reviewer: str
    answers: int
    skipped: int
    seconds: float | None
    control: Rate | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """All reviewers and all pairs with something in common; kappa is pooled over the pairs."""

    reviewers: tuple[Reviewer, ...]
    pairs: tuple[Pair, ...]
    shared: int
    kappa: float | None


def agreement(verdicts: pa.Table, truth: pa.Table) -> Agreement:
    """Compares the reviewers with each other and with known answers.

    The pooled kappa is (sum of n (observed - expected)) / (sum of n (1 - expected)) over pairs
    with n shared views: De Vries et al., "Using pooled kappa to summarize interrater agreement
    across many items", 2008, weighted by n. Adding up confusion matrices would let it depend on
    which reviewer comes first.

    Args:
        verdicts: rows of `verdicts`, also of control tasks.
        truth: rows of TRUTH, each camera of an event at most once.

    Raises:
        ValueError: the truth has a camera of an event twice, or a verdict is unknown.
    """
    answers = answered(verdicts)
    given: defaultdict[str, dict[View, int]] = defaultdict(dict)
    for vote in votes(answers):
        given[vote.reviewer][vote.event_id, vote.camera] = VERDICTS.index(vote.verdict)
    names = sorted(set(answers["reviewer"].to_pylist()))
    drawn = {name: _newest_views(answers, name) for name in names}
    pairs, matrices = [], []
    for one, two in combinations(names, 2):
        confusion = _confusion(given[one], given[two])
        pair = _pair(one, two, confusion, _overlap(drawn[one], drawn[two]))
        if pair.shared or pair.boxes:
            pairs.append(pair)
            matrices.append(confusion)
    return Agreement(
        _reviewers(verdicts, truth),
        tuple(pairs),
        sum(pair.shared for pair in pairs),
        kappa(*matrices),
    )


def kappa(*confusions: IntArray) -> float | None:
    """Computes Cohen's kappa, (observed - expected) / (1 - expected) (Cohen, 1960).

    Args:
        confusions: int64[k, k], how often the first reviewer gave answer i and the second j;
            several, of as many pairs of reviewers, are pooled.

    Returns:
        Kappa, at most 1; None without answers, or where all are the same one answer, so that
        chance explains any agreement.

    >>> kappa(np.array([[20, 5], [10, 15]]))
    0.4
    """
    above, below = 0.0, 0.0
    for confusion in confusions:
        total = int(confusion.sum())
        if total:
            expected = int(confusion.sum(axis=0) @ confusion.sum(axis=1)) / total
            above += float(np.trace(confusion)) - expected
            below += total - expected
    return above / below if below else None


def _confusion(one: dict[View, int], two: dict[View, int]) -> IntArray:
    """Counts verdicts by those of both reviewers, int64[3, 3]."""
    confusion = np.zeros((len(VERDICTS), len(VERDICTS)), dtype=np.int64)
    for view in one.keys() & two.keys():
        confusion[one[view], two[view]] += 1
    return confusion


def _newest_views(answers: pa.Table, reviewer: str) -> pa.Table:
    """Keeps a reviewer's newest answer to each camera of an event, from rows oldest first."""
    own = answers.filter(pc.equal(answers.column("reviewer"), reviewer))
    newest = {view: row for row, view in enumerate(values(own, "event_id", "camera"))}
    return own.take(pa.array(newest.values(), pa.int64()))


def _overlap(one: pa.Table, two: pa.Table) -> tuple[int, list[float]]:
    """Matches the boxes of two reviewers.

    Returns:
        How many boxes they have on the frames that both speak about, and the IoU of each pair.
    """
    place = views_of(two, one)
    first, second = reviewed_boxes(one), reviewed_boxes(two)
    second = Boxes(place[second.view], second.track_id, second.t_ns, second.name, second.xywh)
    view, t_ns = frames_of(one)
    other_view, other_t_ns = frames_of(two)
    both = Lookup(place[other_view], other_t_ns).find(view, t_ns) >= 0
    frames = Lookup(view[both], t_ns[both])
    first = first.at(frames.find(first.view, first.t_ns) >= 0)
    second = second.at(frames.find(second.view, second.t_ns) >= 0)
    return len(first.view) + len(second.view), match_boxes(first, second).iou.tolist()


def _pair(one: str, two: str, confusion: IntArray, overlap: tuple[int, list[float]]) -> Pair:
    boxes, iou = overlap
    return Pair(
        one,
        two,
        shared=int(confusion.sum()),
        agreed=int(np.trace(confusion)),
        kappa=kappa(confusion),
        boxes=boxes,
        matched=2 * len(iou) / boxes if boxes else None,
        mean_iou=float(np.mean(iou)) if iou else None,
    )


def _reviewers(verdicts: pa.Table, truth: pa.Table) -> tuple[Reviewer, ...]:
    known = {tuple(view): verdict for *view, verdict in values(truth, *TRUTH.names)}
    if len(known) != len(truth):
        raise ValueError("the truth has a camera of an event more than once: keep one row each")
    columns = ["reviewer", "event_id", "camera", "verdict", "skipped", "control", "seconds"]
    by_reviewer: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in counting(verdicts).select(columns).to_pylist():
        by_reviewer[row["reviewer"]].append(row)
    found = []
    for name in sorted(by_reviewer):
        rows = [row for row in by_reviewer[name] if not row["skipped"]]
        seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
        own = {(row["event_id"], row["camera"]) for row in rows if not row["control"]}
        checked = [
            row["verdict"] == known[view]
            for row in rows
            if row["control"] and row["verdict"]
            if (view := (row["event_id"], row["camera"])) in known and view not in own
        ]
        found.append(
            Reviewer(
                name,
                answers=len(rows),
                skipped=len(by_reviewer[name]) - len(rows),
                seconds=median(seconds) if seconds else None,
                control=rate(sum(checked), len(checked)),
            )
        )
    return tuple(found)
