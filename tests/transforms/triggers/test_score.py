"""Scores of cases counted by hand."""

from __future__ import annotations

import pyarrow as pa

from transforms.triggers.score import Score, score_events


def _events(*rows: tuple[str, str, int, int]) -> pa.Table:
    return pa.table(
        {
            "trigger": [row[0] for row in rows],
            "log_name": [f"drive/{row[1]}" for row in rows],
            "evidence": [f'{{"end_ns":{row[3]},"peak":1.0,"start_ns":{row[2]}}}' for row in rows],
        }
    )


def _truth(*rows: tuple[str, str, int, int]) -> pa.Table:
    names = ("type", "log_name", "start_ns", "end_ns")
    return pa.table([list(column) for column in zip(*rows, strict=True)], names=names)


def test_each_matches_once() -> None:
    """A second event of one truth is a false positive; logs are matched separately."""
    truth = _truth(
        ("swerve", "drive/a", 10, 20), ("swerve", "drive/a", 50, 60), ("swerve", "drive/b", 10, 20)
    )
    events = _events(
        ("swerve", "a", 12, 13),
        ("swerve", "a", 15, 18),
        ("swerve", "b", 20, 30),
        ("lane_change", "a", 50, 55),
    )
    (score,) = score_events(events, truth)
    assert score == Score("swerve", truth=3, found=3, matched=1)
    assert (score.precision, score.recall, score.f1) == (1 / 3, 1 / 3, 1 / 3)


def test_an_instant_touches_its_span() -> None:
    """A single row at the truth's start matches, one at its end does not."""
    truth = _truth(("pedestrian_crossing", "drive/a", 10, 20))
    assert score_events(_events(("vru_near", "a", 10, 10)), truth)[0].matched == 1
    assert score_events(_events(("vru_near", "a", 20, 20)), truth)[0].matched == 0


def test_nothing_is_perfect() -> None:
    """Without true and mined events the scores are perfect."""
    assert Score("swerve", 0, 0, 0).f1 == 1.0
