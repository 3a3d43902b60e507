"""Random SQL, as queries and as triggers: each case ends as a result or in one line, in its limits.

FLEETMILL_FUZZ_SEED is the seed, FLEETMILL_FUZZ_CASES the number of cases of each kind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from tests.conftest import Tell, environment, limited
from tests.fuzz.sql_cases import MEMORY, TIMEOUT_S

SEED = int(os.environ.get("FLEETMILL_FUZZ_SEED", "12"))
CASES = int(os.environ.get("FLEETMILL_FUZZ_CASES", "60"))

SPARE_BYTES = 500_000_000
SPARE_S = 20.0
"""How much more time than its limit a case may take: for starting, and on a busy machine."""

ALLOWED = {
    "queries": {"result", "usage", "memory", "time", "size", "killed"},
    "triggers": {"result", "refused", "UsageError", "TriggerError", "TimeLimitError"},
}
LIMITS = {"queries": MEMORY, "triggers": 2 * 10**9}


def wrong(kind: str, case: dict[str, Any]) -> str:
    """Says what is wrong with how a case ended; "" if nothing is."""
    if case["outcome"] not in ALLOWED[kind]:
        return f"ended as {case['outcome']}: {case['message']}"
    if case["outcome"] == "killed" and case["signal"] != -signal.SIGALRM:
        return f"ended by signal {-case['signal']}"
    if "\n" in case["message"]:
        return f"more than a line: {case['message']}"
    if case["seconds"] > TIMEOUT_S + SPARE_S:
        return f"took {case['seconds']:.1f} s"
    if case["bytes"] > LIMITS[kind] + SPARE_BYTES:
        return f"took {case['bytes']:,} bytes"
    return ""


@pytest.mark.parametrize("kind", ["queries", "triggers"])
def test_every_case_ends_within_its_limits(kind: str, tell: Tell) -> None:
    command = [sys.executable, "-m", "tests.fuzz.sql_cases", kind, str(SEED), str(CASES)]
    done = subprocess.run(
        limited("RLIMIT_DATA", LIMITS[kind] + 2 * 10**9, command),
        env=environment(ARROW_DEFAULT_MEMORY_POOL="system", MALLOC_ARENA_MAX="2"),
        capture_output=True,
        text=True,
        timeout=60 + CASES * (TIMEOUT_S + SPARE_S),
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    texts, ended = lines[::2], lines[1::2]
    assert done.returncode == 0, f"{done.stderr[-2000:]}\nat seed {SEED}, {texts[-1:]}"
    assert len(ended) == CASES
    faults = [
        f"seed {SEED}, case {at}: {why}\n    {text['text']!r}"
        for at, (text, case) in enumerate(zip(texts, ended, strict=True))
        if (why := wrong(kind, case))
    ]
    assert not faults, "\n".join(faults)
    counts = Counter(case["outcome"] for case in ended)
    assert counts["result"] >= CASES // 20, f"too few of the cases are valid: {counts}"
    tell(f"{kind}, seed {SEED}: {dict(counts)}")
