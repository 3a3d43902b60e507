from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.reporting import Reporter
from jobs.results import FEW_UNITS, balance, show_balance
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call


def test_the_balance_sums_up_the_plan(chain: Chain) -> None:
    snapshot = chain.ended["corpus"].document["snapshot"]
    plan = json.loads((Path(snapshot["url"]) / "plan.json").read_text())
    assert balance(plan).items() <= snapshot.items()
    for name, split in plan["splits"].items():
        found = snapshot["splits"][name]
        assert found["units"] == len(split["units"]) == 6
        assert found["bytes_least"] == min(split["unit_bytes"])
        assert found["bytes_most"] == max(split["unit_bytes"])
        assert sum(unit[2] for ranges in split["units"] for unit in ranges) == (
            found["samples_per_unit"] * found["units"]
        )


@pytest.mark.parametrize(("units", "listed"), [(FEW_UNITS, True), (FEW_UNITS + 1, False)])
def test_a_few_units_are_shown_one_by_one(
    units: int, listed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    split = {
        "unit_bytes": [100 + unit for unit in range(units)],
        "samples": 5 * units,
        "bytes": 100 * units,
        "samples_per_unit": 5,
        "repeated": 0,
        "imbalance": 1.01,
    }
    plan = {"topology": {"name": "pod", "unit": "tile"}, "splits": {"train": split}}
    show_balance(Reporter(as_json=False), balance(plan))
    out = capsys.readouterr().out
    assert "balance on pod" in out
    assert ("what each tile reads" in out) == listed
    assert (str(99 + units) in out.split("what each tile reads")[-1]) is True


def test_the_tables_say_what_the_document_says(chain: Chain) -> None:
    """Printed again: there is nothing new, and the lake and the snapshot are the same."""
    mined = call("mine", "--lake", chain.lake).out
    for trigger, number in chain.ended["mine"].document["events"].items():
        assert [trigger, str(number)] in [line.split() for line in mined.splitlines()]
    built = call("corpus", "first", "--lake", chain.lake, "--topology", "dojo-tray").out
    snapshot = chain.ended["corpus"].document["snapshot"]
    assert f"snapshot   {snapshot['url']}" in built
    assert f"root hash  {snapshot['root']}" in built
