"""Whereabouts: what of a log is read to know where it was, and when."""

from __future__ import annotations

import numpy as np

from pipeline.lake.locate import locate
from pipeline.stages.whereabouts import SOURCES, Whereabouts
from schemas.signals import SIGNAL
from schemas.times import NS_PER_S, Span
from tests.pipeline.stages.conftest import Small


def test_positions_are_those_of_the_span_and_shortly_beside_it(mined: Small) -> None:
    log = mined.rows("logs")[0]
    places = locate(mined.lake(), SOURCES, [log["log_id"]])
    files = {table: found[log["log_id"]] for table, found in places.items()}
    whole = Whereabouts.read(files, log["log_id"])
    rows = sorted(
        (row["t_ns"], row["lat_deg"], row["lon_deg"])
        for row in mined.rows("signals")
        if row["log_id"] == log["log_id"] and row["lat_deg"] is not None
    )
    assert whole.track.t_ns.tolist() == [t_ns for t_ns, _, _ in rows]
    assert whole.track.lat_deg.tolist() == [lat for _, lat, _ in rows]
    assert (whole.clock.start_ns, whole.clock.start_local) == (log["start_ns"], log["start_local"])
    span = Span(4 * NS_PER_S, 5 * NS_PER_S)
    part = Whereabouts.read(files, log["log_id"], span)
    around = SIGNAL["lat_deg"].tolerance_ns
    t_ns = whole.track.t_ns
    near = (t_ns >= span.start_ns - around) & (t_ns < span.end_ns + around)
    np.testing.assert_array_equal(part.track.t_ns, t_ns[near])
    assert 0 < near.sum() < len(near)
