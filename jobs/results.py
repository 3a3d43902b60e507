"""What several commands show of a lake and its corpora."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from jobs.reporting import Reporter
from pipeline.graph.balance import JobReport
from pipeline.lake.tables import Lake
from transforms.storage import get


def show_events(reporter: Reporter, lake: Lake) -> dict[str, int]:
    """Prints and returns the number of events in the lake by trigger."""
    triggers = lake.read("events", columns=["trigger"])["trigger"].to_pylist()
    found = dict(sorted(Counter(triggers).items()))
    reporter.table("events in the lake", ("trigger", "events"), list(found.items()))
    return found


def snapshot_document(report: JobReport) -> dict[str, Any]:
    """Reads what a corpus job published: where it lies, its root hash, its balance."""
    folder = report.detail["folder"]
    manifest = json.loads(get(f"{folder}/manifest.json"))
    plan = json.loads(get(f"{folder}/plan.json"))
    return {"url": folder, "root": manifest["root"], "name": manifest["name"], **balance(plan)}


FEW_UNITS = 12
"""A machine of so many units is shown unit by unit."""


def balance(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Sums up a plan: samples and bytes a unit by split, and the worst imbalance."""
    return {
        "topology": plan["topology"]["name"],
        "unit": plan["topology"]["unit"],
        "splits": {
            name: {
                "units": len(split["unit_bytes"]),
                "samples": split["samples"],
                "bytes": split["bytes"],
                "samples_per_unit": split["samples_per_unit"],
                "read_twice": split["repeated"],
                "bytes_least": min(split["unit_bytes"]),
                "bytes_most": max(split["unit_bytes"]),
                "imbalance": split["imbalance"],
                "unit_bytes": split["unit_bytes"] if len(split["unit_bytes"]) <= FEW_UNITS else [],
            }
            for name, split in plan["splits"].items()
        },
    }


def show_snapshot(reporter: Reporter, snapshot: Mapping[str, Any]) -> None:
    """Prints where a snapshot lies and how it fills its machine."""
    reporter.text(f"snapshot   {snapshot['url']}")
    reporter.text(f"root hash  {snapshot['root']}")
    reporter.text()
    show_balance(reporter, snapshot)


def show_balance(reporter: Reporter, plan: Mapping[str, Any]) -> None:
    """Prints what each unit of a machine reads."""
    unit = plan["unit"]
    reporter.table(
        f"balance on {plan['topology']}",
        (
            "split",
            "samples",
            f"{unit}s",
            f"samples a {unit}",
            "read twice",
            f"bytes, least {unit}",
            f"bytes, most {unit}",
            "most over mean",
        ),
        [
            (
                name,
                split["samples"],
                split["units"],
                split["samples_per_unit"],
                split["read_twice"],
                split["bytes_least"],
                split["bytes_most"],
                f"{split['imbalance']:.4f}",
            )
            for name, split in plan["splits"].items()
        ],
    )
    rows = [
        (name, number, split["samples_per_unit"], size, f"{size / mean:.4f}")
        for name, split in plan["splits"].items()
        if (mean := sum(split["unit_bytes"]) / max(len(split["unit_bytes"]), 1))
        for number, size in enumerate(split["unit_bytes"])
    ]
    if rows:
        columns = ("split", unit, "samples", "bytes", "over mean")
        reporter.table(f"what each {unit} reads", columns, rows)
