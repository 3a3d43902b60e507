"""Runs the measures: one JSON line each on stdout, a readable table on stderr."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys

import benchmarks

WANTED = {
    "can_decode": 10.0,
    "packet_index": 5.0,
    "index_bytes": 100.0,
    "ingest": 100.0,
    "mine": 20_000.0,
    "mine_truth": 0.97,
    "link": 1.0,
    "ego_path": 1.0,
    "label": 0.85,
    "sparse_decode": 1.0,
    "plan": 1.0,
    "balance": 1.0,
    "assemble_cat": 0.7,
    "assemble_shardwriter": 2.0,
    "queries": 1.0,
    "beam_overhead": 0.8,
}
"""The ratio that each measure aims at; a limit as a peer makes it 1."""


def main(names: list[str]) -> int:
    """Runs the named measures, all without names; returns 2 on an unknown name."""
    known = sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if not module.name.startswith("_")
    )
    unknown = sorted(set(names) - set(known))
    if unknown:
        sys.stderr.write(f"no measure {', '.join(unknown)}; choose from: {', '.join(known)}\n")
        return 2
    for name in names or known:
        for measure in importlib.import_module(f"benchmarks.{name}").measure():
            line = {
                "name": measure.name,
                "ours": measure.ours,
                "peer": measure.peer,
                "peer_name": measure.peer_name,
                "ratio": round(measure.ratio, 4),
                "unit": measure.unit,
                "detail": measure.detail,
            }
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            sys.stderr.write(
                f"{measure.name:<22}{measure.ours:>14,.4g} {measure.unit:<28}"
                f"{measure.ratio:>8.2f} x {measure.peer_name}"
                f"  (wanted {WANTED.get(measure.name, 1.0):g})\n"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
