"""Runs benchmarks: one JSON line per measure on stdout, a readable table on stderr."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys

import benchmarks
from benchmarks import Measure

WANTED = {
    "can_decode": 20.0,
    "mcap": 10.0,
    "packet_index": 20.0,
    "index_bytes": 500.0,
    "ingest": 1_500.0,
    "mine": 20_000.0,
    "mine_truth": 0.97,
    "replan_lake": 1.0,
    "link": 1.0,
    "ego_path": 1.0,
    "label": 0.9,
    "blur": 0.6,
    "sparse_decode": 1.0,
    "plan": 1.0,
    "balance": 1.0,
    "assemble_cat": 0.7,
    "assemble_shardwriter": 2.0,
    "review_push": 0.67,
    "queries": 1.0,
    "beam_overhead": 0.8,
}
"""Target ratio of every measure; 1 where the peer is a limit."""


def known_names() -> list[str]:
    """Lists the benchmarks: the modules of this package with a public name."""
    modules = pkgutil.iter_modules(benchmarks.__path__)
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def main(names: list[str]) -> int:
    """Runs the named benchmarks, or all if none is named.

    Returns:
        0, or 2 if a name is unknown; the known ones run all the same.
    """
    known = known_names()
    unknown = sorted(set(names) - set(known))
    if unknown:
        sys.stderr.write(
            f"unknown benchmark {', '.join(map(repr, unknown))}; "
            f"choose one of: {', '.join(known)}\n"
        )
    for name in [name for name in names or known if name in known]:
        for measure in importlib.import_module(f"benchmarks.{name}").measure():
            sys.stdout.write(json_line(measure) + "\n")
            sys.stdout.flush()
            sys.stderr.write(
                f"{measure.name:<22}{measure.ours:>14,.4g} {measure.unit:<28}"
                f"{measure.ratio:>8.2f} x {measure.peer_name}"
                f"  (wanted {WANTED.get(measure.name, 1.0):g})\n"
            )
    return 2 if unknown else 0


def json_line(measure: Measure) -> str:
    """Formats a measure as the JSON object that programs read."""
    return json.dumps(
        {
            "name": measure.name,
            "ours": measure.ours,
            "peer": measure.peer,
            "peer_name": measure.peer_name,
            "ratio": round(measure.ratio, 4),
            "unit": measure.unit,
            "detail": measure.detail,
        }
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
