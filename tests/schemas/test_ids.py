"""Ids: golden values, so that lakes written by earlier versions keep theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.ids import ID_CHARS, Canonical, canonical, digest, uniform

PARTS: tuple[Canonical, ...] = ("log", 7, 0.1, True, None, ["ü", {"b": [], "a": -1}])
GOLDEN = "85b0aa2fd16b653a1bf3"


def test_canonical_bytes_are_sorted_compact_ascii_json() -> None:
    value: Canonical = {"b": [1, 2.5, None, True], "a": {"ü": "x", "z": ""}}
    assert canonical(value) == b'{"a":{"z":"","\\u00fc":"x"},"b":[1,2.5,null,true]}'
    assert json.loads(canonical(value)) == value


def test_equal_values_have_equal_bytes_whatever_their_order_and_sequence_type() -> None:
    assert canonical({"a": 1, "b": (1, 2)}) == canonical({"b": [1, 2], "a": 1})
    assert canonical(1) != canonical(1.0)
    assert canonical("1") != canonical(1)
    assert canonical([["a"], "b"]) != canonical(["a", ["b"]])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_json_cannot_represent_are_rejected(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": [value]})


def test_a_digest_has_its_golden_value_in_this_and_in_another_process() -> None:
    assert digest(*PARTS) == GOLDEN
    code = f"from schemas.ids import digest, uniform; print(digest(*{PARTS!r}), uniform('s', 'k'))"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == [GOLDEN, repr(uniform("s", "k"))]


def test_digests_are_distinct_hex_of_fixed_length() -> None:
    digests = {digest("log", k) for k in range(10_000)}
    assert len(digests) == 10_000
    assert {len(d) for d in digests} == {ID_CHARS}
    assert set("".join(digests)) == set("0123456789abcdef")
    assert digest("a", "b") != digest("ab") != digest(["a", "b"])


def test_uniform_is_uniform_over_keys_and_independent_between_salts() -> None:
    n = 20_000
    one = np.array([uniform("split", f"drive-{k}") for k in range(n)])
    two = np.array([uniform("tick", f"drive-{k}") for k in range(n)])
    assert one.min() >= 0.0
    assert one.max() < 1.0
    # Kolmogorov-Smirnov at 0.1 %: 1.95 / sqrt(n).
    deviation = np.abs(np.sort(one) - (np.arange(n) + 0.5) / n).max()
    assert deviation < 1.95 / np.sqrt(n)
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / np.sqrt(n)


def test_uniform_has_golden_values() -> None:
    assert uniform("split", "drive-1") == 0.22944715584007414
    assert uniform("", "") == 0.4304816492364817
