"""The balance: a lost input fails the job."""

from __future__ import annotations

import pytest

from pipeline.graph.balance import JobReport, check_balance
from schemas.errors import FleetError
from schemas.records import Count


def test_a_lost_input_is_said() -> None:
    """Two went in, one came out."""
    with pytest.raises(FleetError, match="2 logs went into mine, 1 came out"):
        check_balance("mine", [Count("mine", "logs", kept=1)], {("mine", "logs"): 2})


def test_a_stage_that_counted_nothing_lost_everything() -> None:
    """No line at all is no balance either."""
    with pytest.raises(FleetError, match="0 came out"):
        check_balance("mine", [], {("mine", "logs"): 2})
    check_balance("mine", [], {("mine", "logs"): 0})


def test_the_worst_line_decides_the_reject_limit() -> None:
    """A stage of few inputs counts as much as one of many."""
    counts = (Count("ingest", "logs", kept=99, rejected=1), Count("label", "events", 1, 0, 1))
    assert JobReport("run", "r", counts, 1, 1.0).rejected_fraction() == 0.5
    assert JobReport("run", "r", (), 1, 1.0).rejected_fraction() == 0.0
