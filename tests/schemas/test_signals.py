"""The signal registry: names with units, tolerances, and the columns of `signals`."""

from __future__ import annotations

import pyarrow as pa
import pytest

from schemas.signals import SIGNAL, SIGNALS, Signal
from schemas.tables import TABLES
from schemas.times import GRID_NS, NS_PER_S

UNITS = ("mps", "mps2", "radps", "rad", "frac", "deg", "m")


def test_names_are_unique_and_the_columns_of_the_table() -> None:
    assert list(SIGNAL.values()) == list(SIGNALS)
    assert TABLES["signals"].schema.names == ["log_id", "t_ns", *SIGNAL]
    assert all(TABLES["signals"].schema.field(s.name).type == s.type for s in SIGNALS)


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_a_signal_is_well_formed(signal: Signal) -> None:
    assert signal.doc
    # Below two grid steps there would be nulls between samples of a usual rate.
    assert 2 * GRID_NS <= signal.tolerance_ns <= 5 * NS_PER_S
    if signal.kind == "state":
        assert signal.type in {pa.bool_(), pa.string()}
    else:
        assert signal.type == pa.float64()
        assert signal.name.rsplit("_", 1)[-1] in UNITS, "a physical quantity names its unit"
    assert (signal.kind == "angle") == (signal.name == "heading_rad")
