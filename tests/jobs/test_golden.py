"""The rows of a small lake against those that the code before the last redesign wrote.

`golden.json` describes every table: its rows, and of each column a digest of its values, or
their sum where they are floats. Ids and digests are left out: they follow from encoded bytes,
which another version of an encoder may change. Rewrite it (`python -m tests.jobs.test_golden
LAKE`) only in a change that is meant to change rows, and say so in CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.lake.tables import Lake
from schemas.tables import TABLES
from tests.conftest import Fleetmill

GOLDEN = Path(__file__).with_name("golden.json")
FLEET = ("--drives", "2", "--minutes", "0.5", "--size", "96x64", "--cameras", "front")
RUN = ("--sweep-fps", "1", "--label-fps", "1", "--corpus", "golden", "--topology", "gpu-8")

_LEFT_OUT = ("_id", "digest", "sha256", "uri", "config", "versions", "offset", "length", "size")
_CLOCKS = {"started_ns", "finished_ns", "evidence", "subject", "fingerprint", "task"}
_SEEN = {"faces", "heads", "plates", "held", "area_mean_frac", "area_max_frac"}
"""What networks see, whose last digits may differ from one processor to another."""


def described(url: str) -> dict[str, dict[str, Any]]:
    """Describes the tables of a lake."""
    lake = Lake.open(url)
    return {name: _table(lake.read(name).to_pylist()) for name in sorted(TABLES)}


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Describes rows whatever their order: that follows from ids."""
    names = [name for name in (rows[0] if rows else {}) if _is_described(name)]
    return {"rows": len(rows), **{name: _column([row[name] for row in rows]) for name in names}}


def _is_described(name: str) -> bool:
    return not (name.endswith(_LEFT_OUT) or name in _CLOCKS | _SEEN)


def _column(values: list[Any]) -> Any:
    floats = [value for value in values if isinstance(value, float)]
    if floats:
        finite = [value for value in floats if math.isfinite(value)]
        return {"values": len(finite), "sum": math.fsum(abs(value) for value in finite)}
    texts = sorted(json.dumps(value, sort_keys=True) for value in values)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


@pytest.mark.slow
def test_rows_are_those_of_before(fleetmill: Fleetmill, tmp_path: Path) -> None:
    fleet, lake = tmp_path / "fleet", tmp_path / "lake"
    assert fleetmill("synth", fleet, *FLEET).code == 0
    done = fleetmill("run", "--input", fleet, "--lake", lake, *RUN)
    assert done.code == 0, done.err
    found, golden = described(str(lake)), json.loads(GOLDEN.read_text())
    assert found.keys() == golden.keys()
    for table, columns in golden.items():
        assert found[table].keys() == columns.keys(), table
        for column, expected in columns.items():
            value = found[table][column]
            if isinstance(expected, dict):
                assert value["values"] == expected["values"], (table, column)
                assert value["sum"] == pytest.approx(expected["sum"], rel=1e-6), (table, column)
            else:
                assert value == expected, (table, column)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(described(sys.argv[1]), indent=1, sort_keys=True) + "\n")
