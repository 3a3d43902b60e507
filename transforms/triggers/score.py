"""Scores mined events against the truth about a synthetic fleet."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.times import Span

TRIGGER_OF = {"pedestrian_crossing": "vru_near"}
"""Types of truth events that a trigger of another name targets."""


@dataclass(frozen=True, slots=True, order=True)
class Score:
    """One trigger beside the truth.

    `truth` counts what there was, `found` the events, `matched` the pairs of both.
    """

    trigger: str
    truth: int
    found: int
    matched: int

    @property
    def precision(self) -> float:
        """Share of the events that are true; 1 where there are none."""
        return self.matched / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the truths that were found; 1 where there are none."""
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
    """Counts, for every trigger that some truth is of, truths, events and matches.

    An event matches a truth of its trigger where its island (the stretch in which the
    condition held, without the window around) overlaps the truth's span; each truth and
    each event match once, in order of time, so that a second event for one manoeuvre is a
    false one.

    Args:
        events: rows of `events`, with the column log_name: the name of their log in `logs`.
        truth: rows of truth/events.parquet of a synthetic fleet: log_name, type, start_ns,
            end_ns.

    Returns:
        Scores by trigger, sorted.
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
    """Matches spans that overlap, each once, the earliest first."""
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
