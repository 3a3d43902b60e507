"""Scores of mined events against the ground truth of a synthetic fleet."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.times import Span

TRIGGER_OF = {"pedestrian_crossing": "vru_near"}
"""Types of truth events whose trigger has another name."""


@dataclass(frozen=True, slots=True, order=True)
class Score:
    """The score of one trigger.

    `truth` is the number of true events, `found` of mined ones, `matched` of pairs of both.
    """

    trigger: str
    truth: int
    found: int
    matched: int

    @property
    def precision(self) -> float:
        """Share of the mined events that are true; 1 if there are none."""
        return self.matched / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the true events that were mined; 1 if there are none."""
        return self.matched / self.truth if self.truth else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall.

        >>> Score("swerve", truth=4, found=4, matched=3).f1
        0.75
        """
        both = self.truth + self.found
        return 2 * self.matched / both if both else 1.0


def score_events(events: pa.Table, truth: pa.Table) -> tuple[Score, ...]:
    """Scores every trigger that has true events.

    An event matches a true event of its trigger if its island (the time in which the
    condition held, without the margins) overlaps the true span. Each matches at most once,
    in temporal order, so that a second event for one manoeuvre is a false positive.

    Args:
        events: rows of `events`, with an additional column log_name, the log's name.
        truth: rows of truth/events.parquet of a synthetic fleet: log_name, type, start_ns,
            end_ns.

    Returns:
        Scores sorted by trigger.
    """
    truths: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for kind, log, start_ns, end_ns in _rows(truth, "type", "log_name", "start_ns", "end_ns"):
        truths[TRIGGER_OF.get(kind, kind), log].append(Span(start_ns, end_ns))
    found: dict[tuple[str, str], list[Span]] = defaultdict(list)
    for trigger, log, evidence in _rows(events, "trigger", "log_name", "evidence"):
        island = json.loads(evidence)
        found[trigger, log].append(Span(island["start_ns"], island["end_ns"] + 1))
    return tuple(
        Score(
            trigger,
            sum(len(spans) for key, spans in truths.items() if key[0] == trigger),
            sum(len(spans) for key, spans in found.items() if key[0] == trigger),
            sum(_matches(found[key], truths[key]) for key in sorted(truths) if key[0] == trigger),
        )
        for trigger in sorted({trigger for trigger, _ in truths})
    )


def _matches(found: list[Span], truths: list[Span]) -> int:
    """Counts pairs of overlapping spans, each span once, the earliest first."""
    free = sorted(found)
    matched = 0
    for truth in sorted(truths):
        for span in free:
            if span.start_ns < truth.end_ns and truth.start_ns < span.end_ns:
                free.remove(span)
                matched += 1
                break
    return matched


def _rows(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)
