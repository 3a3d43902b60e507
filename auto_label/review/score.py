"""What reviewers' answers say of triggers, models, reviewers, and of what to label next."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from auto_label.review.accuracy import ClassScore, class_scores, compare
from auto_label.review.agreement import Agreement, agreement
from auto_label.review.calibration import Calibration, calibrated, curves
from auto_label.review.relabel import Next, next_to_label
from auto_label.review.resolve import drawn, event_verdicts, known, standing
from auto_label.review.triggers import TriggerScore, trigger_scores


@dataclass(frozen=True, slots=True)
class Report:
    """All scores; dataclasses.asdict makes it JSON.

    `unknown` counts the events with a verdict that are not among the events.
    """

    triggers: tuple[TriggerScore, ...]
    unknown: int
    classes: tuple[ClassScore, ...]
    agreement: Agreement
    calibrations: tuple[Calibration, ...]
    relabel: tuple[Next, ...]


def report(
    *,
    verdicts: pa.Table,
    events: pa.Table,
    views: pa.Table,
    boxes: pa.Table,
    tracks: pa.Table,
    lead: str | None = None,
    most: int = 100,
) -> Report:
    """Scores triggers, models and reviewers by the answers that stand.

    Control tasks were chosen and not drawn, so that they count only for the reviewers: their
    answers are left out of the scores of triggers and models.

    Args:
        verdicts: rows of `verdicts` in any order.
        events: rows of `events`.
        views: rows of `views`.
        boxes: rows of `boxes`, of one specification for each event.
        tracks: rows of `tracks` of the same specifications.
        lead: the reviewer whose answer decides ties.
        most: how many events are listed to label next at most.

    Raises:
        ValueError: a verdict is unknown, an event has boxes of several specifications, or boxes
            have no track.
    """
    counted = drawn(verdicts)
    judged = event_verdicts(counted, lead)
    triggers = trigger_scores(events, judged)
    answers = standing(counted, lead)
    compared = compare(answers, views, boxes)
    calibrations = calibrated(compared, tracks, answers)
    return Report(
        triggers=triggers,
        unknown=len(judged) - sum(trigger.answered for trigger in triggers),
        classes=tuple(score for one in compared for score in class_scores(one)),
        agreement=agreement(verdicts, known(answers, lead)),
        calibrations=calibrations,
        relabel=next_to_label(
            events,
            views,
            tracks,
            standing(verdicts, lead),
            triggers=triggers,
            curves=curves(calibrations),
            most=most,
        ),
    )
