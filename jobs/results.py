"""What several commands print about a lake and its corpora."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.reporting import Reporter
from pipeline.graph.balance import JobReport
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import read_rows
from transforms.storage import get


def events_result(reporter: Reporter, lake: Lake, _: Sequence[JobReport]) -> dict[str, Any]:
    """Prints and returns the number of events in the lake by trigger."""
    rows = read_rows(lake, "SELECT trigger, count(*) AS n FROM events GROUP BY 1 ORDER BY 1")
    found = dict(zip(rows["trigger"].to_pylist(), rows["n"].to_pylist(), strict=True))
    reporter.table("events in the lake", ("trigger", "events"), list(found.items()))
    return {"events": found}


def snapshot_result(reporter: Reporter, _: Lake, reports: Sequence[JobReport]) -> dict[str, Any]:
    """Prints and returns what the last report's job, a corpus, published."""
    snapshot = snapshot_document(reports[-1])
    reporter.text(f"snapshot   {snapshot['url']}")
    reporter.text(f"root hash  {snapshot['root']}")
    reporter.text()
    show_balance(reporter, snapshot)
    return {"snapshot": snapshot}


def snapshot_document(report: JobReport) -> dict[str, Any]:
    """Reads what a corpus job published: its URL, its root hash, its balance."""
    folder = report.detail["folder"]
    manifest = json.loads(get(f"{folder}/manifest.json"))
    plan = json.loads(get(f"{folder}/plan.json"))
    return {"url": folder, "root": manifest["root"], "name": manifest["name"], **balance(plan)}


FEW_UNITS = 12
"""A topology of at most this many units is shown unit by unit."""


def balance(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Summarises a plan: samples and bytes per unit of each split, and the worst imbalance."""
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


def show_balance(reporter: Reporter, plan: Mapping[str, Any]) -> None:
    """Prints what each unit of a topology reads, given what `balance` returned."""
    unit = plan["unit"]
    columns: tuple[str, ...] = (
        "split",
        "samples",
        f"{unit}s",
        f"samples a {unit}",
        "read twice",
        f"bytes, least {unit}",
        f"bytes, most {unit}",
        "most over mean",
    )
    rows: list[tuple[Any, ...]] = [
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
    ]
    reporter.table(f"balance on {plan['topology']}", columns, rows)
    rows = [
        (name, number, split["samples_per_unit"], size, f"{size / mean:.4f}")
        for name, split in plan["splits"].items()
        if (mean := sum(split["unit_bytes"]) / max(len(split["unit_bytes"]), 1))
        for number, size in enumerate(split["unit_bytes"])
    ]
    if rows:
        columns = ("split", unit, "samples", "bytes", "over mean")
        reporter.table(f"what each {unit} reads", columns, rows)
