"""The balance: a lost input fails the job."""

from __future__ import annotations

import pytest

from pipeline.graph.balance import JobReport, check_balance
from schemas.errors import FleetError
from schemas.records import Count


def test_a_lost_input_is_an_error() -> None:
    with pytest.raises(FleetError, match="2 logs went into mine, 1 came out"):
        check_balance("mine", [Count("mine", "logs", kept=1)], {("mine", "logs"): 2})


def test_a_stage_without_counts_has_lost_all_inputs() -> None:
    with pytest.raises(FleetError, match="0 came out"):
        check_balance("mine", [], {("mine", "logs"): 2})
    check_balance("mine", [], {("mine", "logs"): 0})


def test_the_rejected_fraction_is_that_of_the_worst_line() -> None:
    counts = (Count("ingest", "logs", kept=99, rejected=1), Count("label", "events", 1, 0, 1))
    assert JobReport("run", "r", counts, 1, 1.0).rejected_fraction() == 0.5
    assert JobReport("run", "r", (), 1, 1.0).rejected_fraction() == 0.0
