"""Running a pipeline: the choice of runner, errors and metrics."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import Metrics
from apache_beam.options.pipeline_options import StandardOptions

from pipeline.graph.journal import Journal
from pipeline.graph.runner import is_driver, metrics, pipeline_options, run_to_end
from schemas.errors import CorruptError, FleetError, LakeError, UsageError


@pytest.mark.parametrize(
    ("arguments", "runner"),
    [
        ([], "FnApiRunner"),
        (["--direct_num_workers=1"], "FnApiRunner"),
        (["--runner=PrismRunner"], "PrismRunner"),
        (["--runner", "FlinkRunner"], "FlinkRunner"),
    ],
)
def test_the_local_default_gives_way_to_a_runner_that_is_named(
    arguments: list[str], runner: str
) -> None:
    options = pipeline_options(arguments)
    assert options.view_as(StandardOptions).runner == runner


def count(value: int) -> int:
    Metrics.counter("s", "values").inc()
    Metrics.distribution("s", "value").update(value)
    Metrics.counter("other", "values").inc()
    return value


def test_metrics_of_one_namespace_are_read(tmp_path: Path) -> None:
    root = beam.Pipeline(options=pipeline_options([]))
    root | beam.Create([1, 2, 6]) | beam.Map(count)
    result = run_to_end(root, Journal(str(tmp_path), "r"), "s")
    assert metrics(result, "s") == {
        "value": {"sum": 9, "count": 3, "min": 1, "max": 6},
        "values": 3,
    }
    assert is_driver()


@pytest.mark.parametrize("error", [LakeError("a pack is gone; label again"), CorruptError("torn")])
def test_an_error_of_ours_comes_back_as_its_class(tmp_path: Path, error: Exception) -> None:
    def fail(_value: int) -> None:
        raise error

    root = beam.Pipeline(options=pipeline_options([]))
    root | beam.Create([1]) | beam.Map(fail)
    with pytest.raises(type(error), match=str(error)):
        run_to_end(root, Journal(str(tmp_path), "r"), "s")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device", "/lake/a"), "No space left on device"),
        (PermissionError("local error\n  caused by: no room (os error 28)\n"), "os error 28"),
    ],
)
def test_an_error_of_the_environment_is_one_of_ours(
    tmp_path: Path, error: OSError, text: str
) -> None:
    """The second message has the form of delta-rs' messages."""

    def fail(_value: int) -> None:
        raise error

    root = beam.Pipeline(options=pipeline_options([]))
    root | beam.Create([1]) | beam.Map(fail)
    with pytest.raises(FleetError, match=text):
        run_to_end(root, Journal(str(tmp_path), "r"), "s")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ZeroDivisionError(), "ZeroDivisionError; "),
        (TypeError("odd"), "TypeError: odd; "),
    ],
)
def test_any_other_error_is_named_in_one_line(tmp_path: Path, error: Exception, text: str) -> None:
    def fail(_value: int) -> None:
        raise error

    root = beam.Pipeline(options=pipeline_options([]))
    root | beam.Create([1]) | beam.Map(fail)
    with pytest.raises(FleetError) as raised:
        run_to_end(root, Journal(str(tmp_path), "r"), "s")
    assert str(raised.value).startswith(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--runner=NoSuchRunner"], "NoSuchRunner"),
        (["--direct_num_workers=many"], "--direct_num_workers: invalid int value: 'many'"),
    ],
)
def test_an_option_that_beam_refuses_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="options of Beam, after --: ") as raised:
        pipeline_options(arguments)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().err == ""
