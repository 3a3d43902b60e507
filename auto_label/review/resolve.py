"""Which answers stand: of an annotation, of a reviewer, of a camera, of an event.

All states of all annotations are kept in `verdicts`; what counts is derived here, and depends
neither on the order of the rows nor on older states.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from auto_label.review.config import VERDICTS

View = tuple[str, str]
"""One camera of an event: event_id and camera."""

EVENT_VERDICTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("agreed", pa.int64(), nullable=False),
        pa.field("voters", pa.int64(), nullable=False),
    ]
)
"""One event: the verdict that stands, how many reviewers gave it and how many gave any."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One reviewer's verdict on one camera of an event; `row` is its row of the answers."""

    reviewer: str
    event_id: str
    camera: str
    verdict: str
    row: int


def counting(verdicts: pa.Table) -> pa.Table:
    """Selects the answers that count.

    Of each annotation that is its newest state, and of each reviewer and task the newest of
    these: an annotation that was skipped takes back those before it. An answer to a task of
    several cameras has a row of each.

    Args:
        verdicts: rows of `verdicts` in any order.

    Returns:
        The rows that count, also skipped ones, oldest first.

    Raises:
        ValueError: a verdict is none of VERDICTS.
    """
    unknown = set(verdicts.column("verdict").to_pylist()) - {None, *VERDICTS}
    if unknown:
        raise ValueError(f"verdicts {sorted(unknown)} are none of {', '.join(VERDICTS)}")
    states = _newest(_oldest_first(verdicts), "task", "annotation", "camera")
    return _newest(states, "reviewer", "task", "camera")


def answered(verdicts: pa.Table) -> pa.Table:
    """Selects the answers that count and were not skipped, oldest first."""
    rows = counting(verdicts)
    return rows.filter(pc.invert(rows.column("skipped")))


def votes(answers: pa.Table) -> list[Vote]:
    """Lists one vote for each reviewer and camera of an event: the newest answer with a verdict.

    Args:
        answers: rows of `answered`.

    Returns:
        Votes, oldest first.
    """
    given = values(answers, "reviewer", "event_id", "camera", "verdict")
    newest = {
        (reviewer, event_id, camera): Vote(reviewer, event_id, camera, verdict, row)
        for row, (reviewer, event_id, camera, verdict) in enumerate(given)
        if verdict is not None
    }
    return sorted(newest.values(), key=lambda vote: vote.row)


def drawn(verdicts: pa.Table) -> pa.Table:
    """Selects the answers about drawn events: control tasks are about those that are known.

    Args:
        verdicts: rows of `verdicts`.
    """
    return verdicts.filter(pc.invert(verdicts.column("control")))


def standing(verdicts: pa.Table, lead: str | None = None) -> pa.Table:
    """Finds the answer that stands for each camera of each event.

    The verdict that most reviewers gave stands. If several have equally many, the lead reviewer
    decides between them, or the newest answer where the lead reviewer gave none of them. Its
    boxes are those of the newest answer with that verdict, or of the lead reviewer's answer if
    it has that verdict. Where nobody gave a verdict, the newest answer stands without one.

    Args:
        verdicts: rows of `verdicts` in any order.
        lead: the reviewer whose answer decides ties.

    Returns:
        Rows of `verdicts`, ordered by event_id and camera, with the columns agreed, the number
        of reviewers who gave the verdict, and voters, the number of those who gave any. Cameras
        of which all answers were skipped have no row.

    Raises:
        ValueError: a verdict is none of VERDICTS.
    """
    answers = answered(verdicts)
    chosen = {key: (row, 0, 0) for row, key in enumerate(values(answers, "event_id", "camera"))}
    by_camera: defaultdict[View, list[Vote]] = defaultdict(list)
    for vote in votes(answers):
        by_camera[vote.event_id, vote.camera].append(vote)
    for key, given in by_camera.items():
        vote, agreed = _decide(given, lead)
        chosen[key] = (vote.row, agreed, len(given))
    found = [chosen[key] for key in sorted(chosen)]
    rows = answers.take(pa.array([row for row, _, _ in found], pa.int64()))
    for place, name in ((1, "agreed"), (2, "voters")):
        rows = rows.append_column(
            pa.field(name, pa.int64(), nullable=False),
            pa.array([one[place] for one in found], pa.int64()),
        )
    return rows


def known(answers: pa.Table, lead: str | None = None) -> pa.Table:
    """Selects the answers that are as good as the truth, against which reviewers can be checked.

    Args:
        answers: rows of `standing`.
        lead: the reviewer whose verdict needs no second one.

    Returns:
        The rows whose verdict, right or wrong, the lead reviewer gave, or two reviewers at least.
    """
    sure = pc.is_in(answers.column("verdict"), value_set=pa.array(["right", "wrong"]))
    several = pc.greater_equal(answers.column("agreed"), 2)
    led = pc.equal(answers.column("reviewer"), pa.scalar(lead, pa.string()))
    return answers.filter(pc.and_(sure, pc.or_(several, pc.fill_null(led, False))))


def event_verdicts(verdicts: pa.Table, lead: str | None = None) -> pa.Table:
    """Finds the verdict on each event, for a trigger is right or wrong whatever the camera.

    Every reviewer has one vote by their newest answer to any camera, and the rule is that of
    `standing`. A reviewer who is unsure by one camera but not by another is not unsure of the
    event: not every camera shows it.

    Args:
        verdicts: rows of `verdicts` in any order.
        lead: the reviewer whose answer decides ties.

    Returns:
        Rows of EVENT_VERDICTS, ordered by event_id; only events with a verdict have one.

    Raises:
        ValueError: a verdict is none of VERDICTS.
    """
    given = votes(answered(verdicts))
    # Sure votes come last, so that they replace the unsure ones, and newer ones older ones.
    given.sort(key=lambda vote: (vote.verdict != "unsure", vote.row))
    by_event: defaultdict[str, dict[str, Vote]] = defaultdict(dict)
    for vote in given:
        by_event[vote.event_id][vote.reviewer] = vote
    rows = []
    for event_id in sorted(by_event):
        ballot = sorted(by_event[event_id].values(), key=lambda vote: vote.row)
        vote, agreed = _decide(ballot, lead)
        rows.append((event_id, vote.verdict, agreed, len(ballot)))
    columns = zip(*rows, strict=True) if rows else [()] * len(EVENT_VERDICTS)
    return pa.table([list(column) for column in columns], schema=EVENT_VERDICTS)


def _decide(ballot: Sequence[Vote], lead: str | None) -> tuple[Vote, int]:
    """Returns the vote that stands and how many agree with it; votes are oldest first.

    Of the verdicts that most gave, it is the lead reviewer's vote, or else the newest one.
    """
    counts = Counter(vote.verdict for vote in ballot)
    most = max(counts.values())
    tied = [vote for vote in ballot if counts[vote.verdict] == most]
    return next((vote for vote in tied if vote.reviewer == lead), tied[-1]), most


def _oldest_first(verdicts: pa.Table) -> pa.Table:
    """Orders rows by time, then reviewer, then annotation, and by all columns if these agree."""
    ages = list(values(verdicts, "updated_unix_ns", "reviewer", "annotation"))
    alike = Counter(ages)

    def key(row: int) -> tuple[Any, ...]:
        # Rows have thousands of boxes: their text is written only where it decides.
        text = str(verdicts.slice(row, 1).to_pylist()) if alike[ages[row]] > 1 else ""
        return (*ages[row], text)

    return verdicts.take(pa.array(sorted(range(len(ages)), key=key), pa.int64()))


def _newest(rows: pa.Table, *by: str) -> pa.Table:
    """Keeps the last of the rows that have equal columns `by`."""
    last = {key: row for row, key in enumerate(values(rows, *by))}
    return rows.take(pa.array(sorted(last.values()), pa.int64()))


def values(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    """Returns the values of some columns, row by row."""
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
