"""`fleetmill review score`: what the answers of reviewers say of triggers, models and reviewers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from auto_label.review.rates import Rate
from auto_label.review.score import Report, report
from jobs.options import AsJson, LakeUrl
from jobs.reporting import Reporter
from pipeline.lake.tables import Lake
from pipeline.stages.selection import label_digests, rows_of_labels
from schemas.errors import UsageError


def review_score(
    *,
    lake: LakeUrl,
    lead: Annotated[
        str | None,
        typer.Option(
            "--lead", metavar="NAME", help="The reviewer whose answer decides between equal ones."
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", metavar="N", min=0, help="Events to review next, at most.")
    ] = 20,
    privacy: Annotated[
        str, typer.Option("--privacy", metavar="NAME", help="The policy of the clips in review.")
    ] = "blur",
    json: AsJson = False,
) -> None:
    """Score triggers, models and reviewers by the answers in the lake.

    Of several answers the verdict of most reviewers stands. Models are compared with the boxes
    that stand, on the frames that both looked at; intervals are of 95 %.

        fleetmill review score --lake L
    """
    found = scores(Lake.open(lake), lead, privacy, most)
    reporter = Reporter(json)
    _show(reporter, found)
    reporter.document(asdict(found))


def scores(lake: Lake, lead: str | None, privacy: str, most: int) -> Report:
    """Scores the answers in a lake; models by the labels that events have now.

    Raises:
        UsageError: there is no answer yet.
    """
    verdicts = lake.read("verdicts")
    if not verdicts.num_rows:
        raise UsageError(
            f"{lake.url}: has no answers of reviewers yet; push events with `fleetmill review "
            "push`, and take the answers with `fleetmill review pull`"
        )
    labels = label_digests(lake, privacy)
    return report(
        verdicts=verdicts,
        events=lake.read("events"),
        views=lake.read("views"),
        boxes=rows_of_labels(lake, "boxes", labels, verdicts["event_id"]),
        tracks=rows_of_labels(lake, "tracks", labels),
        lead=lead,
        most=most,
    )


def _show(reporter: Reporter, found: Report) -> None:
    reporter.table(
        "triggers",
        (
            "trigger",
            "events",
            "answered",
            "right",
            "wrong",
            "unsure",
            "precision",
            "95 %",
            "keep from",
        ),
        [
            (
                one.trigger,
                one.events,
                one.answered,
                one.right,
                one.wrong,
                one.unsure,
                *_rate(one.precision),
                "" if one.threshold is None else f"{one.threshold.score:.3g}",
            )
            for one in found.triggers
            if one.answered
        ],
    )
    reporter.table(
        "models",
        (
            "model",
            "class",
            "right",
            "wrong",
            "missed",
            "precision",
            "95 %",
            "recall",
            "95 %",
            "IoU",
        ),
        [
            (
                one.source,
                one.class_name,
                one.true_positives,
                one.false_positives,
                one.false_negatives,
                *_rate(one.precision),
                *_rate(one.recall),
                _number(one.mean_iou),
            )
            for one in found.classes
        ],
    )
    reporter.table(
        "reviewers",
        ("reviewer", "answers", "skipped", "seconds", "control tasks", "right", "95 %"),
        [
            (
                one.reviewer,
                one.answers,
                one.skipped,
                _number(one.seconds),
                one.control.trials if one.control else "",
                *_rate(one.control),
            )
            for one in found.agreement.reviewers
        ],
    )
    reporter.table("pairs of reviewers", _PAIRS, list(_pairs(found)))
    reporter.table(
        "calibration of tracks",
        ("model", "tracks", "right", "error", "error once calibrated"),
        [
            (one.source, one.tracks, one.right, _number(one.error_before), _number(one.error_after))
            for one in found.calibrations
        ],
    )
    reporter.table(
        "to review next",
        ("event", "camera", "because of", "uncertainty"),
        [(one.event_id, one.camera or "", one.reason, _number(one.value)) for one in found.relabel],
    )


_PAIRS = ("first", "second", "events", "agreed", "kappa", "boxes", "IoU")


def _pairs(found: Report) -> Iterator[tuple[object, ...]]:
    for one in found.agreement.pairs:
        yield (
            one.first,
            one.second,
            one.shared,
            one.agreed,
            _number(one.kappa),
            one.boxes,
            _number(one.mean_iou),
        )


def _rate(rate: Rate | None) -> tuple[str, str]:
    if rate is None:
        return "", ""
    return f"{rate.value:.3f}", f"{rate.low:.3f} to {rate.high:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
