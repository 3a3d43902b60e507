"""Ticks, and the triggers that sample with them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from schemas.times import NS_PER_S, ns
from transforms.triggers import load_triggers
from transforms.triggers.engine import Miner, ticks


def _logs(durations_s: list[float]) -> pa.Table:
    ids = [f"log-{k:05d}" for k in range(len(durations_s))]
    return pa.table({"log_id": ids, "drive_id": ids, "duration_ns": [ns(d) for d in durations_s]})


def test_one_a_second_inside_the_log() -> None:
    """ceil(d) ticks, ascending, one in each of as many equal slots."""
    table = ticks(_logs([8.84, 0.5, 0.0, 60.0]))
    counts = {row["values"]: row["counts"] for row in table["log_id"].value_counts().to_pylist()}
    assert counts == {"log-00000": 9, "log-00001": 1, "log-00003": 60}
    t = table["t_ns"].to_numpy()[-60:]
    assert (t // NS_PER_S).tolist() == list(range(60))
    assert ((table["uniform"].to_numpy() >= 0) & (table["uniform"].to_numpy() < 1)).all()


@pytest.mark.parametrize(
    ("duration_s", "events"), [(8.84, 1), (0.5, 1), (0.02, 1), (60, 1), (89, 1), (91, 2), (600, 10)]
)
def test_uniform_sample_counts(duration_s: float, events: int) -> None:
    """One event per minute or so, at least one per log, inside the log."""
    logs = _logs([duration_s] * 5)
    found = Miner(load_triggers(), "ticks").mine(ticks(logs), logs)
    assert [sum(e.log_id == i for e in found) for i in logs["log_id"].to_pylist()] == [events] * 5
    for event in found:
        assert 0 <= event.start_ns <= event.anchor_ns < event.end_ns <= ns(duration_s)
        assert event.end_ns - event.start_ns <= 3 * NS_PER_S
    anchors = [e.anchor_ns for e in found if e.log_id == "log-00000"]
    blocks = [int(a * events // ns(duration_s)) for a in anchors]
    assert blocks == list(range(events))


@pytest.mark.parametrize("duration_s", [8.84, 130.5])
def test_every_instant_is_equally_likely(duration_s: float) -> None:
    """Chi-square over 20 bins of 3,000 logs: the 99.9% point of 19 degrees is 43.8."""
    logs = _logs([duration_s] * (3000 if duration_s < 60 else 600))
    found = Miner(load_triggers(), "ticks").mine(ticks(logs), logs)
    share = np.array([event.anchor_ns for event in found]) / ns(duration_s)
    counts, _ = np.histogram(share, bins=20, range=(0, 1))
    expected = len(found) / 20
    assert ((counts - expected) ** 2 / expected).sum() < 43.8
