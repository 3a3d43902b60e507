"""Runs a Beam pipeline to its end: local options, metrics, and workers' errors."""

from __future__ import annotations

import builtins
import io
import logging
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineState, create_runner
from apache_beam.runners.worker import sdk_worker

from pipeline.graph.journal import Journal
from pipeline.graph.progress import OnProgress, watching
from schemas.errors import FleetError, UsageError, one_line

LOCAL_OPTIONS = (
    "--runner=FnApiRunner",
    "--direct_running_mode=multi_threading",
    "--direct_num_workers=0",
)
"""The local default: threads, one per core. Decoding, models and Parquet release the GIL."""

Metrics = dict[str, int | dict[str, float]]
"""By name: the value of a counter, or sum, count, min and max of a distribution."""

_running_here = threading.Event()

_RAISED = re.compile(
    r"^(?:\w+\.)*(?:RuntimeError: )?(\w+)(?:: ((?:.|\n(?=[ \t]))*?))?\s+\[while running '", re.M
)
"""A worker's error at the end of its traceback: class and message, which may be indented lines.
Beam makes a RuntimeError of one whose class takes other arguments than a message."""


def is_driver() -> bool:
    """Tells whether this process has started a pipeline, and so is no worker process."""
    return _running_here.is_set()


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Makes Beam's options; without a named runner, with those of LOCAL_OPTIONS.

    Raises:
        UsageError: a value is not one of its option, or there is no such runner.
    """
    named = any(a == "--runner" or a.startswith("--runner=") for a in arguments)
    given: list[str] = list(arguments) if named else [*LOCAL_OPTIONS, *arguments]
    options = PipelineOptions(given, save_main_session=False)
    said = io.StringIO()
    try:
        with redirect_stderr(said):  # argparse prints its usage, and ends the process
            options.get_all_options()
            create_runner(options.view_as(StandardOptions).runner)
    except SystemExit as error:
        line = one_line(said.getvalue()).rpartition("error: ")[2]
        raise UsageError(f"options of Beam, after --: {line}") from error
    except (ValueError, ImportError) as error:
        raise UsageError(f"options of Beam, after --: {one_line(error)}") from error
    return options


def run_to_end(
    root: beam.Pipeline,
    journal: Journal,
    job: str,
    on_progress: OnProgress = lambda _done, _following: None,
) -> PipelineResult:
    """Runs a pipeline and waits for its end.

    Args:
        root: the pipeline.
        journal: the run's journal, for the number of tasks that are done.
        job: its name, for messages.
        on_progress: called now and then with how far the run is.

    Raises:
        FleetError: the pipeline failed. A FleetError of a worker is raised as the same
            class, if the runner passes on its text, and any other error as a FleetError that
            names its class.
    """
    _running_here.set()
    with watching(journal, on_progress), _as_quiet_as_its_log():
        try:
            result = root.run()
            state = _wait(result)
        except RuntimeError as error:
            raised = _error_of_worker(str(error))
            if raised is None:
                raise
            raise raised from error
    if state not in {None, PipelineState.DONE}:
        raise FleetError(
            f"the {job} job ended as {state}; its runner's log says why. "
            "Nothing of it is visible: run the same command again"
        )
    return result


def metrics(result: PipelineResult, namespace: str) -> Metrics:
    """Reads the metrics of one namespace over all steps, without those of Beam and its runners."""
    found = result.metrics().query(MetricsFilter().with_namespace(namespace))
    counters: dict[str, int] = {}
    for counter in found["counters"]:
        name = counter.key.metric.name
        # Prism reports no result for a counter that was never incremented.
        counters[name] = counters.get(name, 0) + (counter.result or 0)
    distributions: dict[str, list[Any]] = {}
    for distribution in found["distributions"]:
        distributions.setdefault(distribution.key.metric.name, []).append(distribution.result)
    merged = {
        name: {
            "sum": sum(one.sum for one in seen),
            "count": sum(one.count for one in seen),
            "min": min(one.min for one in seen),
            "max": max(one.max for one in seen),
        }
        for name, seen in distributions.items()
    }
    return dict(sorted((counters | merged).items()))


@contextmanager
def _as_quiet_as_its_log() -> Iterator[None]:
    """Keeps Beam from printing a worker's traceback where its log is switched off.

    Its in-process worker prints each one to stderr beside logging it, and the error that
    the traceback ends in is reported by us.
    """
    if logging.getLogger("apache_beam").isEnabledFor(logging.ERROR):
        yield
        return
    module = vars(sdk_worker)
    module["print"] = lambda *_values, **_options: None
    try:
        yield
    finally:
        module.pop("print", None)


def _wait(result: PipelineResult) -> str | None:
    try:
        state: str | None = result.wait_until_finish()
    except Exception:
        raise
    except BaseException:  # this process was asked to stop
        result.cancel()
        raise
    return state


def _error_of_worker(text: str) -> FleetError | None:
    """Finds the error of a worker in the text of a runner's error.

    Runners pass on a worker's error as the text of its traceback, which names its class.
    """
    classes = {cls.__name__: cls for cls in _descendants(FleetError)}
    found = _RAISED.findall(text)
    for name, message in reversed(found):
        if name in classes:
            return classes[name](message)
        if issubclass(vars(builtins).get(name, object), OSError):
            return FleetError(f"{message}; run the same command again")
    if not found:
        return None
    name, message = found[-1]
    said = f"{name}: {message}" if message else name
    return FleetError(f"{said}; --debug shows where, which is worth a report")


def _descendants(cls: type[FleetError]) -> Iterable[type[FleetError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _descendants(child)
