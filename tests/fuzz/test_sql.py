"""Random SQL, as queries and as triggers: each ends as a result or in one line, in its limits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import environment, limited
from tests.fuzz.cases import KEPT, SEED, SPARE_BYTES, Ended, Part, Tally, again, parts
from tests.fuzz.sql_cases import MEMORY, TIMEOUT_S

SPARE_S = 20.0
"""How much more time than its limit a case may take: for starting, and on a busy machine."""

ALLOWED = {
    "queries": {"result", "usage", "memory", "time", "size", "killed"},
    "triggers": {"result", "refused", "UsageError", "TriggerError", "TimeLimitError"},
}
_ENOUGH = 20
"""Cases among which some are valid."""

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


@pytest.mark.parametrize("part", parts("queries", "triggers"), ids=str)
def test_every_case_ends_within_its_limits(part: Part, record_property: Any) -> None:
    kind, cases = part.kind, part.end - part.first
    bounds = (str(SEED), str(part.first), str(part.end))
    done = subprocess.run(
        limited(
            "RLIMIT_DATA",
            LIMITS[kind] + 2 * 10**9,
            [sys.executable, "-m", "tests.fuzz.sql_cases", kind, *bounds],
        ),
        env=environment(ARROW_DEFAULT_MEMORY_POOL="system", MALLOC_ARENA_MAX="2"),
        capture_output=True,
        text=True,
        timeout=60 + cases * (TIMEOUT_S + SPARE_S),
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    texts, ended = lines[::2], lines[1::2]
    assert done.returncode == 0, f"{done.stderr[-2000:]}\nat seed {SEED}, {texts[-1:]}"
    assert len(ended) == cases
    tally = Tally(kind)
    for number, (text, case) in enumerate(zip(texts, ended, strict=True), part.first):
        how = Ended("result" if case["outcome"] == "result" else "line", case["outcome"])
        if why := wrong(kind, case):
            how = Ended("wrong", "wrong")
            KEPT.mkdir(exist_ok=True)
            kept = KEPT / f"{kind}-{SEED}-{number}.sql"
            kept.write_text(text["text"], errors="surrogatepass")
            tally.faults.append(f"{why}\n    {kept}\n    again: {again(kind, number)}")
        tally.add(number, how, case["seconds"], case["bytes"])
    tally.tell(record_property)
    if cases >= _ENOUGH:
        assert tally.ended["result"] >= cases // 20, f"too few are valid: {tally.reasons}"
