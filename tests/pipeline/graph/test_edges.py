"""The sizes of the elements on every edge of every job's graph."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import Coder
from apache_beam.coders.typecoders import registry
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.pvalue import PCollection

from jobs import cli
from pipeline.graph.execute import build
from synth import WRITERS
from tests.conftest import Fleetmill, Tell
from tests.weights import needed

LIMIT_BYTES = 100
FOLLOWING = "work on what follows"
JOBS = {"ingest", "sweep", "mine", "label", "repack", "corpus"}

_lock = threading.Lock()
_largest: dict[str, tuple[int, int]] = {}
"""By edge the number of elements and the size of the largest; the local runner uses threads."""


class Measure(beam.DoFn):
    """Encodes each element of an edge as a runner would."""

    def __init__(self, edge: str, coder: Coder) -> None:
        self._edge = edge
        self._coder = coder

    def process(self, element: Any) -> None:
        """Updates the number and the largest size."""
        size = len(self._coder.encode(element))
        with _lock:
            count, largest = _largest.get(self._edge, (0, 0))
            _largest[self._edge] = (count + 1, max(largest, size))


class Edges(PipelineVisitor):
    """Collects the output of every step of a graph, also within Beam's composite steps.

    Steps within a combine are left out, because runners replace them.
    """

    def __init__(self) -> None:
        self.found: dict[str, PCollection[Any]] = {}

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        """Collects the outputs of a step."""
        label = transform_node.full_label
        for tag, collection in transform_node.outputs.items():
            within_combine = "/CombinePerKey" in label.rpartition("/")[0]
            if isinstance(collection, PCollection) and not within_combine:
                self.found[f"{label}, {tag}" if tag else label] = collection


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[int, int]]]:
    """Measures the edges of every graph that this process runs."""

    def build_measured(root: beam.Pipeline, *arguments: Any, **named: Any) -> PCollection[str]:
        end = build(root, *arguments, **named)
        edges = Edges()
        root.visit(edges)
        for edge, collection in edges.found.items():
            _largest.setdefault(edge, (0, 0))
            coder = registry.get_coder(collection.element_type)
            collection | f"measure {edge}" >> beam.ParDo(Measure(edge, coder))
        return end

    monkeypatch.setattr("pipeline.graph.execute.build", build_measured)
    _largest.clear()
    yield _largest
    _largest.clear()


@pytest.mark.slow
def test_no_element_of_any_edge_is_large(
    measured: dict[str, tuple[int, int]],
    fleetmill: Fleetmill,
    tmp_path: Path,
    tell: Tell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every job, on logs of every format that synth writes."""
    monkeypatch.setenv("FLEETMILL_MODELS", str(needed()))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    lake = str(tmp_path / "lake")
    inputs = []
    for name in WRITERS:
        out = tmp_path / name
        small = ("--size", "64x48", "--cameras", "front", "--minutes", "0.1", "--drives", "1")
        assert fleetmill("synth", out, "--format", name, *small).code == 0
        inputs += ["--input", str(out)]

    def run(*arguments: str) -> None:
        assert cli.main([*arguments, "--lake", lake, "--json"]) == 0

    corpus = ("--corpus", "c", "--topology", "gpu-8")
    run("run", *inputs, "--sweep-fps", "1", "--label-fps", "1", *corpus)
    run("corpus", "d", "--topology", "gpu-8", "--payload", "frames")
    assert {edge.split(":")[0] for edge in measured} == JOBS
    lines = [f"{'elements':>8} {'largest':>8}  edge"]
    lines += [f"{count:8} {size:6} B  {edge}" for edge, (count, size) in measured.items()]
    tell("\n".join(lines))
    # Only a log of hundreds of megabytes has tasks that follow from others.
    for edge, (count, _) in measured.items():
        assert (count == 0) == (edge.endswith(", more") or FOLLOWING in edge), edge
    assert max(size for _, size in measured.values()) < LIMIT_BYTES
