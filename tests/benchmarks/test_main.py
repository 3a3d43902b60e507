"""The benchmark runner: what it runs, prints and returns."""

from __future__ import annotations

import importlib
import json
import math

import pytest

from benchmarks import Measure
from benchmarks.__main__ import WANTED, json_line, known_names, main

FIELDS = ["name", "ours", "peer", "peer_name", "ratio", "unit", "detail"]


@pytest.mark.parametrize("name", known_names())
def test_every_benchmark_has_a_measure_and_a_target(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert callable(module.measure)
    assert (module.__doc__ or "").strip()
    assert name in WANTED


def test_no_target_is_left_without_a_benchmark() -> None:
    assert set(WANTED) == set(known_names())


def test_a_benchmark_prints_one_json_line_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index_bytes"]) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    measure = json.loads(line)
    assert list(measure) == FIELDS
    assert measure["name"] == "index_bytes"
    assert measure["ours"] > 100
    assert math.isclose(measure["ratio"], measure["ours"] / measure["peer"], abs_tol=1e-3)
    assert "index_bytes" in err
    assert "wanted 500" in err


def test_an_unknown_name_lists_the_choices_and_the_known_ones_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["nosuch", "index_bytes", "another"]) == 2
    out, err = capsys.readouterr()
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["index_bytes"]
    first = err.splitlines()[0]
    assert "'another', 'nosuch'" in first
    assert f"choose one of: {', '.join(known_names())}" in first


def test_only_unknown_names_run_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nosuch"]) == 2
    assert capsys.readouterr().out == ""


def test_json_keeps_full_precision_but_for_the_ratio() -> None:
    measure = Measure("x", 1 / 3, 2.0, "peer", "s", lower_is_better=True)
    line = json.loads(json_line(measure))
    assert line["ours"] == 1 / 3
    assert line["ratio"] == 6.0
    assert line["detail"] == ""
